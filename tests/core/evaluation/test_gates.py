"""A gate catches a damaged index by limits and by a baseline, and lets a sound one pass."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harrier_pgvector import PgVectorStore
from judging import WRONG, Bag, library

from harrier_core import Hnsw, Index, SettingError, Task
from harrier_core.evaluation import Baseline, Judgements, Report, System, below, evaluate, in_words, limits_of, worse
from harrier_core.testing import MemoryStore

SPOILED = System(task=Task(WRONG))


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with Index(MemoryStore(), Bag()) as index:
        index.ingest(library()[0])
        yield index


def measured(index: Index, questions: int = 60, **more: Any) -> Report:
    return evaluate(index, library(questions=questions)[1], latency=0, floor=False, **more)


def written(report: Report, folder: Path, **more: Any) -> Path:
    (folder / "baseline.json").write_text(report.to_json(**more), encoding="utf-8")
    return folder / "baseline.json"


@pytest.fixture
def baseline(index: Index, tmp_path: Path) -> Baseline:
    return Baseline.load(written(measured(index), tmp_path))


def test_an_unchanged_index_passes(index: Index, baseline: Baseline) -> None:
    compared = baseline.compared(measured(index))
    assert in_words(compared)[0] == "ndcg@10: the same for all 60 questions"
    assert worse(compared) == []


def test_a_wrong_instruction_is_caught(index: Index, baseline: Baseline) -> None:
    report = measured(index, system=SPOILED)
    said = worse(baseline.compared(report))
    assert said[0].startswith("ndcg@10 is worse than the baseline's: -0.")
    assert below(report, limits_of(["ndcg@10=0.7", "recall@10=0.1"])) == [f"ndcg@10 is {report['ndcg@10']}, below 0.7"]


def test_shuffled_vectors_are_caught(baseline: Baseline) -> None:
    """An index in which records have each other's vectors fails."""
    records, _ = library()
    vectors = Bag().encode_documents([each.text for each in records])
    rows = list(range(len(records)))
    random.Random(0).shuffle(rows)
    store = MemoryStore()
    with Index(store, Bag()) as index:
        index.ingest(records)
        for record, row in zip(records, rows, strict=True):
            own = store._stored[record.id]
            own[0] = own[0][0], np.asarray(vectors[row])
        compared = baseline.compared(measured(index))
    assert {each.metric for each in compared if each.significant} == {"ndcg@10", "mrr@10", "recall@10", "recall@100"}
    assert len(worse(compared)) == 4


def test_a_poor_hnsw_index_is_caught(postgres: str, table: str, tmp_path: Path) -> None:
    """An HNSW index with two links per node and ten candidates fails."""
    records, judgements = library(3_000, 150)
    with Index(PgVectorStore(postgres, table=table, hnsw=Hnsw(m=2, ef_construction=4)), Bag()) as index:
        index.ingest(records)
        assert index.describe().indexed
        reports = [
            evaluate(index, judgements, k=10, system=system, compare=["exact"], latency=0, floor=False)
            for system in (System(ef=1_000), System(ef=1))
        ]
    sound, spoiled = reports
    baseline = Baseline.load(written(sound, tmp_path))
    assert sound.comparison("exact, ef 1000").overlap > spoiled.comparison("exact, ef 1").overlap + 0.2
    assert worse(baseline.compared(sound)) == []
    assert worse(baseline.compared(spoiled))[0].startswith("ndcg@10 is worse than the baseline's")


def test_improvements_and_chance_pass(index: Index, baseline: Baseline, tmp_path: Path) -> None:
    """The comparison has one direction only."""
    spoiled = Baseline.load(written(measured(index, system=SPOILED), tmp_path))
    compared = spoiled.compared(measured(index))
    assert compared[0].significant
    assert in_words(compared)[0].startswith("ndcg@10: better, +0.")
    assert worse(compared) == []
    report = measured(index, system=System(task="sts_query"))
    assert report["ndcg@10"].mean < measured(index)["ndcg@10"].mean
    assert worse(baseline.compared(report)) == []


def test_different_judgements_are_compared_by_common_questions(index: Index, baseline: Baseline) -> None:
    compared = baseline.compared(measured(index, questions=40))
    assert [each.questions for each in compared] == [40] * 4
    with pytest.raises(SettingError, match="have no question in common"):
        baseline.compared(evaluate(index, Judgements.of({"w1 w2": ["r1"]}), latency=0))
    with pytest.raises(SettingError, match="have no metric in common"):
        baseline.compared(measured(index, k=7))


def test_a_baseline_without_texts_and_ids(index: Index, tmp_path: Path) -> None:
    """It is compared by the position of questions, if these are the same."""
    path = written(measured(index), tmp_path, aggregate_only=True)
    assert "w1" not in path.read_text(encoding="utf-8")
    assert worse(Baseline.load(path).compared(measured(index, system=SPOILED)))
    with pytest.raises(SettingError, match="the baseline has other judgements, and was written without the ids"):
        Baseline.load(path).compared(measured(index, questions=40))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("nonsense", "is not a report"),
        ("[]", "is not a report"),
        (json.dumps({"format": 99}), "is not a report in format"),
    ],
)
def test_invalid_baselines(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "b.json").write_text(content, encoding="utf-8")
    with pytest.raises(SettingError, match=said):
        Baseline.load(tmp_path / "b.json")
    with pytest.raises(SettingError, match="cannot be read: no such file"):
        Baseline.load(tmp_path / "nowhere.json")


@pytest.mark.parametrize("limit", ["ndcg@10", "ndcg@10=high", "ndcg@10=1.5", "ndcg@10=nan", "precision@1=0.5", "=0.5"])
def test_invalid_limits(limit: str) -> None:
    with pytest.raises(
        SettingError, match=r"a limit must be a metric and a number from 0 to 1|a metric must be one of"
    ):
        limits_of([limit])
