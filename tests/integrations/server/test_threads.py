"""The threads of an index whose database answers nothing for a while."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from harrier_server.metrics import Metrics
from harrier_server.naming import Role
from harrier_server.service import Service
from harrier_server.threads import AT_ONCE, COSTLY, LOOKING_UP, WAITING, IndexThreads
from harrier_server.turns import Turns

from harrier_core import CachedEncoder, Encoder
from harrier_core.callers import CALLER
from harrier_core.threads import THREADS

Run = Callable[..., Any]


class Held:
    """Work that waits for `go`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun: list[object] = []

    def __call__(self, *args: object) -> None:
        self.begun.append(args[0] if args else None)
        assert self.go.wait(60)


class Query:
    """What a call refers to."""


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.go.set()


async def leave(*tasks: asyncio.Future[Any]) -> None:
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def begin(work: Any) -> asyncio.Future[Any]:
    task: asyncio.Future[Any] = asyncio.ensure_future(work)
    for _ in range(3):
        await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("costly", [False, True])
def test_callers_who_leave(held: Held, costly: bool) -> None:
    """Their calls do not begin later, hold nothing, and take no room."""
    threads = IndexThreads()

    def run(work: Run, *args: Any) -> Any:
        return threads.run_costly("caller", work, *args) if costly else threads.run(work, *args)

    async def main() -> None:
        first = [asyncio.ensure_future(run(held)) for _ in range(COSTLY if costly else AT_ONCE)]
        while len(held.begun) < len(first):
            await asyncio.sleep(0.01)
        await leave(*first)
        left = []
        for _ in range(2 * WAITING):
            query = Query()
            left.append(weakref.ref(query))
            await leave(await begin(run(held, query)))
            del query
        gc.collect()
        assert sum(each() is not None for each in left) <= 1  # the event loop may still refer to the last one
        last = asyncio.ensure_future(run(len, "abc"))
        held.go.set()
        assert await last == 3

    asyncio.run(main())
    assert len(held.begun) == (COSTLY if costly else AT_ONCE)
    threads.close()


def test_a_turn_lasts_as_long_as_its_thread(held: Held) -> None:
    """If callers leave while their work runs, those who come later take turns all the same."""
    threads, order = IndexThreads(), list[str]()

    async def main() -> None:
        first = [asyncio.ensure_future(threads.run_costly("many", held)) for _ in range(COSTLY)]
        while len(held.begun) < COSTLY:
            await asyncio.sleep(0.01)
        await leave(*first)
        later = [await begin(threads.run_costly("many", order.append, "many")) for _ in range(20)]
        later.append(await begin(threads.run_costly("one", order.append, "one")))
        held.go.set()
        await asyncio.gather(*later)

    asyncio.run(main())
    assert order.index("one") <= 2 * COSTLY
    threads.close()


def test_searches_take_turns(held: Held) -> None:
    threads, order = IndexThreads(), list[str]()

    async def main() -> None:
        def named(caller: str) -> asyncio.Future[None]:
            CALLER.set(caller)  # tasks inherit it
            return asyncio.ensure_future(threads.run(order.append, caller))

        first = [asyncio.ensure_future(threads.run(held)) for _ in range(AT_ONCE)]
        later = [named("many") for _ in range(300)] + [named("one")]
        while len(held.begun) < AT_ONCE:
            await asyncio.sleep(0.01)
        held.go.set()
        await asyncio.gather(*first, *later)

    asyncio.run(main())
    assert order.index("one") <= 4 * AT_ONCE
    threads.close()


class Cache:
    """A cache that answers nothing while it is held."""

    def __init__(self, held: Held) -> None:
        self._held = held

    def mget(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        self._held()
        return [None] * len(keys)

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        pass


def test_a_cache_that_does_not_answer(encoder: Encoder, held: Held) -> None:
    """It holds up no other index, and texts of callers who leave are not looked up later."""
    free = Held()
    free.go.set()
    sick, well = IndexThreads(), IndexThreads()

    async def main() -> None:
        service = Service(encoder, Encoder(**encoder.settings), Turns(4, 1_000_000), Metrics())

        def asked(threads: IndexThreads, held: Held) -> asyncio.Future[Any]:
            THREADS.set(threads)
            return asyncio.ensure_future(service.encoded(["a"], Role("query"), CachedEncoder(encoder, Cache(held))))

        waiting = [asked(sick, held) for _ in range(100)]
        while len(held.begun) < LOOKING_UP:
            await asyncio.sleep(0.01)
        assert len((await asyncio.wait_for(asked(well, free), 30)).vectors) == 1
        await leave(*waiting)
        held.go.set()
        assert len((await asked(sick, held)).vectors) == 1
        assert len(held.begun) == LOOKING_UP + 1
        service.close()

    asyncio.run(main())
    for each in (sick, well):
        each.close()
