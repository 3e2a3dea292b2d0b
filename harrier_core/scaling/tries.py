"""What to do with a block that kills the process that ingests it: halve it until the record is found that does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import Protocol

from harrier_core.records import Ingestible
from harrier_core.scaling.part import PartReport

_LIVES = 2  # of a whole block, and of a single record: something else may have been the reason

Part = Callable[[Sequence[Ingestible]], PartReport]  # an IngestPart, called with records only


class Step(Enum):
    """What to do with a block that was begun so often, and never finished."""

    RUN = "run"
    HALVE = "halve"
    GIVE_UP = "give up"


def next_step(size: int, begun: int, *, suspected: bool) -> Step:
    """Return what to do with a block of that many records. suspected: it is a part of one that was halved."""
    if size == 1:
        return Step.RUN if begun < _LIVES else Step.GIVE_UP
    return Step.RUN if begun < (1 if suspected else _LIVES) else Step.HALVE


class Counting(Protocol):
    """What counts tries, in a place that outlives the processes that try."""

    def begin(self, block: str) -> int:
        """Count a try of a block, and return how many there were before and were not finished."""

    def done(self, block: str) -> None:
        """Forget a block, which is finished."""


class Tries:
    """Counts tries, for the process that starts the others."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, block: str) -> int:
        """Count a try of a block, and return how many there were before and were not finished."""
        self._begun[block] += 1
        return self._begun[block] - 1

    def done(self, block: str) -> None:
        """Forget a block, which is finished."""
        del self._begun[block]


def carefully(
    part: Part,
    records: Sequence[Ingestible],
    block: str,
    tries: Counting,
    turn: Callable[[bool], AbstractContextManager[None]] = lambda _: nullcontext(),
    *,
    suspected: bool = False,
) -> PartReport:
    """Ingest a block that is tried again whenever its process dies; give up the record that kills it.

    block: a name that it has at every try. turn: waits for what else the process is at, if True, so that no
    other block dies of this one. A block of n records, one of which kills, takes 2 log2(n) + 2 processes at most.
    """
    begun = tries.begin(block)
    step = next_step(len(records), begun, suspected=suspected)
    if step is Step.RUN:
        with turn(suspected or begun > 0):
            report = part(records)
    elif step is Step.GIVE_UP:
        report = given_up(records[0], begun)
    else:
        middle = len(records) // 2
        halves = (records[:middle], f"{block}.0"), (records[middle:], f"{block}.1")
        one, other = (carefully(part, half, name, tries, turn, suspected=True) for half, name in halves)
        report = one + other
    if step is not Step.HALVE:
        tries.done(block)
    return report


def given_up(record: Ingestible, deaths: int) -> PartReport:
    """Return the report of a record that is left out."""
    id_ = record["id"] if isinstance(record, dict) else getattr(record, "id", None)
    return PartReport.given_up(str(id_), f"ended the process that worked on it, {deaths} times")
