"""Tell differences between systems from chance: a paired randomisation test, and the differences it can find. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from harrier_core.evaluation.intervals import DRAWS, Groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

ALPHA = 0.05  # of false alarms, in all comparisons of a report together
POWER = 0.8
_TOGETHER = 1 << 20  # signs that are drawn at once
_EQUAL = 1e-9  # two sums of the same differences in another order


def probabilities(differences: Matrix, groups: Groups, *, seed: int = 0, draws: int = DRAWS) -> list[float]:
    """Return the two-sided p-value of each column of differences between two systems.

    If the systems do not differ, their names may be swapped in any group of questions. The p-value is the share of such
    swaps whose mean is as far from 0 as the observed one. For few groups, all swaps are tried.
    """
    sums = groups.sums(differences)
    observed = np.abs(sums.sum(axis=0)) - _EQUAL
    if 2 ** len(sums) <= draws:
        flipped = _every(len(sums)) @ sums
        return [float(each) for each in (np.abs(flipped) >= observed).mean(axis=0)]
    as_far = np.ones(sums.shape[1])
    chance = np.random.default_rng(seed)
    some = max(1, _TOGETHER // len(sums))
    for begin in range(0, draws, some):
        rows = min(some, draws - begin)
        bits = np.unpackbits(np.frombuffer(chance.bytes(-(-rows * len(sums) // 8)), np.uint8), count=rows * len(sums))
        signs = 2.0 * bits.reshape(rows, len(sums)) - 1
        as_far += (np.abs(signs @ sums) >= observed).sum(axis=0)
    return [float(each) for each in as_far / (draws + 1)]


def _every(number: int) -> Matrix:
    """Return all rows of the given number of signs."""
    rows = np.arange(2**number)[:, None] >> np.arange(number) & 1
    return np.asarray(2.0 * rows - 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for the number of tests (Holm): the chance of any false alarm stays below ALPHA."""
    corrected = [1.0] * len(ps)
    least = 0.0
    for rank, at in enumerate(sorted(range(len(ps)), key=lambda at: ps[at])):
        least = max(least, min(1.0, ps[at] * (len(ps) - rank)))
        corrected[at] = least
    return corrected


def detectable(differences: Matrix, groups: Groups, tests: int = 1) -> list[float]:
    """Return, for each column, the difference that would be found with a probability of POWER as one of `tests`."""
    wanted = NormalDist().inv_cdf(1 - ALPHA / max(1, tests) / 2) + NormalDist().inv_cdf(POWER)
    return [min(1.0, wanted * float(error)) if math.isfinite(error) else 1.0 for error in groups.errors(differences)]


def questions_for(difference: float, detectable_now: float, questions: int) -> int | None:
    """Return how many questions it would take to find such a difference, or None if no number would suffice."""
    if not difference:
        return None
    return math.ceil(questions * (detectable_now / abs(difference)) ** 2)
