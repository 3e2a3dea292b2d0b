"""The threads of each served index, so that one whose database does not answer holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from harrier_core.errors import StoreUnavailable
from harrier_server.turns import Turns

T = TypeVar("T")

AT_ONCE, WAITING = 16, 1_024  # calls of one store that run, and further ones that wait
COSTLY, COSTLY_WAITING = 2, 64  # the same for those that take many searches, or look at every chunk


class IndexThreads:
    """The threads of one index."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="harrier-index")
        self._room = _Room(AT_ONCE + WAITING)
        self._costly = ThreadPoolExecutor(COSTLY, thread_name_prefix="harrier-costly")
        self._costly_room = _Room(COSTLY + COSTLY_WAITING)
        self._turns = Turns(COSTLY, 1)

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Return what the work returns. Raise StoreUnavailable if too much waits already."""
        self._room.take()
        running = _submit(self._pool, work, *args)
        running.add_done_callback(lambda _: self._room.give_back())  # its thread continues if the caller leaves
        return await asyncio.wrap_future(running)

    async def run_costly(self, caller: str, work: Callable[..., T], *args: Any) -> T:
        """Do the same for work that takes long, on a few other threads. Callers take turns."""
        self._costly_room.take()
        try:
            async with self._turns.turn(caller):
                return await asyncio.wrap_future(_submit(self._costly, work, *args))
        finally:
            self._costly_room.give_back()

    def close(self) -> None:
        """Let the threads end, once their work has."""
        for each in (self._pool, self._costly):
            each.shutdown(wait=False, cancel_futures=True)


def _submit(pool: ThreadPoolExecutor, work: Callable[..., T], *args: Any) -> Future[T]:
    return pool.submit(partial(copy_context().run, work, *args))


class _Room:
    """A number of calls, which threads give back."""

    def __init__(self, calls: int) -> None:
        self._left = calls
        self._lock = Lock()

    def take(self) -> None:
        with self._lock:
            if not self._left:
                raise StoreUnavailable("too many calls wait for the index's database; try again later")
            self._left -= 1

    def give_back(self) -> None:
        with self._lock:
            self._left += 1
