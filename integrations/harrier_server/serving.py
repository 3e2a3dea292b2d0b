"""A server process: uvicorn running the application. It ends on request, after answering pending requests."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from math import ceil
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from harrier_server.connections import connections
from harrier_server.state import State

if TYPE_CHECKING:
    from starlette.applications import Starlette

log = logging.getLogger(__name__)

_BACKLOG = 2_048
TAKING = 5.0  # seconds for clients that were cut off to take the answers that say so
_M_ARENA_MAX, _ARENAS = -8, 2  # of glibc's mallopt
CONNECTIONS = 1_024  # beyond that number idle ones are closed, or clients are told to retry


class _Threads(ThreadPoolExecutor):
    """The threads of an event loop, which does not wait for them when it ends: one may wait for a database forever."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # the loop's
        """End the threads that are idle, and each of the others when it becomes idle."""
        super().shutdown(wait=False, cancel_futures=True)


class _Server(uvicorn.Server):
    """Tells the application when it ends, and reports where it listens."""

    def __init__(self, config: uvicorn.Config, state: State, listening: Callable[[str], None]) -> None:
        super().__init__(config)
        self._state = state
        self._listening = listening
        self._loop: asyncio.AbstractEventLoop | None = None
        state.give_up = self._give_up

    def _give_up(self) -> None:
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End at SIGINT and SIGTERM as if called; uvicorn would raise the signals again at the end."""
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
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(_Threads(thread_name_prefix="harrier-work"))
        await super().startup(sockets)
        if self.servers:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._listening(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; at a second SIGINT, at once."""
        super().handle_exit(sig, frame)
        if self.force_exit and self._loop is not None:
            self._loop.call_soon_threadsafe(self._state.under_way.cut_off)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new requests, and wait for pending ones, but not forever."""
        self._state.under_way.ending = True
        cutting = asyncio.ensure_future(self._cut_off(self._state.limits.drain))
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()

    async def _cut_off(self, seconds: float) -> None:
        """Cut off requests without an answer by then. uvicorn would send a bare 500, and log a traceback for each."""
        await asyncio.sleep(seconds)
        number = self._state.under_way.cut_off()
        if number:
            log.warning("requests that had no answer after %g seconds were cut off: %d", seconds, number)
        await asyncio.sleep(TAKING)
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def share_arenas() -> None:
    """Have the threads of this process share two of glibc's arenas, unless MALLOC_ARENA_MAX says otherwise.

    glibc gives each thread its own arena, up to eight for each core. Requests free memory on one thread that another
    one has allocated, and the memory that each arena retains adds up over hours. Call this before there are threads.
    """
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError):  # another C library, such as musl
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def _most_connections() -> int:
    """Return how many connections to keep: no more than half of the files that this process may open."""
    if sys.platform == "win32":
        return CONNECTIONS
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if files == resource.RLIM_INFINITY else min(CONNECTIONS, files // 2)


def serve(app: Starlette, listening: Callable[[str], None]) -> bool:
    """Serve an application from `create_app` until SIGINT or SIGTERM; then answer pending requests, and return.

    It does not wait for threads that are busy without a request: closing the indexes ends those that wait for a store.

    listening: called with the address once the server listens. Return whether it ended for a signal; it also ends if
    the model cannot be loaded, or its device fails for good.
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
        timeout_graceful_shutdown=ceil(settings.limits.drain + 2 * TAKING),  # none should be left by then
        http=connections(settings.limits.arrival, _most_connections()),
        ws="none",
        proxy_headers=False,
    )
    _Server(config, state, listening).run()
    return state.failed is None
