"""The numbers of a report from the runs of its systems: estimates, comparisons, slices. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harrier_core.evaluation.findings import Comparison
from harrier_core.evaluation.intervals import Estimate, Groups, differences, estimates
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
    groups: Groups
    values: Sequence[Mapping[str, Values]]  # of each system, by metric
    judged: Sequence[Mapping[int, float]]

    @classmethod
    def of(
        cls, questions: Sequence[Question], runs: Sequence[Run], cutoffs: Sequence[int], metric: str, seed: int
    ) -> Measured:
        """Measure runs."""
        every = [measured(graded(questions, run, cutoffs[-1]), cutoffs) for run in runs]
        values = [{name: own for name, own in each.items() if not name.startswith(JUDGED)} for each in every]
        judged = [{k: float(each[f"{JUDGED}@{k}"].mean()) for k in cutoffs} for each in every]
        groups = Groups([(each.group is None, each.group or each.id) for each in questions])
        return cls(questions, runs, cutoffs, metric, seed, groups, values, judged)

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics."""
        return list(self.values[0])

    def estimates(self) -> list[dict[str, Estimate]]:
        """Return the estimates of each system."""
        found = iter(estimates(np.hstack([self._matrix(each) for each in self.values]), self.groups, seed=self.seed))
        return [{name: next(found) for name in each} for each in self.values]

    def comparisons(self) -> list[Comparison]:
        """Return each other system beside the first one."""
        others = self.values[1:]
        if not others:
            return []
        first = self._matrix(self.values[0])
        changes = [self._matrix(each) - first for each in others]
        found = iter(differences(np.hstack(changes), self.groups, seed=self.seed))
        decisive = np.stack([change[:, self.metrics.index(self.metric)] for change in changes], axis=1)
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
        """Return the parts of the questions, with the metric that decides."""
        columns = np.stack([each[self.metric] for each in self.values], axis=1)
        return [self._slice(columns, *part) for part in parts(self.questions, fields, value_of)]

    def _slice(self, columns: Matrix, field: str, value: str, positions: Sequence[int]) -> Slice:
        own = columns[positions]
        groups = Groups([(self.questions[at].group is None, self.questions[at].group or at) for at in positions])
        drawn = {"seed": self.seed, "draws": _SLICE_DRAWS}
        changes: list[Estimate | None] = [None]
        if own.shape[1] > 1:
            changes += differences(own[:, 1:] - own[:, :1], groups, **drawn)
        return Slice(field, value, len(positions), estimates(own, groups, **drawn), changes)

    def _matrix(self, values: Mapping[str, Values]) -> Matrix:
        return np.stack(list(values.values()), axis=1)


def _extremes(changes: Values) -> tuple[list[int], list[int]]:
    """Return the questions that gained most and those that lost most."""
    order = np.argsort(changes, kind="stable")
    lost = [int(at) for at in order[:_SHOWN] if changes[at] < 0]
    gained = [int(at) for at in order[::-1][:_SHOWN] if changes[at] > 0]
    return gained, lost
