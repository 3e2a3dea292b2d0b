"""Rows that are leased together, and the outcome of each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Lease:
    """A row that this worker owns for a while."""

    record_id: str
    key: tuple[str, ...]
    version: int
    attempts: int  # including this one
    error: str | None  # the error that ended the last attempt


class Fate(Enum):
    """The end of a row's part in a batch."""

    DONE = "its chunks are those of its text"
    NO_TEXT = "it has no text, or was deleted; its chunks were deleted"
    LOST = "it was changed meanwhile, and stays in the queue, or its lease expired"
    FAILED = "it cannot be embedded"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a row; it has a reason if it FAILED."""

    fate: Fate
    reason: str = ""


DONE, NO_TEXT, LOST = Outcome(Fate.DONE), Outcome(Fate.NO_TEXT), Outcome(Fate.LOST)


def failures(reasons: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, Outcome]:
    """Return the outcomes of rows that cannot be embedded, by record id."""
    return {record_id: Outcome(Fate.FAILED, reason) for record_id, reason in dict(reasons).items()}


@dataclass(eq=False, slots=True)
class Batch:
    """Rows that are leased together. Each of them gets exactly one outcome."""

    token: UUID
    leases: dict[str, Lease]  # by record id
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def decide(self, outcomes: Mapping[str, Outcome]) -> None:
        """Set the outcomes of rows that have none yet."""
        if wrong := [each for each in outcomes if each in self.outcomes or each not in self.leases]:
            raise ValueError(f"{len(wrong)} rows were decided twice, or are not in this batch")
        self.outcomes.update(outcomes)

    @property
    def undecided(self) -> list[Lease]:
        """The rows without an outcome."""
        return [lease for record_id, lease in self.leases.items() if record_id not in self.outcomes]

    def ended_as(self, *fates: Fate) -> dict[Lease, Outcome]:
        """Return the rows that ended in one of these ways."""
        return {self.leases[record_id]: each for record_id, each in self.outcomes.items() if each.fate in fates}
