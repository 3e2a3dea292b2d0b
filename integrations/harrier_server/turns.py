"""Who is next: requests of one caller wait for each other before they wait for anybody else's.

The model's engine runs documents in the order in which they came. A caller with a million of them would hold up all
others, so that few are given to the engine at once, and callers take turns.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from harrier_server.refusals import Refusal

_SMALL = 64 * 2**10  # characters of a request that fits in where a larger one does not


class Turns:
    """A fair queue in front of the engine, for one event loop."""

    def __init__(self, at_once: int, most_waiting: int) -> None:
        """Let so many parts of requests in at once; refuse what comes while more characters than that wait."""
        self._free = at_once
        self._most_waiting = most_waiting
        self.waiting = 0  # characters of requests that are not answered yet
        self._waiting_of: Counter[str] = Counter()  # those of each caller
        self.draining = False
        self._callers: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def admitted(self, characters: int, caller: str) -> AsyncIterator[None]:
        """Count a request of a caller as waiting. Raise Refusal if too much waits already.

        A single request always fits. A caller has at most half of the limit beside others, or beside its own; and a
        small request of one that has nothing waiting fits in twice the limit, so that one caller shuts out nobody.
        """
        if self.draining:
            raise Refusal(503, "the server is ending", code="unavailable", headers={"Retry-After": "5"})
        own = self._waiting_of[caller]
        if not self._fits(characters, own):
            message = "too many texts wait to be encoded; try again later"
            raise Refusal(429, message, code="rate_limit_exceeded", headers={"Retry-After": "1"})
        self.waiting += characters
        self._waiting_of[caller] = own + characters
        try:
            yield
        finally:
            self.waiting -= characters
            self._waiting_of[caller] -= characters
            if not self._waiting_of[caller]:
                del self._waiting_of[caller]

    def _fits(self, characters: int, own: int) -> bool:
        if not self.waiting:
            return True
        if own:
            return own + characters <= self._most_waiting / 2 and self.waiting + characters <= self._most_waiting
        most = 2 * self._most_waiting if characters <= _SMALL else self._most_waiting
        return self.waiting + characters <= most

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[None]:
        """Wait until a part of a caller's request may go in."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(caller)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, caller: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._callers.setdefault(caller, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # it was this one's, and somebody else may have it
            raise

    def _pass_on(self) -> None:
        """Give a turn to the caller whose last one is longest ago."""
        while self._callers:
            caller, turns = self._callers.popitem(last=False)
            while turns:
                turn = turns.popleft()
                if turn.done():  # its caller went away
                    continue
                if turns:
                    self._callers[caller] = turns  # behind all others
                turn.set_result(None)
                return
        self._free += 1
