"""Simulations of confidence intervals and of the significance test: coverage and false alarms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from harrier_core.evaluation import Estimate
from harrier_core.evaluation.intervals import Groups, Sample
from harrier_core.evaluation.significance import detectable, holm, probabilities, questions_for

Matrix = NDArray[np.float64]


def estimates(drawn: Matrix, groups: Groups, **more: int) -> list[Estimate]:
    return Sample.of(drawn, groups, **more).estimates()


def differences(drawn: Matrix, groups: Groups, **more: int) -> list[Estimate]:
    """Return each column next to one of zeros."""
    columns = range(drawn.shape[1])
    return Sample.of(np.hstack([drawn, np.zeros_like(drawn)]), groups, **more).differences(
        columns, [len(columns) + each for each in columns]
    )


def values(chance: np.random.Generator, questions: int, columns: int) -> Matrix:
    """Return values shaped like nDCG: some zeros, and others by rank."""
    places = chance.geometric(0.35, (questions, columns))
    gains = np.where(places <= 10, 1 / np.log2(places + 1.0), 0.0)
    return np.where(chance.random((questions, columns)) < 0.25, 0.0, gains)


def truth() -> float:
    places = np.arange(1, 11)
    return float(0.75 * (0.35 * 0.65 ** (places - 1) / np.log2(places + 1)).sum())


def covered(questions: int, rounds: int, columns: int = 20) -> float:
    """Return how often the interval contains the mean of the distribution."""
    chance = np.random.default_rng(questions)
    groups = Groups(range(questions))
    held = [
        each.low <= truth() <= each.high
        for _ in range(rounds)
        for each in estimates(values(chance, questions, columns), groups, seed=int(chance.integers(2**31)), draws=1_000)
    ]
    return float(np.mean(held))


@pytest.mark.parametrize("questions", [50, 200])
def test_interval_coverage(questions: int) -> None:
    """In 4,000 simulations, chance moves the coverage by less than 0.4 points."""
    assert 0.93 <= covered(questions, 200) <= 0.97


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("questions", [30, 100, 1_000])
def test_interval_coverage_in_a_long_run(questions: int) -> None:
    assert 0.94 <= covered(questions, 1_000) <= 0.96


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
def test_intervals_of_binary_metrics(share: float) -> None:
    """Coverage holds even if nearly all values are equal, where a bootstrap fails."""
    chance = np.random.default_rng(1)
    groups, held = Groups(range(60)), []
    for _ in range(100):
        drawn = (chance.random((60, 20)) < share).astype(float)
        held += [each.low <= share <= each.high for each in estimates(drawn, groups, draws=10)]
    assert 0.92 <= np.mean(held) <= 0.98


def test_interval_coverage_of_differences() -> None:
    chance = np.random.default_rng(2)
    groups, held = Groups(range(80)), []
    for _ in range(100):
        drawn = np.where(chance.random((80, 20)) < 0.6, 0.0, chance.normal(0.1, 0.3, (80, 20)))
        held += [each.low <= 0.04 <= each.high for each in differences(drawn, groups, draws=1_000)]
    assert 0.93 <= np.mean(held) <= 0.97


def test_questions_of_a_group_count_together() -> None:
    """Treating five nearly equal questions as independent makes intervals too narrow."""
    chance = np.random.default_rng(3)
    alone, together = [], []
    for _ in range(60):
        drawn = np.repeat(values(chance, 40, 10), 5, axis=0)
        alone += [each.low <= truth() <= each.high for each in estimates(drawn, Groups(range(200)), draws=1_000)]
        own = Groups(np.repeat(np.arange(40), 5).tolist())
        together += [each.low <= truth() <= each.high for each in estimates(drawn, own, draws=1_000)]
    assert np.mean(alone) < 0.8
    assert 0.92 <= np.mean(together) <= 0.98


def test_intervals_are_reproducible() -> None:
    drawn = values(np.random.default_rng(0), 30, 3)
    assert estimates(drawn, Groups(range(30))) == estimates(drawn, Groups(range(30)))


def test_one_question_has_no_interval() -> None:
    assert str(estimates(np.array([[0.5]]), Groups(["a"]))[0]) == "0.500 (0.000 to 1.000)"
    [found] = differences(np.array([[0.5]]), Groups(["a"]))
    assert (found.low, found.high) == (-1.0, 1.0)


def test_a_perfect_result_is_not_certain() -> None:
    """After 60 questions without an error, an error rate of one in twenty is still possible."""
    [found] = estimates(np.ones((60, 1)), Groups(range(60)))
    assert (found.mean, found.high) == pytest.approx((1.0, 1.0))
    assert 0.93 < found.low < 0.96


# -- comparisons


def null(chance: np.random.Generator, questions: int, columns: int) -> Matrix:
    """Return differences between equal systems: skewed values with random signs."""
    return values(chance, questions, columns) - values(chance, questions, columns)


def bound(number: int) -> float:
    """Return the rate of false alarms that a 5 % test rarely exceeds in this many simulations."""
    return 0.05 + 2 * math.sqrt(0.05 * 0.95 / number)


@pytest.mark.parametrize("questions", [8, 60])
def test_false_alarms(questions: int) -> None:
    chance = np.random.default_rng(questions)
    groups, alarms = Groups(range(questions)), []
    for _ in range(100):
        alarms += [
            p < 0.05
            for p in probabilities(null(chance, questions, 20), groups, seed=int(chance.integers(99)), draws=999)
        ]
    assert np.mean(alarms) <= bound(len(alarms))


def test_false_alarms_of_groups() -> None:
    """Treating five nearly equal questions as independent raises false alarms."""
    chance = np.random.default_rng(4)
    alone, together = [], []
    for _ in range(60):
        drawn = np.repeat(null(chance, 30, 10), 5, axis=0)
        alone += [p < 0.05 for p in probabilities(drawn, Groups(range(150)), draws=999)]
        together += [p < 0.05 for p in probabilities(drawn, Groups(np.repeat(np.arange(30), 5).tolist()), draws=999)]
    assert np.mean(alone) > 0.2
    assert np.mean(together) <= bound(len(together))


def test_false_alarms_of_several_systems_together() -> None:
    """Without Holm's correction, a quarter of reports on six equal systems would raise a false alarm."""
    chance = np.random.default_rng(5)
    groups, raw, corrected = Groups(range(60)), [], []
    for _ in range(500):
        ps = probabilities(null(chance, 60, 6), groups, seed=int(chance.integers(99)), draws=999)
        raw.append(min(ps) < 0.05)
        corrected.append(min(holm(ps)) < 0.05)
    assert np.mean(raw) > 0.15
    assert np.mean(corrected) <= bound(len(corrected))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_false_alarms_in_a_long_run() -> None:
    chance = np.random.default_rng(6)
    groups, alarms = Groups(range(100)), []
    for _ in range(1_000):
        alarms += [
            p < 0.05 for p in probabilities(null(chance, 100, 20), groups, seed=int(chance.integers(99)), draws=999)
        ]
    assert np.mean(alarms) <= bound(len(alarms))


def test_power() -> None:
    """A difference of the `detectable` size is found four times out of five."""
    chance = np.random.default_rng(7)
    groups = Groups(range(100))
    least = float(np.mean(detectable(null(chance, 100, 200), groups)))
    found = []
    for _ in range(30):
        found += [p < 0.05 for p in probabilities(null(chance, 100, 20) + least, groups, draws=999)]
    assert 0.72 <= np.mean(found) <= 0.88
    assert questions_for(least / 2, least, 100) == 400
    assert questions_for(0.0, least, 100) is None


def test_few_questions_use_all_permutations() -> None:
    """For five questions that all improved, p is 1 in 16."""
    assert probabilities(np.full((5, 1), 0.25), Groups(range(5))) == [2 / 32]
    assert probabilities(np.zeros((5, 1)), Groups(range(5))) == [1.0]
    assert probabilities(np.zeros((50, 1)), Groups(range(50))) == [1.0]


def test_holm() -> None:
    """Corrected values equal those of R's p.adjust."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
