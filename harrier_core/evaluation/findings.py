"""The results of an evaluation: estimates, comparisons, slices, the floor and the provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harrier_core.errors import SettingError
from harrier_core.evaluation.floors import Floor
from harrier_core.evaluation.intervals import Estimate
from harrier_core.evaluation.question import Question
from harrier_core.evaluation.runs import Run
from harrier_core.evaluation.slices import Slice

if TYPE_CHECKING:
    from harrier_core.evaluation.metrics import Values


@dataclass(frozen=True, slots=True)
class Latency:
    """The time of single searches, in seconds, encoding included."""

    searches: int
    median: float
    slow: float  # the 95th percentile


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The results of one system. `result["ndcg@10"]` is an Estimate."""

    name: str
    settings: Mapping[str, Any]
    estimates: Mapping[str, Estimate]  # by metric
    values: Mapping[str, Values]  # by metric, one value per question
    run: Run
    judged: Mapping[int, float]  # the share of the first k results that were judged, by k
    failed: Mapping[str, str] = field(default_factory=dict)  # questions that could not be asked, and why
    truncated: int = 0  # questions that were cut
    empty: int = 0  # questions without any result
    latency: Latency | None = None

    def __getitem__(self, metric: str) -> Estimate:
        if metric not in self.estimates:
            raise SettingError(f"unknown metric {metric!r}; this report has {', '.join(self.estimates)}")
        return self.estimates[metric]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A system compared with the first one, question by question.

    The p-values are those of the deciding metric; `corrected` accounts for all systems together.
    """

    name: str
    metric: str  # the deciding one
    differences: Mapping[str, Estimate]  # by metric
    p: float
    corrected: float
    detectable: float  # a difference that would have been found with a probability of 0.8
    questions: int
    changed: int  # questions whose value differs
    overlap: float  # the share of its first results that are also among the first system's
    gained: Sequence[int] = ()  # the questions that gained most, by position
    lost: Sequence[int] = ()

    @property
    def difference(self) -> Estimate:
        """The difference in the deciding metric."""
        return self.differences[self.metric]

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below 0.05."""
        return self.corrected < 0.05


@dataclass(frozen=True, slots=True)
class Shown:
    """A result of one question, with its text."""

    record: str
    score: float
    grade: int | None  # None: not judged
    text: str | None


@dataclass(frozen=True, slots=True)
class Changed:
    """A question that gained or lost, with the first results of both systems."""

    position: int
    system: str
    before: float
    after: float
    first: Sequence[Shown]  # those of the first system
    second: Sequence[Shown]


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """All results of an evaluation. `report["ndcg@10"].mean`, `.low` and `.high` are those of the first system.

    metric: the deciding one. notes: remarks that a reader needs alongside the numbers. provenance: settings and
    digests.
    """

    questions: Sequence[Question]
    cutoffs: Sequence[int]
    metric: str
    headline: Sequence[str]
    results: Sequence[Result]
    comparisons: Sequence[Comparison]
    slices: Sequence[Slice]
    changed: Sequence[Changed]
    floor: Floor | None
    notes: Sequence[str]
    provenance: Mapping[str, Any]
    missing: Sequence[str] = ()  # records that answer questions but are not in the index

    def __getitem__(self, metric: str) -> Estimate:
        return self.results[0][metric]

    def result(self, name: str) -> Result:
        """Return the results of the system with this name."""
        for each in self.results:
            if each.name == name:
                return each
        raise SettingError(
            f"unknown system {name!r}; this report has {', '.join(repr(each.name) for each in self.results)}"
        )

    def comparison(self, name: str) -> Comparison:
        """Return the comparison of the system with this name."""
        for each in self.comparisons:
            if each.name == name:
                return each
        compared = ", ".join(repr(each.name) for each in self.comparisons) or "none"
        raise SettingError(f"{name!r} was not compared; this report compares {compared}")
