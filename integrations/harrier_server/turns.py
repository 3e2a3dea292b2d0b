"""Turn-taking between callers: requests of one caller wait for each other before they wait for anyone else's.

The model's engine runs documents in the order in which they arrived. A caller with a million of them would delay all
others, so the engine gets only a few at once, and callers take turns.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from math import ceil
from typing import NamedTuple

from harrier_server.refusals import Refusal

# Whole parts of requests that the engine has at once, or as many smaller ones as amount to the same work: a caller's
# documents wait for no more than these before it is their turn, and the engine can fill its passes.
AT_ONCE = 4
_WHOLE = 1_000  # the units into which a whole part is divided

_WAITING = "too many texts are waiting to be encoded; try again later"
_SMALL = 64 * 2**10  # characters of a request that is admitted where a larger one is not


class Turns:
    """A fair queue in front of the engine, for one event loop."""

    def __init__(self, at_once: int, most_waiting: int, refusal: str = _WAITING) -> None:
        """Admit `at_once` parts of requests; refuse new requests while more than `most_waiting` characters wait."""
        self._refusal = refusal
        self._all = self._free = at_once * _WHOLE
        self._most_waiting = most_waiting
        self.waiting = 0  # characters of unanswered requests, and bytes of those that are arriving
        self._waiting_of: Counter[str] = Counter()  # those of each caller
        self._callers: OrderedDict[str, deque[_Turn]] = OrderedDict()

    @contextmanager
    def admitted(self, characters: int, caller: str) -> Iterator[None]:
        """Count a caller's request as waiting. Raise Refusal if too much waits already.

        A single request always fits. A caller with other requests waiting gets at most half of the limit; a small
        request of a caller without any fits into twice the limit, so that one caller cannot shut out others.
        """
        with self.arriving(caller) as count:
            count(characters)
            yield

    @contextmanager
    def arriving(self, caller: str) -> Iterator[Callable[[int], None]]:
        """Count a caller's request as waiting while its body arrives: call the yielded function with each part's bytes.

        It raises Refusal as `admitted` does. A slow client occupies no more than what it has sent.
        """
        arrived = 0

        def count(size: int) -> None:
            nonlocal arrived
            if not self._fits(arrived + size, self.waiting - arrived, self._waiting_of[caller] - arrived):
                raise Refusal(429, self._refusal, code="rate_limit_exceeded", headers={"Retry-After": "1"})
            arrived += size
            self.waiting += size
            self._waiting_of[caller] += size

        try:
            yield count
        finally:
            self.waiting -= arrived
            self._waiting_of[caller] -= arrived
            if not self._waiting_of[caller]:
                del self._waiting_of[caller]

    def _fits(self, size: int, beside: int, own: int) -> bool:
        """Return whether a request of this size fits next to all others, of which some are the caller's own."""
        if not beside:
            return True
        if own:
            return own + size <= self._most_waiting / 2 and beside + size <= self._most_waiting
        most = 2 * self._most_waiting if size <= _SMALL else self._most_waiting
        return beside + size <= most

    @asynccontextmanager
    async def turn(self, caller: str, share: float = 1.0) -> AsyncIterator[None]:
        """Wait until a part of a caller's request may go in. share: how much work it is, relative to a whole part."""
        give_back = await self.take(caller, share)
        try:
            yield
        finally:
            give_back()

    async def take(self, caller: str, share: float = 1.0) -> Callable[[], None]:
        """Wait as in `turn`, and return the function that ends the turn, for work that its caller may leave."""
        own = min(ceil(share * _WHOLE), self._all)
        if not self._callers and own <= self._free:
            self._free -= own
        else:
            await self._wait(caller, own)
        return partial(self._give_back, own)

    async def _wait(self, caller: str, own: int) -> None:
        turn = _Turn(own, asyncio.get_running_loop().create_future())
        self._callers.setdefault(caller, deque()).append(turn)
        try:
            await turn.come
        except asyncio.CancelledError:
            if turn.come.done() and not turn.come.cancelled():
                self._give_back(own)  # it was this caller's, and others may have it
            else:
                self._drop(caller, turn)
                self._let_in()  # others may have waited for it to go in first
            raise

    def _drop(self, caller: str, turn: _Turn) -> None:
        """Remove a turn whose caller left: those behind it may have to wait for long."""
        turns = self._callers.get(caller, deque())
        if turn in turns:
            turns.remove(turn)
            if not turns:
                del self._callers[caller]

    def _give_back(self, own: int) -> None:
        self._free += own
        self._let_in()

    def _let_in(self) -> None:
        """Give turns to the callers who have waited longest; no one overtakes a caller who lacks room."""
        while self._callers:
            caller, turns = next(iter(self._callers.items()))
            while turns and turns[0].come.done():  # its caller went away
                turns.popleft()
            if turns:
                if turns[0].own > self._free:
                    return
                turn = turns.popleft()
                self._free -= turn.own
                turn.come.set_result(None)
            del self._callers[caller]
            if turns:
                self._callers[caller] = turns  # after all others


class _Turn(NamedTuple):
    own: int  # thousandths of a part
    come: asyncio.Future[None]
