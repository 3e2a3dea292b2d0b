"""Compared systems: how they are described, named, and searched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judging import Bag, library

from harrier_core import Index, Search, SettingError, Task
from harrier_core.evaluation import Ranking, Run, System, evaluate
from harrier_core.evaluation.systems import systems_of
from harrier_core.records import Match
from harrier_core.testing import MemoryStore

BASE = System()


class Noting(MemoryStore):
    """A store that records its searches."""

    def __init__(self) -> None:
        super().__init__(keywords=True)
        self.asked: list[Search] = []

    def search(self, search: Search) -> list[list[Match]]:
        self.asked.append(search)
        return super().search(search)


@pytest.fixture
def index() -> Iterator[Index]:
    with Index(Noting(), Bag()) as index:
        index.ingest(library(120)[0])
        yield index


@pytest.mark.parametrize(
    ("said", "system"),
    [
        ("no-instruction", System(task="no-instruction")),
        ("sts_query", System(task="sts_query")),
        ("task=sts_query", System(task="sts_query")),
        ("keyword", System(mode="keyword")),
        ("exact", System(exact=True)),
        ("mode=hybrid, ef=200,keyword_weight=2", System(mode="hybrid", ef=200, keyword_weight=2.0)),
        ("k=5,min_score=0.4", System(k=5, min_score=0.4)),
        ("hybrid,instruction=Given a question, find it", System(mode="hybrid", task=Task("Given a question, find it"))),
    ],
)
def test_systems_from_strings(index: Index, said: str, system: System) -> None:
    [_, found] = systems_of([said], BASE, index)
    assert found == replace(system, name=found.name)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "nonsense",
            "a system must be no-instruction, tasks, .*; got 'nonsense'; the model's tasks are web_search",
        ),
        ("", "got an empty text"),
        ("ef=many", "ef= must be a number, got 'many'"),
        ("mode=sparse", "mode must be one of dense, keyword, hybrid, got 'sparse'"),
        ("k=0", "k must be an integer of at least 1, got 0"),
        ("model=harrier-0.6b", r"model= names the model of another index; add index=URL"),
        ("model=harrier-0.6b,index=pgvector:a", r"index=pgvector:a with a model needs an Index"),
    ],
)
def test_invalid_strings(index: Index, said: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        systems_of([said], BASE, index)


def test_names_are_unique(index: Index) -> None:
    """`tasks` are the model's other tasks; other settings come from the first system."""
    base = System(task="sts_query", mode="hybrid")
    given: list[Any] = ["tasks", "exact", "exact", Task("Find it"), Run({}, "theirs"), System(name="mine", ef=9), index]
    found = systems_of(given, base, index)
    *names, last = (each.name for each in found)
    assert str(last).startswith("task sts_query, hybrid, MemoryStore() at ")
    assert names == [
        "task sts_query, hybrid",
        "task web_search_query, hybrid",
        "task sts_query, hybrid, exact",
        "task sts_query, hybrid, exact (2)",
        "task Find it, hybrid",
        "theirs",
        "mine",
    ]
    assert System().title == "as it is"
    with pytest.raises(SettingError, match="compare takes a System, a Task, an Index, a Run or a str, got int"):
        systems_of([1], base, index)  # type: ignore[list-item]
    with pytest.raises(SettingError, match="takes no settings but k and name"):
        System(run=Run({}), mode="keyword")


def test_each_system_uses_its_settings(index: Index) -> None:
    """Questions are encoded once per task, and searched with the system's settings."""
    _, judgements = library(120, 20)
    encoder, store = index.encoder, index.store
    assert isinstance(encoder, Bag)
    assert isinstance(store, Noting)
    compare: list[Any] = [
        "no-instruction",
        "exact",
        "ef=7",
        "keyword",
        "sts_query",
        System(name="french", where={"lang": "fr"}),
    ]
    report = evaluate(index, judgements, compare=compare, latency=0, floor=False)
    texts = [each.text for each in judgements]
    assert encoder.asked == [*((text, None) for text in texts), *((text, "sts_query") for text in texts)]
    assert [(each.exact, each.ef, each.where is None) for each in store.asked] == [
        (False, None, True),  # as it is
        (False, None, True),  # no-instruction
        (True, None, True),
        (False, 7, True),
        (False, None, True),  # sts_query
        (False, None, False),
    ]
    languages = {record.id: record.metadata["lang"] for record in library(120)[0]}
    assert {languages[each] for own in report.result("french").run.rankings.values() for each in own.records} == {"fr"}


def test_another_index_and_a_run(index: Index, tmp_path: Path) -> None:
    """A run is read from a file; results that it lacks were not found."""
    records, judgements = library(120, 20)
    Run({each.id: Ranking(each.relevant, [1.0], [0]) for each in list(judgements)[:10]}, "half").save(
        tmp_path / "r.trec"
    )
    with Index(MemoryStore(), Bag()) as other:
        other.ingest(records[10:])
        compare: list[Any] = [f"run={tmp_path}/r.trec", other, System(name="none", index=other, where={"number": -1})]
        report = evaluate(index, judgements, compare=compare, latency=3)
    half, others, none = report.results[1:]
    assert half["success@1"].mean == 0.5
    assert half.latency is None
    assert others.latency is not None
    assert others["recall@100"].mean == 0.5
    assert (none["ndcg@10"].mean, none.empty) == (0.0, 20)


def test_only_runs() -> None:
    """Results of other tools are measured and compared without an index."""
    _, judgements = library(10, 10)
    first = Run({each.id: Ranking(["other", *each.relevant], [2.0, 1.0], [0, 0]) for each in judgements}, "first")
    better = Run({each.id: Ranking(each.relevant, [1.0], [0]) for each in judgements}, "better")
    report = evaluate(first, judgements, compare=[better])
    assert (report["mrr@10"].mean, report.result("better")["mrr@10"].mean) == (0.5, 1.0)
    assert report.comparison("better").significant
    with pytest.raises(SettingError, match="'hybrid' has no index to search"):
        evaluate(first, judgements, compare=[System(mode="hybrid")])
    with pytest.raises(SettingError, match="evaluate takes an Index or a Run, got int"):
        evaluate(1, judgements)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="omit system"):
        evaluate(first, judgements, system="hybrid")
