"""The scheduler: which rows run in the next pass, and which texts are tokenized next. Pure: no model, thread or clock.

Queries overtake documents between passes, and small calls share a pass. A query does not wait for all the queries of a
call that came first: their owners share each pass, and each call of an owner has a row in it, if there is room. Calls
of documents run one after another. Callers of `Lanes` must hold a lock of their own, except for `Lanes.calls`.
"""

from __future__ import annotations

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

    shares: dict[Call, list[tuple[int, Row]]] = field(default_factory=dict)
    room: int = 0  # tokens that can be added

    @property
    def calls(self) -> list[Call]:
        """Return the calls that have rows in this pass."""
        return list(self.shares)

    @property
    def rows(self) -> list[Row]:
        """Return the rows of all calls, in the order in which `answer` expects their hidden states."""
        return [row for taken in self.shares.values() for _, row in taken]

    def begin(self, call: Call, limit: TokenLimit) -> None:
        """Make room, unless there are rows already."""
        if not self.shares:
            self.room = limit(call.token_budget)

    def add(self, call: Call, most: int | None = None) -> int:
        """Take as many of a call's rows as fit, of at most this many tokens, and return how many those have.

        The first call of a pass gives at least one row.
        """
        room = self.room if most is None else min(most, self.room)
        taken = call.take(room, even_if_too_long=not self.shares)
        tokens = sum(len(row.rest) for _, row in taken)
        if taken:
            self.room -= tokens
            self.shares.setdefault(call, []).extend(taken)
        return tokens

    def entry(self, position: int) -> tuple[Call, int, Row]:
        """Return the row at a position in `rows`, with its call and its number in that call."""
        entries = [(call, number, row) for call, taken in self.shares.items() for number, row in taken]
        return entries[position]

    def fail(self, error: BaseException) -> None:
        """Fail every call of this pass; being done, they are removed before the next one."""
        for call in self.calls:
            call.fail(error)

    def answer(self, hidden: Vectors) -> None:
        """Give each call the hidden states of its rows."""
        begin = 0
        for call, taken in self.shares.items():
            call.put([number for number, _ in taken], hidden[begin : begin + len(taken)])
            begin += len(taken)


class Lanes:
    """The waiting calls, queries and documents apart."""

    def __init__(self) -> None:
        self._queries: list[Call] = []  # replaced after each pass
        self._documents: list[Call] = []
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
        if not overtaking:
            self._documents = _run(pass_, self._documents, limit)
        self._queries = _share(pass_, self._queries, limit)
        if overtaking and not pass_.shares:  # queries would have to wait for any documents added to their pass
            self._documents = _run(pass_, self._documents, limit)
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


def _run(pass_: Pass, calls: Sequence[Call], limit: TokenLimit) -> list[Call]:
    """Add the rows of calls in their order, and return the calls that need another pass."""
    for call in (alive := _alive(calls)):
        pass_.begin(call, limit)
        pass_.add(call)
    return _unfinished(alive)


def _share(pass_: Pass, calls: Sequence[Call], limit: TokenLimit) -> list[Call]:
    """Add rows of as many calls as possible; return those that need another pass, in the order of their turns."""
    alive = _alive(calls)
    owners: dict[object, list[Call]] = {}
    for call in alive:
        if call.waiting:
            owners.setdefault(call.owner, []).append(call)
    if not owners:
        return _unfinished(alive)
    first, *_ = next(iter(owners.values()))
    pass_.begin(first, limit)
    share = pass_.room // len(owners)
    for own in owners.values():
        _give(pass_, own, share)
    for own in owners.values():
        _fill(pass_, own)
    served = {owner for owner, own in owners.items() if own[0] in pass_.shares}
    return sorted(_unfinished(alive), key=lambda call: (call.owner in served, call in pass_.shares))


def _give(pass_: Pass, calls: Sequence[Call], tokens: int) -> None:
    """Add a row of each call of an owner while these tokens last, and then more rows of the oldest calls.

    So an owner's calls do not all end at once.
    """
    for number, call in enumerate(calls):
        if not number or call.next_tokens <= tokens:
            tokens -= pass_.add(call, call.next_tokens)
        if tokens < 1:
            return
    for call in _by_age(calls):
        tokens -= pass_.add(call, tokens)


def _fill(pass_: Pass, calls: Sequence[Call]) -> None:
    """Add more rows of an owner's calls, the oldest first, if there is room."""
    if pass_.room < 1:
        return
    for call in _by_age(calls):
        if call.next_tokens <= pass_.room:
            pass_.add(call)


def _by_age(calls: Sequence[Call]) -> list[Call]:
    """Return the calls that have rows left, the oldest first."""
    return sorted((call for call in calls if call.waiting), key=lambda call: call.made)


def _alive(calls: Sequence[Call]) -> list[Call]:
    """Return the calls without those that were cancelled, or failed by an earlier pass."""
    return [call for call in calls if not call.future.done()]


def _unfinished(calls: Sequence[Call]) -> list[Call]:
    return [call for call in calls if call.waiting or not call.complete]
