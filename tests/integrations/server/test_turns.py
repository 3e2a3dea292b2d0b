"""Callers take turns, whoever has how much to do."""

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
    """A caller with a hundred parts does not hold up one with two, nor does the order of their coming."""

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


def test_as_many_at_once() -> None:
    """And no more."""

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
    """As many go in as are as much work; a large one waits for room, and nobody goes before it meanwhile."""

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


def test_callers_that_go_away() -> None:
    """Their turns are others', whenever they go."""

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


def test_too_much_waits() -> None:
    """A caller has at most half of what may wait, unless it is alone; a small request of another one still fits."""
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


def test_what_arrives_waits_as_well() -> None:
    """As much of it as has come, under the same rules; what does not come any more is given back."""
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
