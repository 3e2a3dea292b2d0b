"""Every metric equals that of ir-measures and trec_eval for the same run and judgements."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import AP, RR, Judged, Qrel, R, ScoredDoc, Success, nDCG

from harrier_core import SettingError
from harrier_core.evaluation import Question, Ranking, Run
from harrier_core.evaluation.metrics import graded, headline, measured, overlap, parsed

CUTOFFS = (1, 3, 10)
THEIRS = {"ndcg": nDCG, "map": AP, "recall": R, "success": Success}


def case(seed: int, digits: int = 1) -> tuple[list[Question], Run]:
    """Return questions with up to fifteen judged records of grades -1 to 3, and rankings, some of them empty.

    digits: the decimal digits of scores; with one digit, many scores are equal.
    """
    chance = random.Random(seed)
    records = [f"d{number}" for number in range(30)]
    questions, rankings = [], {}
    for number in range(12):
        own = chance.sample(records, chance.randint(1, 15))
        grades = {record: chance.choice([-1, 0, 0, 1, 1, 2, 3]) for record in own}
        questions.append(Question(f"q{number}", "text", grades))
        found = chance.sample(records, chance.choice([0, 2, 15, 30]))
        rankings[f"q{number}"] = Ranking.of(found, [round(chance.random(), digits) for _ in found])
    return questions, Run(rankings)


def theirs(questions: list[Question], run: Run, metrics: Mapping[str, Any], k: int | None = None) -> Values:
    """Return the values of ir-measures at k, by metric and question."""
    qrels = [Qrel(each.id, record, grade) for each in questions for record, grade in each.grades.items()]
    docs = [
        ScoredDoc(name, record, score)
        for name, ranking in run.rankings.items()
        for record, score in zip(ranking.records[:k], ranking.scores[:k], strict=True)
    ]
    names = {str(metric): name for name, metric in metrics.items()}
    found = ir_measures.iter_calc(list(metrics.values()), qrels, docs)
    return {(names[str(each.measure)], each.query_id): each.value for each in found}


Values = dict[tuple[str, str], float]


def check(questions: list[Question], run: Run, wanted: Values, metrics: int) -> None:
    ours = measured(graded(questions, run, max(CUTOFFS)), CUTOFFS)
    assert len(wanted) == metrics * len(questions)
    for (metric, question), value in wanted.items():
        assert ours[metric][int(question[1:])] == pytest.approx(value, abs=1e-6), (metric, question)


@given(seed=st.integers(0, 10**6))
def test_equal_to_ir_measures(seed: int) -> None:
    """Values agree for each question, including ties, missing results and grades."""
    questions, run = case(seed)
    wanted = theirs(questions, run, {f"{kind}@{k}": metric @ k for kind, metric in THEIRS.items() for k in CUTOFFS})
    for k in CUTOFFS:  # they cut MRR in another tool, which has another order of equal scores
        wanted |= theirs(questions, run, {f"mrr@{k}": RR}, k)
    check(questions, run, wanted, (len(THEIRS) + 1) * len(CUTOFFS))


@given(seed=st.integers(0, 10**6))
def test_all_metrics_agree_without_ties(seed: int) -> None:
    """The share of judged results agrees too, except for empty results."""
    questions, run = case(seed, digits=9)
    check(questions, run, theirs(questions, run, {f"mrr@{k}": RR @ k for k in CUTOFFS}), len(CUTOFFS))
    some = [each for each in questions if run[each.id].records]
    wanted = theirs(some, run, {f"judged@{k}": Judged @ k for k in CUTOFFS})
    ours = measured(graded(questions, run, max(CUTOFFS)), CUTOFFS)
    for (metric, question), value in wanted.items():
        assert ours[metric][int(question[1:])] == pytest.approx(value)


def test_empty_results_count_as_judged() -> None:
    values = measured(graded([Question("q", "text", {"a": 1})], Run({}), 10), [10])
    assert {name: float(own[0]) for name, own in values.items()} == {
        "success@10": 0.0,
        "mrr@10": 0.0,
        "ndcg@10": 0.0,
        "map@10": 0.0,
        "recall@10": 0.0,
        "judged@10": 1.0,
    }


def test_runs_in_files(tmp_path: Path) -> None:
    """Runs survive saving, other tools read them, and ids may have spaces and percent signs."""
    ranking = Ranking.of(["my file.txt", "100%20;", "c"], [0.25, 0.5, -0.1])
    run = Run({"a question": ranking}, "my system")
    run.save(tmp_path / "run.trec")
    loaded = Run.load(tmp_path / "run.trec")
    assert loaded.name == "my system"
    assert loaded["a question"].records == ["100%20;", "my file.txt", "c"]
    assert loaded["a question"].scores == ranking.scores
    [first, *_] = ir_measures.read_trec_run(str(tmp_path / "run.trec"))  # type: ignore[no-untyped-call]
    assert first == ScoredDoc("a%20;question", "100%25;20;", 0.5)


def test_invalid_runs(tmp_path: Path) -> None:
    (tmp_path / "run.trec").write_text("q Q0 d 1 0.5 name\nq Q0 d 2 high name\n", encoding="utf-8")
    with pytest.raises(SettingError, match=r"run.trec, line 2: a line of a run must have six fields, with a score"):
        Run.load(tmp_path / "run.trec")


def test_a_record_counts_once_and_ties_have_one_order() -> None:
    """A record counts by its best chunk; among equal scores the greater id is first."""
    records, scores, numbers = ["a", "b", "a", "c", "b"], [0.5, 0.5, 0.9, 0.5000001, 0.5], [0, 3, 2, 1, 7]
    ranking = Ranking.of(records, scores, numbers)
    assert (ranking.records, ranking.numbers) == (["a", "c", "b"], [2, 1, 3])
    assert Ranking.of(records[::-1], scores[::-1], numbers[::-1]) == ranking


def test_the_overlap_of_two_runs() -> None:
    questions = [Question("q", "text", {"a": 1}), Question("r", "text", {"a": 1})]
    one = Run({"q": Ranking(["a", "b"], [2, 1], [0, 0]), "r": Ranking(["a"], [1], [0])})
    other = Run({"q": Ranking(["b", "c"], [2, 1], [0, 0])})
    assert overlap(questions, one, other, 10).tolist() == [0.5, 1.0]


@pytest.mark.parametrize("metric", ["ndcg", "ndcg@", "ndcg@0", "ndcg@ten", "precision@10", "", "ndcg@²"])
def test_an_unknown_metric(metric: str) -> None:
    with pytest.raises(SettingError, match="a metric must be one of success, mrr, ndcg, map, recall with a cut-off"):
        parsed(metric)


def test_the_metrics_of_a_short_table() -> None:
    assert headline([1, 10, 100]) == ("ndcg@10", "mrr@10", "recall@10", "recall@100")
    assert headline([5]) == ("ndcg@5", "mrr@5", "recall@5")
    assert parsed("ndcg@10") == ("ndcg", 10)
