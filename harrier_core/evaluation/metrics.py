"""Metrics of each question: recall, success, MRR, nDCG and MAP, each over the first k results. Pure.

The definitions are those of trec_eval, and tests compare them with ir-measures. A record is relevant if its grade is
above 0. The gain of a record in nDCG is its grade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harrier_core.errors import SettingError
from harrier_core.evaluation.question import Question
from harrier_core.evaluation.runs import Run

Values = NDArray[np.float64]  # (questions,)

KINDS = ("success", "mrr", "ndcg", "map", "recall")
JUDGED = "judged"  # the share of results that were judged at all; it does not measure quality


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """The first results of each question by rank, with their grades."""

    grades: NDArray[np.int64]  # (questions, places): 0 for what is not relevant, not judged or absent
    judged: NDArray[np.bool_]  # (questions, places)
    found: NDArray[np.int64]  # (questions,): the number of results
    relevant: NDArray[np.int64]  # (questions,): the number of relevant records
    ideal: Values  # (questions, places): the discounted gain of the best possible order, up to each place


def graded(questions: Sequence[Question], run: Run, places: int) -> Graded:
    """Return the grades of the first `places` results of each question."""
    shape = len(questions), places
    grades, judged, best = np.zeros(shape, np.int64), np.zeros(shape, bool), np.zeros(shape, np.int64)
    found, relevant = np.zeros(len(questions), np.int64), np.zeros(len(questions), np.int64)
    for row, question in enumerate(questions):
        own = question.grades
        records = run[question.id].records[:places]
        found[row] = len(records)
        for place, record in [(place, record) for place, record in enumerate(records) if record in own]:
            judged[row, place] = True
            grades[row, place] = max(own[record], 0)
        above = sorted((grade for grade in own.values() if grade > 0), reverse=True)
        relevant[row] = len(above)
        best[row, : len(above)] = above[:places]
    return Graded(grades, judged, found, relevant, np.cumsum(best * _discounts(places), axis=1))


def measured(of: Graded, cutoffs: Sequence[int]) -> dict[str, Values]:
    """Return the values of all metrics by their names, such as "ndcg@10".

    The share of judged results counts only the results that are there: with no results, it is 1.
    """
    hits = of.grades > 0
    ranks = np.arange(1, hits.shape[1] + 1)
    so_far = np.cumsum(hits, axis=1)  # (questions, places)
    gains = np.cumsum(of.grades * _discounts(hits.shape[1]), axis=1)
    precisions = np.cumsum(hits * so_far / ranks, axis=1)
    first = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)
    number = np.maximum(of.relevant, 1)
    judged = np.cumsum(of.judged, axis=1)
    values: dict[str, Values] = {}
    for k in cutoffs:
        last = k - 1
        within = (first > 0) & (first <= k)
        shown = np.minimum(of.found, k)
        values[f"success@{k}"] = within.astype(np.float64)
        values[f"mrr@{k}"] = np.where(within, 1 / np.maximum(first, 1), 0.0)
        values[f"ndcg@{k}"] = gains[:, last] / np.where(of.relevant > 0, of.ideal[:, last], 1.0)
        values[f"map@{k}"] = precisions[:, last] / number
        values[f"recall@{k}"] = so_far[:, last] / number
        values[f"{JUDGED}@{k}"] = np.where(shown > 0, judged[:, last] / np.maximum(shown, 1), 1.0)
    return values


def parsed(metric: str) -> tuple[str, int]:
    """Return the kind and the cut-off of a metric's name. Raise SettingError if there is no such metric."""
    kind, _, k = metric.partition("@") if isinstance(metric, str) else ("", "", "")
    if kind not in KINDS or not (k.isascii() and k.isdigit()) or int(k) < 1:
        raise SettingError(
            f"a metric must be one of {', '.join(KINDS)} with a cut-off, such as ndcg@10, got {metric!r}"
        )
    return kind, int(k)


def headline(cutoffs: Sequence[int]) -> tuple[str, ...]:
    """Return the metrics that a short table shows and a gate checks."""
    middle, most = middle_of(cutoffs), cutoffs[-1]
    return tuple(dict.fromkeys((f"ndcg@{middle}", f"mrr@{middle}", f"recall@{middle}", f"recall@{most}")))


def middle_of(cutoffs: Sequence[int]) -> int:
    """Return the cut-off that represents what a user reads: 10, or else the middle one."""
    return 10 if 10 in cutoffs else cutoffs[len(cutoffs) // 2]


def overlap(questions: Sequence[Question], one: Run, other: Run, k: int) -> Values:
    """Return, for each question, the share of the first k results of `other` that are also among those of `one`."""
    shares = np.ones(len(questions))
    for row, question in enumerate(questions):
        wanted = other[question.id].records[:k]
        if wanted:
            shares[row] = len(set(wanted).intersection(one[question.id].records[:k])) / len(wanted)
    return shares


def _discounts(places: int) -> Values:
    return 1 / np.log2(np.arange(2, places + 2))
