"""Connections with limits: for the headers of a request, the time that a client may take, and their number."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from harrier_server.bodies import dumped
from harrier_server.holding import DROP
from harrier_server.refusals import Refusal
from harrier_server.routes import answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

_INVALID = "Invalid HTTP request received."
_HEAD = 64 * 2**10  # bytes of a request line with its headers, or of anything else between two pieces of a body
_SPARE = 64  # connections beyond the limit, for probes, and for telling other clients to retry
_PROBES = ("/health", "/health/live", "/health/ready")


class _Flow(FlowControl):
    """uvicorn's flow control. Reading continues in a context of the connection, not in that of a request."""

    def __init__(self, transport: asyncio.Transport, context: Context) -> None:
        super().__init__(transport)
        self._context = context

    def resume_reading(self) -> None:
        """Continue; asyncio's own loop keeps the context for all later requests."""
        self._context.copy().run(super().resume_reading)


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which is closed if its client keeps it waiting.

    uvicorn itself waits for as long as a client likes: for the headers of a request that has begun, and for an answer
    to be taken. So a few clients could hold all connections that a server allows, and the memory of their answers. The
    time limit for the bodies of requests is applied where they are read.

    If there are too many connections, idle ones make room for new ones. uvicorn would refuse every request, even on
    connections that were there before.
    """

    beginning = 10.0  # seconds for headers
    patience: float  # seconds for an answer to be taken
    most: int  # connections

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._waiting: asyncio.TimerHandle | None = None
        self._is_paused = False  # the client does not read what was written
        self._is_beginning = False  # some headers are there
        self._is_whole = True  # no part of a request's body is missing
        self._room = _HEAD  # bytes that may arrive before the next piece of a body
        self._running: RequestResponseCycle | None = None  # the request whose answer is being made
        self.idle_since: float | None = None  # since when there is no request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for the first request."""
        super().connection_made(transport)
        self._context = copy_context()
        self.flow = _Flow(transport, self._context)
        if len(self.connections) > self.most:
            self._make_room()
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers, and tell the request that runs. uvicorn tells only the last one that arrived."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)
        self._stop_waiting()

    def data_received(self, data: bytes) -> None:
        """Parse requests, in HTTP/1.1 even if they offer another protocol, as the JDK's client offers HTTP/2.

        httptools takes such an offer as accepted: it drops the body of the request, or reads it as the next one. It
        also collects headers of any length.
        """
        self._unset_keepalive_if_required()
        while data and not self.transport.is_closing():
            part, data = (data[: self._room], data[self._room :]) if self._is_whole else (data, b"")
            self._room -= len(part)
            try:
                self.parser.feed_data(part)
            except httptools.HttpParserUpgrade as offer:
                data = self._declined() + part[offer.args[0] :] + data
                self._room = 2 * _HEAD  # the same headers again
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            except httptools.HttpParserError:
                self.logger.warning(_INVALID)
                self.send_400_response(_INVALID)
            if self._room <= 0 and not self.transport.is_closing():
                self._refuse_headers()

    def _declined(self) -> bytes:
        """Return the head of the request without its offer."""
        first = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        rest = [b"%b: %b\r\n" % each for each in self.headers if each[0] != b"upgrade"]
        return b"".join([first, *rest, b"\r\n"])

    def _refuse_headers(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # another answer is being written
            return
        refusal = Refusal(431, f"the headers have more than {_HEAD:,} bytes", code="headers_too_large")
        body = dumped(refusal.for_openai())
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[431] + head + body)
        self.transport.close()

    def on_message_begin(self) -> None:
        """Wait for headers, unless an answer is still being written."""
        super().on_message_begin()
        self.scope["extensions"] = {DROP: {"drop": self.drop}}
        self._is_beginning = True
        if self.idle_since is not None and not self._is_paused:
            self._wait_for_headers()

    def on_headers_complete(self) -> None:
        """Leave the request to the application."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("there is no tunnel")
            return  # it is parsed again
        self._room = _HEAD
        if self._is_paused:
            self.idle_since = None  # but the client still has to take an earlier answer
        else:
            self._stop_waiting()
        self._is_beginning = self._is_whole = False
        super().on_headers_complete()
        if not self.pipeline:
            self._running = self.cycle

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._room = _HEAD
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that from now on the client only has to take the answer."""
        if self.parser.should_upgrade():
            return
        self._room = _HEAD
        self._is_whole = True
        super().on_message_complete()
        if self._is_paused:
            self._wait(self.patience)

    def on_response_complete(self) -> None:
        """Wait for the answer to be taken, and for the next request."""
        if self.pipeline:
            self._running = self.pipeline[-1][0]
        self._context.run(super().on_response_complete)  # the next request is not part of this one
        if self.cycle.response_complete:  # otherwise there is another request already
            if self._is_beginning:
                self._wait_for_headers()
            else:
                self._wait(self.patience)
                self.idle_since = self.loop.time()

    def pause_writing(self) -> None:
        """Wait for a client that does not take the answer, unless it is that of an ingest and follows the records.

        Other answers begin after their request has been read, or do not need the rest of it.
        """
        super().pause_writing()
        self._is_paused = True
        if self._is_whole or self.pipeline or self.scope["method"] != "POST":
            self._wait(self.patience)

    def resume_writing(self) -> None:
        """Stop waiting, because the client took some of the answer."""
        super().resume_writing()
        self._is_paused = False
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def _wait_for_headers(self) -> None:
        self._wait(min(self.beginning, self.patience))
        self.idle_since = self.loop.time()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(seconds, self.transport.abort)

    def _stop_waiting(self) -> None:
        self.idle_since = None
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _make_room(self) -> None:
        """Close an idle connection, or else have this one's requests refused.

        The address with most of them loses the oldest one, or rather one that had no request so far.
        """
        idle = [each for each in self.connections if isinstance(each, Connection) and each.is_idle]
        if idle:
            of_address = Counter(each.address for each in idle)
            min(idle, key=lambda each: (-of_address[each.address], each.cycle is not None, each.idle_since or 0)).drop()
        elif len(self.connections) > self.most + _SPARE:
            self.drop()
        else:
            self.app = self._refusing(self.app)

    @property
    def is_idle(self) -> bool:
        """Whether it has neither a request nor an answer."""
        return self.idle_since is not None and not self.transport.get_write_buffer_size()

    @property
    def address(self) -> str:
        """The address of the client."""
        return self.client[0] if self.client else ""

    def drop(self) -> None:
        """Close it at once."""
        self._stop_waiting()
        self.transport.abort()

    def _refusing(self, app: ASGIApp) -> ASGIApp:
        """Return an application that refuses all but probes while there are too many connections."""

        async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] not in _PROBES and len(self.connections) > self.most:
                log.warning("a request was refused: there are %d connections", len(self.connections))
                refusal = Refusal(503, "the server has too many connections; try again later", code="unavailable")
                headers = {"Retry-After": "1", "Connection": "close"}
                await answer(refusal.for_openai(), 503, headers)(scope, receive, send)
            else:
                await app(scope, receive, send)

        return refuse


def connections(seconds: float, most: int) -> type[Connection]:
    """Return the class of connections with this time limit, of which there are at most this number."""
    return type("Connection", (Connection,), {"patience": seconds, "most": most})
