"""Callers take turns, whoever has how much to do."""

from __future__ import annotations

import asyncio

import pytest
from harrier_server.refusals import Refusal
from harrier_server.turns import Turns


async def part(turns: Turns, caller: str, done: list[str]) -> None:
    async with turns.turn(caller):
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
        async with turns.turn("last"):
            done.append("last")
        return done

    assert asyncio.run(main()) == ["c", "a", "last"]


def test_too_much_waits() -> None:
    """A caller has at most half of what may wait, unless it is alone; a small request of another one still fits."""
    small, most = 1_000, 1_000_000

    async def main() -> None:
        turns = Turns(1, most)

        async def refused(characters: int, caller: str) -> None:
            with pytest.raises(Refusal) as caught:
                async with turns.admitted(characters, caller):
                    pass
            assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})

        async with turns.admitted(10 * most, "a"):
            await refused(1, "a")
            await refused(1, "b")
        async with turns.admitted(most // 2, "a"):
            await refused(1, "a")
            async with turns.admitted(most // 2, "b"):
                assert turns.waiting == most
                await refused(100_000, "c")
                async with turns.admitted(small, "c"):
                    await refused(small, "c")
        assert turns.waiting == 0
        turns.draining = True
        with pytest.raises(Refusal) as caught:
            async with turns.admitted(1, "a"):
                pass
        assert caught.value.status == 503

    asyncio.run(main())
