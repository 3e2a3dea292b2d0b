"""A server process: uvicorn around the application, which ends when it is told to and not before it has answered."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING

import uvicorn

from harrier_server.state import State

if TYPE_CHECKING:
    from starlette.applications import Starlette

_BACKLOG = 2_048
_CONCURRENCY = 1_024  # connections and requests; what comes beyond them is told to come again


class _Server(uvicorn.Server):
    """Tells the application that it ends, and others where it listens."""

    def __init__(self, config: uvicorn.Config, state: State, listening: Callable[[str], None]) -> None:
        super().__init__(config)
        self._state = state
        self._listening = listening
        state.give_up = self._give_up

    def _give_up(self) -> None:
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End at SIGINT and SIGTERM as after a call; uvicorn would raise them again when all is done."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.servers:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._listening(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse what comes, and wait for what is under way."""
        if self._state.loaded is not None:
            self._state.loaded[1].turns.draining = True
        await super().shutdown(sockets)


def serve(app: Starlette, listening: Callable[[str], None]) -> bool:
    """Serve an application of `create_app` until SIGINT or SIGTERM comes; then answer what is under way, and return.

    listening: called with the address once the server listens. Return whether it could load the model; one that cannot
    ends by itself.
    """
    state: State = app.state.harrier
    settings = state.settings
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=ceil(settings.limits.drain),
        ws="none",
        proxy_headers=False,
        limit_concurrency=_CONCURRENCY,
    )
    _Server(config, state, listening).run()
    return state.failed is None
