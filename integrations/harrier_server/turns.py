"""Who is next: requests of one caller wait for each other before they wait for anybody else's.

The model's engine runs documents in the order in which they came. A caller with a million of them would hold up all
others, so that few are given to the engine at once, and callers take turns.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from harrier_server.refusals import Refusal

# Parts of requests that the engine has at once: a caller's documents wait for no more than these before it is their
# turn, and the engine has its next pass ready.
AT_ONCE = 4

_SMALL = 64 * 2**10  # characters of a request that fits in where a larger one does not


class Turns:
    """A fair queue in front of the engine, for one event loop."""

    def __init__(self, at_once: int, most_waiting: int) -> None:
        """Let so many parts of requests in at once; refuse what comes while more characters than that wait."""
        self._free = at_once
        self._most_waiting = most_waiting
        self.waiting = 0  # characters of requests that are not answered yet, and bytes of those that arrive
        self._waiting_of: Counter[str] = Counter()  # those of each caller
        self._callers: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @contextmanager
    def admitted(self, characters: int, caller: str) -> Iterator[None]:
        """Count a request of a caller as waiting. Raise Refusal if too much waits already.

        A single request always fits. A caller has at most half of the limit beside others, or beside its own; and a
        small request of one that has nothing waiting fits in twice the limit, so that one caller shuts out nobody.
        """
        with self.arriving(caller) as count:
            count(characters)
            yield

    @contextmanager
    def arriving(self, caller: str) -> Iterator[Callable[[int], None]]:
        """Count a request of a caller as waiting while its body arrives: call what this yields with each part's bytes.

        It raises Refusal as `admitted` does. A client that is slow holds no more than what it has sent.
        """
        arrived = 0

        def count(size: int) -> None:
            nonlocal arrived
            if not self._fits(arrived + size, self.waiting - arrived, self._waiting_of[caller] - arrived):
                message = "too many texts wait to be encoded; try again later"
                raise Refusal(429, message, code="rate_limit_exceeded", headers={"Retry-After": "1"})
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
        """Whether a request of this size fits in beside all others, some of which are the caller's own."""
        if not beside:
            return True
        if own:
            return own + size <= self._most_waiting / 2 and beside + size <= self._most_waiting
        most = 2 * self._most_waiting if size <= _SMALL else self._most_waiting
        return beside + size <= most

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
