"""A floor for cosines: those of questions with their answers, compared with those of unrelated records."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from harrier_core.evaluation.intervals import Estimate, Groups, Sample
from harrier_core.evaluation.question import Question
from harrier_core.index import Index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harrier_core.types import Vectors

    Matrix = NDArray[np.float64]

_QUESTIONS, _ANSWERS, _UNRELATED = 500, 20, 1_000  # numbers of questions, of answers to each, and of unrelated records
_SEEN = 1_000_000  # records from which the unrelated ones are drawn
_NEAREST = 20  # chunks among which the best unrelated one is looked for
_LEAST = 10  # number of questions; a floor for fewer would mean nothing
_BINS = 40
_STEPS = 200  # floors that are tried
_DRAWS = 2_000


@dataclass(frozen=True, slots=True)
class Rates:
    """The error rates of a floor: shares of answers lost, of unrelated records that pass, and of misled questions.

    misled: questions for which something else would be found if their answers were not in the index.
    """

    floor: float
    lost: Estimate
    passed: Estimate
    misled: Estimate


@dataclass(frozen=True, slots=True)
class Floor:
    """The cosines of answers and of unrelated records, and the floor with the fewest errors between them.

    The rates of the suggested floor are those of questions that had no part in choosing it.
    """

    suggested: Rates
    others: Sequence[Rates]  # for comparison
    questions: int
    edges: Sequence[float]  # bin edges of three histograms, each of which shows shares of its pairs
    answers: Sequence[float]
    rivals: Sequence[float]  # for each question, the best record that does not answer it
    unrelated: Sequence[float]


@dataclass(frozen=True, slots=True, eq=False)
class _Cosines:
    """The cosines of one question."""

    answers: Matrix  # with its answers, each by its best chunk
    rival: float  # with the best record that does not answer it
    unrelated: Matrix  # with chunks drawn at random


def floor_of(index: Index, questions: Sequence[Question], vectors: Mapping[int, Vectors], seed: int) -> Floor | None:
    """Return the floor for these questions, or None if too few of them are usable.

    vectors: those of the questions, by position.
    """
    chance = random.Random(seed)  # noqa: S311  # the same sample every time
    places = [at for at in vectors if questions[at].relevant]
    places = sorted(chance.sample(places, min(_QUESTIONS, len(places))))
    if len(places) < _LEAST:
        return None
    asked = np.stack([vectors[at] for at in places])
    own = [questions[at] for at in places]
    cosines = _cosines(index, own, asked, chance)
    kept = [(question, each) for question, each in zip(own, cosines, strict=True) if each is not None]
    if len(kept) < _LEAST:
        return None
    names = [question.group or question.id for question, _ in kept]
    return _floor([each for _, each in kept], Groups(names), names)


def _floor(cosines: Sequence[_Cosines], groups: Groups, names: Sequence[str]) -> Floor:
    halves = _halves(names)
    chosen = [_best([each for each, half in zip(cosines, halves, strict=True) if half == one]) for one in (0, 1)]
    held_out = _rates([chosen[1 - half] for half in halves], cosines, groups)
    value = round(_best(cosines), 3)
    suggested = Rates(value, held_out.lost, held_out.passed, held_out.misled)
    edges = _edges(cosines)
    others = [_rates([float(each)] * len(cosines), cosines, groups) for each in _steps(value, edges)]
    return Floor(
        suggested,
        others,
        len(cosines),
        [float(edge) for edge in edges],
        _histogram(np.concatenate([each.answers for each in cosines]), edges),
        _histogram(np.array([each.rival for each in cosines]), edges),
        _histogram(np.concatenate([each.unrelated for each in cosines]), edges),
    )


def _halves(names: Sequence[str]) -> list[int]:
    """Put every second group of questions into the other half."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [numbers[name] % 2 for name in names]


