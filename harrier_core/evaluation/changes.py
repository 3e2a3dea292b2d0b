"""The questions that gained and lost most, with the first results of both systems and their texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harrier_core.evaluation.findings import Changed, Comparison, Shown
from harrier_core.evaluation.metrics import Values
from harrier_core.evaluation.question import Question
from harrier_core.evaluation.runs import Ranking, Run
from harrier_core.index import Index

_FIRST = 3  # results of a question that are shown

Place = tuple[str, int]  # a record and the number of a chunk


def changes_of(
    questions: Sequence[Question],
    runs: Sequence[Run],
    indexes: Sequence[Index | None],
    comparisons: Sequence[Comparison],
    values: Sequence[Mapping[str, Values]],
) -> list[Changed]:
    """Return the changes of each comparison. `runs`, `indexes` and `values` are by system, the first one first."""
    wanted = [
        (position, at, comparison)
        for at, comparison in enumerate(comparisons, 1)
        for position in [*comparison.gained, *comparison.lost]
    ]
    texts = [
        _texts(index, (runs[at][questions[position].id] for position, own, _ in wanted if at in (0, own)))
        for at, index in enumerate(indexes)
    ]
    return [
        Changed(
            position,
            comparison.name,
            float(values[0][comparison.metric][position]),
            float(values[at][comparison.metric][position]),
            _shown(questions[position], runs[0], texts[0]),
            _shown(questions[position], runs[at], texts[at]),
        )
        for position, at, comparison in wanted
    ]


def _texts(index: Index | None, rankings: Iterable[Ranking]) -> dict[Place, str]:
    """Return the texts of the first results, as the index has them."""
    wanted = {place for ranking in rankings for place in _places(ranking)}
    if index is None or not wanted:
        return {}
    stored = (each.chunk for each in index.read(sorted({record for record, _ in wanted})))
    return {
        (chunk.record_id, chunk.number): chunk.text for chunk in stored if (chunk.record_id, chunk.number) in wanted
    }


def _places(ranking: Ranking) -> list[Place]:
    return list(zip(ranking.records[:_FIRST], ranking.numbers[:_FIRST], strict=True))


def _shown(question: Question, run: Run, texts: Mapping[Place, str]) -> list[Shown]:
    ranking = run[question.id]
    return [
        Shown(place[0], score, question.grades.get(place[0]), texts.get(place))
        for place, score in zip(_places(ranking), ranking.scores, strict=False)
    ]
