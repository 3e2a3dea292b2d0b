"""The scheduler: which rows run in the next pass, and which texts are tokenized next. Pure: no model, thread or clock.

Queries overtake documents between passes, and small calls share a pass. Callers of `Lanes` must hold a lock of their
own, except for `Lanes.calls`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from harrier_core.calls import Call
from harrier_core.token_rows import Row

if TYPE_CHECKING:
    from harrier_core.types import Vectors

# Consecutive passes of queries while documents wait: queries overtake documents, but do not starve them.
_PATIENCE = 8

# How many passes' worth of tokenized rows may wait, plus one window: enough that no pass waits for the tokenizer.
_AHEAD = 4

TokenLimit = Callable[[int | None], int]  # the limit of a pass, given the token budget that its first call asked for


@dataclass(slots=True)
class Pass:
    """The rows of one forward pass: what each of its calls contributes, as row numbers and rows."""

    shares: list[tuple[Call, list[tuple[int, Row]]]] = field(default_factory=list)
    room: int = 0  # tokens that can be added

    @property
    def calls(self) -> list[Call]:
        """Return the calls that have rows in this pass."""
        return [call for call, _ in self.shares]

    @property
    def rows(self) -> list[Row]:
        """Return the rows of all calls, in the order in which `answer` expects their hidden states."""
        return [row for _, taken in self.shares for _, row in taken]

    def add(self, call: Call, limit: TokenLimit) -> None:
        """Take as many of a call's rows as fit; the first call of a pass gives at least one."""
        if not self.shares:
            self.room = limit(call.token_budget)
        taken = call.take(self.room, even_if_too_long=not self.shares)
        if taken:
            self.room -= sum(len(row.rest) for _, row in taken)
            self.shares.append((call, taken))

    def entry(self, position: int) -> tuple[Call, int, Row]:
        """Return the row at a position in `rows`, with its call and its number in that call."""
        entries = [(call, number, row) for call, taken in self.shares for number, row in taken]
        return entries[position]

    def fail(self, error: BaseException) -> None:
        """Fail every call of this pass; being done, they are removed before the next one."""
        for call in self.calls:
            call.fail(error)

    def answer(self, hidden: Vectors) -> None:
        """Give each call the hidden states of its rows."""
        begin = 0
        for call, taken in self.shares:
            call.put([number for number, _ in taken], hidden[begin : begin + len(taken)])
            begin += len(taken)


class Lanes:
    """The waiting calls, queries and documents apart."""

    def __init__(self) -> None:
        self._queries: deque[Call] = deque()
        self._documents: deque[Call] = deque()
        self._overtaken = 0  # consecutive passes of queries for which documents waited

    @property
    def calls(self) -> list[Call]:
        """Return all waiting calls. Each lane is copied atomically, so no lock is needed."""
        return [*self._queries, *self._documents]

    def has_work(self) -> bool:
        """Return whether there are rows to run, or calls to remove."""
        return any(call.waiting or call.future.done() for call in chain(self._queries, self._documents))

    def add(self, call: Call) -> None:
        """Append a call to its lane."""
        (self._queries if call.urgent else self._documents).append(call)

    def next_pass(self, limit: TokenLimit) -> Pass | None:
        """Return the next pass, or None if no rows wait, and remove the calls that need no other pass."""
        overtaking = self._decide_overtaking()
        pass_ = Pass()
        for lane in (self._queries, self._documents) if overtaking else (self._documents, self._queries):
            for call in list(lane):
                if call.future.done():  # cancelled, or failed by an earlier pass
                    lane.remove(call)
                    continue
                pass_.add(call, limit)
                if call.complete and not call.waiting:
                    lane.remove(call)
            if pass_.shares and overtaking:
                break  # queries would have to wait for any documents added to their pass
        return pass_ if pass_.shares else None

    def _decide_overtaking(self) -> bool:
        """Return whether the next pass is one of queries, and count consecutive ones for which documents wait."""
        queries = any(call.waiting for call in self._queries)
        documents = any(call.waiting for call in self._documents)
        overtaking = queries and (not documents or self._overtaken < _PATIENCE)
        self._overtaken = self._overtaken + 1 if overtaking and documents else 0
        return overtaking

    def begin_fetches(self, limit: TokenLimit) -> list[Call]:
        """Return the calls that will soon have no rows left, and mark them as being fetched."""
        starving = [call for call in self.calls if _needs_rows(call, limit)]
        for call in starving:
            call.fetching = True
        return starving

    def end_fetch(self, call: Call, rows: Sequence[Row]) -> None:
        """Add the rows of the window that was fetched for a call."""
        call.add(rows)
        call.fetching = False


def _needs_rows(call: Call, limit: TokenLimit) -> bool:
    if call.complete or call.fetching or call.future.done():
        return False
    return call.waiting_tokens < _AHEAD * limit(call.token_budget)
