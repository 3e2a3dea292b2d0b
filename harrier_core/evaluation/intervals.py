"""Means over questions with their intervals, by drawing questions repeatedly (the bootstrap). Pure.

Questions of one group resemble each other. So groups are drawn, and each brings all its questions with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

DRAWS = 10_000
LEVEL = 0.95
_TOGETHER = 1 << 20  # numbers that are drawn at once


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


class Groups:
    """Groups of questions that resemble each other: sums of values by group."""

    def __init__(self, names: Sequence[object]) -> None:
        """Take the name of each question's group."""
        numbers: dict[object, int] = {}
        self._rows = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
        self.sizes = np.bincount(self._rows, minlength=len(numbers)).astype(np.float64)

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def questions(self) -> int:
        """The number of questions."""
        return len(self._rows)

    @property
    def alone(self) -> bool:
        """Whether each question is its own group."""
        return len(self) == self.questions

    def sums(self, values: Matrix) -> Matrix:
        """Return the sum of each column over each group."""
        if self.alone:
            return values
        sums = np.zeros((len(self), values.shape[1]))
        np.add.at(sums, self._rows, values)
        return sums

    def errors(self, values: Matrix) -> Matrix:
        """Return the standard error of the mean of each column."""
        number = len(self)
        if number < 2:
            return np.full(values.shape[1], math.inf)
        deviations = self.sums(values) - np.outer(self.sizes, values.mean(axis=0))
        squares = (deviations**2).sum(axis=0) * number / (number - 1)
        return np.asarray(np.sqrt(squares) / self.questions)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Values of questions, and their means over many draws of questions."""

    values: Matrix  # (questions, columns)
    groups: Groups
    drawn: Matrix  # (draws, columns)

    @classmethod
    def of(cls, values: Matrix, groups: Groups, *, seed: int = 0, draws: int = DRAWS) -> Sample:
        """Draw the groups repeatedly."""
        sums = groups.sums(values)
        counts = _counts(len(groups), seed, draws)
        return cls(values, groups, np.concatenate([(own @ sums) / (own @ groups.sizes)[:, None] for own in counts]))

    def estimates(self) -> list[Estimate]:
        """Return the mean of each column of metrics, which are between 0 and 1.

        A binary metric of ungrouped questions gets Wilson's interval: the bootstrap's is too narrow where nearly all
        values are the same.
        """
        number = len(self.groups)
        low, high = _ends(self.drawn, number)
        found = []
        for column, mean in enumerate(self.values.mean(axis=0)):
            own = self.values[:, column]
            if number < 2:
                found.append(Estimate(float(mean), 0.0, 1.0))
            elif (self.groups.alone and np.isin(own, (0.0, 1.0)).all()) or (own == own[0]).all():
                found.append(_wilson(float(mean), number))
            else:
                found.append(Estimate(float(mean), float(max(low[column], 0.0)), float(min(high[column], 1.0))))
        return found

    def differences(self, columns: Sequence[int], to: Sequence[int]) -> list[Estimate]:
        """Return the mean difference of columns to others, question by question."""
        if not len(columns):
            return []
        means = (self.values[:, columns] - self.values[:, to]).mean(axis=0)
        low, high = _ends(self.drawn[:, columns] - self.drawn[:, to], len(self.groups))
        if len(self.groups) < 2:
            low, high = np.full(len(low), -1.0), np.full(len(high), 1.0)
        return [Estimate(*map(float, each)) for each in zip(means, low, high, strict=True)]


def _counts(number: int, seed: int, draws: int) -> Iterator[Matrix]:
    """Yield how often each group is in each draw, some draws at a time."""
    chance = np.random.default_rng(seed)
    some = max(1, _TOGETHER // number)
    for begin in range(0, draws, some):
        rows = min(some, draws - begin)
        drawn = chance.integers(number, size=(rows, number)) + number * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * number).reshape(rows, number).astype(np.float64)


def _ends(drawn: Matrix, groups: int) -> tuple[Matrix, Matrix]:
    """Return both ends of each column's interval.

    They are quantiles of the draws, further out for few groups: the spread of the draws is that around the sample's own
    mean, and so too small, as if Student's t were unknown.
    """
    if groups < 2:
        return np.zeros(drawn.shape[1]), np.ones(drawn.shape[1])
    outer = NormalDist().cdf(-_student(groups - 1) * math.sqrt(groups / (groups - 1)))
    low, high = np.quantile(drawn, [outer, 1 - outer], axis=0)
    return low, high


def _student(freedom: int) -> float:
    """Return the quantile of Student's t, by the first terms of its expansion."""
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _wilson(share: float, number: int) -> Estimate:
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    middle = (share + z * z / (2 * number)) / (1 + z * z / number)
    reach = z / (1 + z * z / number) * math.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    return Estimate(share, max(0.0, middle - reach), min(1.0, middle + reach))
