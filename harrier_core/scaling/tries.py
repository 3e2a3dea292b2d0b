"""Handle a block that kills the process that ingests it: halve it until the record to blame is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import Protocol

from harrier_core.records import Ingestible
from harrier_core.scaling.part import PartReport

_LIVES = 2  # tries of a whole block, and of a single record: something else may have been the reason

Part = Callable[[Sequence[Ingestible]], PartReport]  # an IngestPart, called with records only


class Step(Enum):
    """The next step for a block that was begun, but never finished."""

    RUN = "run"
    HALVE = "halve"
    GIVE_UP = "give up"


def next_step(size: int, begun: int, *, suspected: bool) -> Step:
    """Return the next step for a block of `size` records. suspected: it is part of a block that was halved."""
    if size == 1:
        return Step.RUN if begun < _LIVES else Step.GIVE_UP
    return Step.RUN if begun < (1 if suspected else _LIVES) else Step.HALVE


class Counting(Protocol):
    """A counter of tries that outlives the processes that try."""

    def begin(self, block: str) -> int:
        """Count a try of a block, and return how many unfinished tries there were before."""

    def done(self, block: str) -> None:
        """Forget a finished block."""


class Tries:
    """Counts tries, for the process that starts the others."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, block: str) -> int:
        """Count a try of a block, and return how many unfinished tries there were before."""
        self._begun[block] += 1
        return self._begun[block] - 1

    def done(self, block: str) -> None:
        """Forget a finished block."""
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
    """Ingest a block that is tried again whenever its process dies; give up on the record that kills it.

    block: its name, the same at every try. turn: if called with True, waits until the process does nothing else, so
    that no other block dies of this one. A block of n records, one of which kills, takes at most 2 log2(n) + 2
    processes.
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
    """Return the report of a record that is given up."""
    id_ = record["id"] if isinstance(record, dict) else getattr(record, "id", None)
    return PartReport.given_up(str(id_), f"crashed the process that worked on it, {deaths} times")
