"""The threads of each served index, so that one whose database does not answer holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from harrier_core.callers import CALLER
from harrier_core.errors import StoreUnavailable
from harrier_server.turns import Turns

T = TypeVar("T")

AT_ONCE, WAITING = 16, 1_024  # calls of one store that run, and further ones that wait
COSTLY, COSTLY_WAITING = 2, 64  # the same for those that take many searches, or look at every chunk
LOOKING_UP = 8  # calls of the cache of its encoder that run; as many wait as of its store


class IndexThreads:
    """The threads of one index, for one event loop."""

    def __init__(self) -> None:
        self._pool = _Pool(AT_ONCE, WAITING, "harrier-index")
        self._costly = _Pool(COSTLY, COSTLY_WAITING, "harrier-costly")
        self._looking_up = _Pool(LOOKING_UP, WAITING, "harrier-look-up")

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Return what the work returns. Callers take turns. Raise StoreUnavailable if too much waits already."""
        return await asyncio.shield(await self._pool.begin(str(CALLER.get()), work, *args))

    async def run_costly(self, caller: str, work: Callable[..., T], *args: Any) -> T:
        """Do the same for work that takes long, on a few other threads."""
        return await asyncio.shield(await self._costly.begin(caller, work, *args))

    async def begin_to_look_up(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Wait for a thread that looks into a cache; return the future of what the work returns there."""
        return await self._looking_up.begin(str(CALLER.get()), work)

    def close(self) -> None:
        """Let the threads end, once their work has."""
        for each in (self._pool, self._costly, self._looking_up):
            each.close()


class _Pool:
    """Threads for which callers take turns.

    Work waits for its turn on the event loop. An executor would keep that of callers who have left, with everything
    that it refers to, until a thread is free.
    """

    def __init__(self, threads: int, waiting: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._turns = Turns(threads, 1)
        self._room = threads + waiting

    async def begin(self, caller: str, work: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Wait for the caller's turn, begin, and return the future. The turn ends when the thread's work does.

        Raise StoreUnavailable if too much waits already.
        """
        if not self._room:
            raise StoreUnavailable("too many calls wait for the index's database; try again later")
        self._room -= 1
        try:
            give_back = await self._turns.take(caller)
        except BaseException:
            self._room += 1
            raise

        def end(_: object) -> None:
            self._room += 1
            give_back()

        try:
            running = self._executor.submit(partial(copy_context().run, work, *args))
        except RuntimeError:  # it is closed
            end(None)
            raise
        ended = asyncio.wrap_future(running)
        ended.add_done_callback(end)
        return ended

    def close(self) -> None:
        """Let the threads end, once their work has."""
        self._executor.shutdown(wait=False, cancel_futures=True)
