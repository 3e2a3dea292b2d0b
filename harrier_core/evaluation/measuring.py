"""Compute the numbers of a report from the runs of its systems: estimates, comparisons, slices. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harrier_core.evaluation.findings import Comparison
from harrier_core.evaluation.intervals import Estimate, Groups, Sample
from harrier_core.evaluation.metrics import JUDGED, Values, graded, measured, middle_of, overlap
from harrier_core.evaluation.question import Question
from harrier_core.evaluation.runs import Run
from harrier_core.evaluation.significance import detectable, holm, probabilities
from harrier_core.evaluation.slices import Slice, parts

if TYPE_CHECKING:
    from harrier_core.evaluation.intervals import Matrix

_SHOWN = 5  # questions that gained most, and as many that lost most
_SLICE_DRAWS = 2_000


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The values of all systems for all questions; the first system is the one that others are compared with."""

    questions: Sequence[Question]
    runs: Sequence[Run]
    cutoffs: Sequence[int]
    metric: str
    seed: int
    values: Sequence[Mapping[str, Values]]  # one mapping per system, by metric
    judged: Sequence[Mapping[int, float]]
    sample: Sample  # the values of all systems side by side

    @classmethod
    def of(
        cls, questions: Sequence[Question], runs: Sequence[Run], cutoffs: Sequence[int], metric: str, seed: int
    ) -> Measured:
        """Measure runs."""
        every = [measured(graded(questions, run, cutoffs[-1]), cutoffs) for run in runs]
        values = [{name: own for name, own in each.items() if not name.startswith(JUDGED)} for each in every]
        judged = [{k: float(each[f"{JUDGED}@{k}"].mean()) for k in cutoffs} for each in every]
        columns = np.stack([own for each in values for own in each.values()], axis=1)
        sample = Sample.of(columns, groups_of(questions), seed=seed)
        return cls(questions, runs, cutoffs, metric, seed, values, judged, sample)

    @property
    def groups(self) -> Groups:
        """The groups of questions that resemble each other."""
        return self.sample.groups

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics."""
        return list(self.values[0])

    def estimates(self) -> list[dict[str, Estimate]]:
        """Return the estimates of each system."""
        found = iter(self.sample.estimates())
        return [{name: next(found) for name in self.metrics} for _ in self.values]

    def comparisons(self) -> list[Comparison]:
        """Return the comparison of each other system with the first one."""
        others = self.values[1:]
        if not others:
            return []
        own = range(len(self.metrics), len(self.metrics) * len(self.values))
        found = iter(self.sample.differences(own, [*range(len(self.metrics))] * len(others)))
        decisive = np.stack([each[self.metric] - self.values[0][self.metric] for each in others], axis=1)
        ps = probabilities(decisive, self.groups, seed=self.seed)
        corrected, least = holm(ps), detectable(decisive, self.groups, len(ps))
        k = middle_of(self.cutoffs)
        return [
            Comparison(
                run.name,
                self.metric,
                {name: next(found) for name in self.metrics},
                ps[at],
                corrected[at],
                least[at],
                len(self.questions),
                int((decisive[:, at] != 0).sum()),
                float(overlap(self.questions, self.runs[0], run, k).mean()),
                *_extremes(decisive[:, at]),
            )
            for at, run in enumerate(self.runs[1:])
        ]

    def slices(self, fields: Sequence[str], value_of: Callable[[Question, str], str | None]) -> list[Slice]:
        """Return the slices of the questions, measured by the deciding metric."""
        columns = np.stack([each[self.metric] for each in self.values], axis=1)
        return [self._slice(columns, *part) for part in parts(self.questions, fields, value_of)]

    def _slice(self, columns: Matrix, field: str, value: str, positions: Sequence[int]) -> Slice:
        groups = groups_of([self.questions[at] for at in positions])
        sample = Sample.of(columns[positions], groups, seed=self.seed, draws=_SLICE_DRAWS)
        others = range(1, columns.shape[1])
        changes = [None, *sample.differences(others, [0] * len(others))]
        return Slice(field, value, len(positions), sample.estimates(), changes)


def groups_of(questions: Sequence[Question]) -> Groups:
    """Return the groups of questions that resemble each other."""
    return Groups([(each.group is None, each.group or each.id) for each in questions])


def _extremes(changes: Values) -> tuple[list[int], list[int]]:
    """Return the questions that gained most and those that lost most."""
    order = np.argsort(changes, kind="stable")
    lost = [int(at) for at in order[:_SHOWN] if changes[at] < 0]
    gained = [int(at) for at in order[::-1][:_SHOWN] if changes[at] > 0]
    return gained, lost
