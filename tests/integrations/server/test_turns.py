"""Callers take turns, however much each has to do."""

from __future__ import annotations

import asyncio

import pytest
from harrier_server.refusals import Refusal
from harrier_server.turns import Turns


async def part(turns: Turns, caller: str, done: list[str], share: float = 1.0) -> None:
    async with turns.turn(caller, share):
        await asyncio.sleep(0)
        done.append(caller)


def test_one_after_the_other() -> None:
    """A caller with many parts does not delay one with few, in any order."""

    async def main() -> list[str]:
        turns = Turns(1, 1_000)
        done: list[str] = []
        many = [asyncio.ensure_future(part(turns, "many", done)) for _ in range(100)]
        await asyncio.sleep(0)
        few = [asyncio.ensure_future(part(turns, name, done)) for name in ("few", "few", "other")]
        await asyncio.gather(*many, *few)
        return done

    done = asyncio.run(main())
    assert len(done) == 103
    assert {"few", "other"} <= set(done[:8])
    assert done[:12].count("few") == 2


def test_the_limit_of_concurrent_parts() -> None:
    """No more than the limit run at once."""

    async def main() -> int:
        turns, running, most = Turns(3, 1_000), 0, 0

        async def work() -> None:
            nonlocal running, most
            async with turns.turn("a"):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.001)
                running -= 1

        await asyncio.gather(*(work() for _ in range(20)))
        return most

    assert asyncio.run(main()) == 3


def test_small_parts_share_the_place_of_a_whole_one() -> None:
    """Parts run together up to the capacity; a large one waits, and none overtakes it."""

    async def main() -> tuple[int, list[str]]:
        turns, running, most = Turns(2, 1_000), 0, 0
        order: list[str] = []

        async def work(name: str, share: float) -> None:
            nonlocal running, most
            async with turns.turn(name, share):
                order.append(name)
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.001)
                running -= 1

        small = [asyncio.ensure_future(work(f"small {number}", 0.1)) for number in range(30)]
        await asyncio.sleep(0)
        large = asyncio.ensure_future(work("large", 50))
        later = [asyncio.ensure_future(work("later", 0.001)) for _ in range(5)]
        await asyncio.gather(*small, large, *later)
        return most, order

    most, order = asyncio.run(main())
    assert most == 20
    assert order[30] == "large"
    assert order[31:] == ["later"] * 5


def test_callers_that_leave() -> None:
    """Their turns go to others, whenever they leave."""

    async def main() -> list[str]:
        turns = Turns(1, 1_000)
        done: list[str] = []
        async with turns.turn("first"):
            waiting = [asyncio.ensure_future(part(turns, name, done)) for name in ("a", "b", "a", "c")]
            await asyncio.sleep(0)
            waiting[1].cancel()
            await asyncio.sleep(0)
        waiting[0].cancel()  # its turn has come, and it has not begun
        await asyncio.gather(*waiting, return_exceptions=True)
        async with turns.turn("first", 0.5):
            large = asyncio.ensure_future(part(turns, "large", done))
            await asyncio.sleep(0)
            small = asyncio.ensure_future(part(turns, "small", done, 0.5))
            await asyncio.sleep(0)
            large.cancel()  # for which the other one waited
            await small
        async with turns.turn("last"):
            done.append("last")
        return done

    assert asyncio.run(main()) == ["c", "a", "small", "last"]


MOST = 1_000_000


def refused(turns: Turns, characters: int, caller: str) -> None:
    with pytest.raises(Refusal) as caught, turns.admitted(characters, caller):
        pass
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})


def test_the_limit_of_waiting_work() -> None:
    """A caller may use half of the queue, unless it is alone, so small requests of others fit."""
    small = 1_000
    turns = Turns(1, MOST)
    with turns.admitted(10 * MOST, "a"):
        refused(turns, 1, "a")
        refused(turns, 1, "b")
    with turns.admitted(MOST // 2, "a"):
        refused(turns, 1, "a")
        with turns.admitted(MOST // 2, "b"):
            assert turns.waiting == MOST
            refused(turns, 100_000, "c")
            with turns.admitted(small, "c"):
                refused(turns, small, "c")
    assert turns.waiting == 0


def test_arriving_bodies_count_as_waiting() -> None:
    """Received bytes count under the same rules, and are released if the rest does not arrive."""
    turns = Turns(1, MOST)
    with turns.arriving("a") as count:
        for _ in range(20):  # a single one always fits
            count(MOST // 10)
        refused(turns, 1, "b")
    with turns.arriving("a") as first, turns.arriving("a") as second:
        first(MOST // 4)
        second(MOST // 4)
        with pytest.raises(Refusal):
            second(1)
        assert turns.waiting == MOST // 2
        with turns.arriving("b") as other:
            other(MOST // 2)
            with pytest.raises(Refusal):
                other(1)
    assert turns.waiting == 0
