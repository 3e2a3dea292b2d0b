"""Connections with time limits: for a request to complete its headers, and for its answer to be taken."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_INVALID = "Invalid HTTP request received."


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which is closed if its client keeps it waiting.

    uvicorn itself waits for as long as a client likes: for the headers of a request that has begun, and for an answer
    to be taken. So a few clients could hold all connections that a server allows, and the memory of their answers. The
    time limit for the bodies of requests is applied where they are read.
    """

    patience: float  # seconds

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._waiting: asyncio.TimerHandle | None = None
        self._is_paused = False  # the client does not read what was written
        self._is_whole = False  # the request is complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        super().connection_lost(exc)
        self._stop_waiting()

    def data_received(self, data: bytes) -> None:
        """Parse requests, in HTTP/1.1 even if they offer another protocol, as the JDK's client offers HTTP/2.

        httptools takes such an offer as accepted: it drops the body of the request, or reads it as the next one.
        """
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = self._declined() + data[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            except httptools.HttpParserError:
                self.logger.warning(_INVALID)
                self.send_400_response(_INVALID)
                return
            else:
                return

    def _declined(self) -> bytes:
        """Return the head of the request without its offer."""
        first = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        rest = [b"%b: %b\r\n" % each for each in self.headers if each[0] != b"upgrade"]
        return b"".join([first, *rest, b"\r\n"])

    def on_headers_complete(self) -> None:
        """Leave the request to the application."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("there is no tunnel")
            return  # it is parsed again
        self._stop_waiting()
        self._is_whole = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that from now on the client only has to take the answer."""
        if self.parser.should_upgrade():
            return
        self._is_whole = True
        super().on_message_complete()
        if self._is_paused:
            self._wait()

    def on_response_complete(self) -> None:
        """Wait for the answer to be taken, and for the next request."""
        super().on_response_complete()
        if self.cycle.response_complete:  # otherwise there is another request already
            self._wait()

    def pause_writing(self) -> None:
        """Wait for a client that does not take the answer, unless it is still sending its request."""
        super().pause_writing()
        self._is_paused = True
        if self._is_whole:
            self._wait()

    def resume_writing(self) -> None:
        """Stop waiting, because the client took some of the answer."""
        super().resume_writing()
        self._is_paused = False
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def _wait(self) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(self.patience, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


def connections(seconds: float) -> type[Connection]:
    """Return the class of connections with this time limit."""
    return type("Connection", (Connection,), {"patience": seconds})