def _best(cosines: Sequence[_Cosines]) -> float:
    """Return the floor with the fewest errors: the shares of answers lost and of unrelated records that pass."""
    answers = np.sort(np.concatenate([each.answers for each in cosines]))
    unrelated = np.sort(np.concatenate([each.unrelated for each in cosines]))
    tried = np.linspace(unrelated[0], answers[-1], _STEPS)
    lost = np.searchsorted(answers, tried) / len(answers)
    passed = 1 - np.searchsorted(unrelated, tried) / len(unrelated)
    errors = lost + passed
    best = tried[errors <= errors.min() + 1e-12]
    return float((best[0] + best[-1]) / 2)


def _rates(floors: Sequence[float], cosines: Sequence[_Cosines], groups: Groups) -> Rates:
    """Return the error rates, given a floor for each question."""
    values = np.array(
        [
            ((each.answers < floor).mean(), (each.unrelated >= floor).mean(), float(each.rival >= floor))
            for floor, each in zip(floors, cosines, strict=True)
        ]
    )
    return Rates(float(floors[0]), *Sample.of(values, groups, draws=_DRAWS).estimates())


def _steps(value: float, edges: Matrix) -> list[float]:
    """Return round floors around a value."""
    low, high = float(edges[0]), float(edges[-1])
    steps = np.arange(np.ceil(low * 20) / 20, high, 0.05)
    return [round(float(each), 2) for each in steps if abs(each - value) < 0.21]


def _edges(cosines: Sequence[_Cosines]) -> Matrix:
    every = [cosine for each in cosines for cosine in (each.answers, each.unrelated, np.array([each.rival]))]
    low, high = min(float(each.min()) for each in every), max(float(each.max()) for each in every)
    return np.linspace(np.floor(low * 20) / 20, max(np.ceil(high * 20) / 20, low + 0.05), _BINS + 1)


def _histogram(values: Matrix, edges: Matrix) -> list[float]:
    counts, _ = np.histogram(values, edges)
    return [float(each) for each in counts / len(values)]


# -- cosines


def _cosines(
    index: Index, questions: Sequence[Question], vectors: Vectors, chance: random.Random
) -> list[_Cosines | None]:
    """Return the cosines of each question, or None for a question with none of its answers in the index."""
    answers = _answers(index, questions)
    drawn = _drawn(index, chance)
    unrelated = vectors @ np.stack([vector for _, vector in drawn]).T  # (questions, records)
    nearest = index.search_vectors(vectors, _NEAREST)
    found: list[_Cosines | None] = []
    for row, (question, vector) in enumerate(zip(questions, vectors, strict=True)):
        right = set(question.relevant)
        own = [float(max(chunks @ vector)) for chunks in (answers.get(each) for each in right) if chunks is not None]
        rivals = [match.score for match in nearest[row] if match.record_id not in right]
        others = np.array([at for at, (record, _) in enumerate(drawn) if record not in right], dtype=np.int64)
        if own and rivals and len(others):
            found.append(_Cosines(np.array(own), rivals[0], unrelated[row, others].astype(np.float64)))
        else:
            found.append(None)
    return found


def _answers(index: Index, questions: Sequence[Question]) -> dict[str, Vectors]:
    """Return the vectors of the chunks of records that answer questions."""
    ids = dict.fromkeys(record for each in questions for record in each.relevant[:_ANSWERS])
    found: dict[str, list[NDArray[np.float32]]] = {}
    for stored in index.read(ids):
        found.setdefault(stored.chunk.record_id, []).append(_unit(stored.vector))
    return {record: np.stack(vectors) for record, vectors in found.items()}


def _drawn(index: Index, chance: random.Random) -> list[tuple[str, NDArray[np.float32]]]:
    """Return chunks drawn at random, one per record, with their vectors."""
    seen = list(islice(index.record_ids(), _SEEN))
    ids = chance.sample(sorted(seen), min(_UNRELATED, len(seen)))
    found: dict[str, dict[int, NDArray[np.float32]]] = {}
    for stored in index.read(ids):
        found.setdefault(stored.chunk.record_id, {})[stored.chunk.number] = _unit(stored.vector)
    return [(record, found[record][chance.choice(sorted(found[record]))]) for record in ids if record in found]


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), dtype=np.float32)
