"""Whole evaluations of an index: metrics, slices, notes, and questions that cannot be asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from judging import WRONG, Bag, library

from harrier_core import Chunking, Encoded, Index, Record, SettingError, Task
from harrier_core.embedder import refuse_too_long
from harrier_core.evaluation import Judgements, Question, System, evaluate
from harrier_core.testing import MemoryStore

UNJUDGED = (
    "of the first 10 results, {} were judged; the others count as wrong, so a system that finds other right "
    "records may be better than it seems"
)
SPOILING = Task(WRONG)


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with Index(MemoryStore(keywords=True), Bag()) as index:
        index.ingest(library()[0])
        yield index


def test_figures_intervals_and_verdicts(index: Index) -> None:
    """Better, worse and undecided systems are described as such."""
    told: list[tuple[str, int, int]] = []
    compare: list[Any] = ["keyword", SPOILING, "sts_query", "exact"]
    report = evaluate(index, library()[1], compare=compare, on_progress=lambda *each: told.append(each))
    assert 0.7 < report["ndcg@10"].low < report["ndcg@10"].mean < report["ndcg@10"].high < 0.95
    assert report["success@10"].mean == report["recall@10"].mean >= report["success@1"].mean
    said = {each.name: str(report).split(f"  {each.name}: ")[1].splitlines()[0] for each in report.comparisons}
    assert said["keyword"].startswith("better, +0.")
    assert said["task w1 w2 w3 w4 w5 w6"].startswith("worse, -0.")
    assert said["exact"] == "the same for all 60 questions"
    unsure = report.comparison("task sts_query")
    assert not unsure.significant
    assert f"a difference of {unsure.detectable:.3f} could have been found" in said["task sts_query"]
    assert unsure.difference.low < 0 < unsure.difference.high
    assert [each for each in told if each[0] == "searching: exact"][-1] == ("searching: exact", 60, 60)
    assert told[0] == ("encoding questions", 60, 60)
    assert all(each.latency and 0 < each.latency.median <= each.latency.slow for each in report.results)


def test_slices(index: Index) -> None:
    """Questions are sliced by a field of records or questions, by script and by length."""
    _, judgements = library()
    own = [
        Question(each.id, each.text, each.grades, metadata={"kind": "long" if at % 2 else "short"})
        for at, each in enumerate(judgements)
    ]
    cyrillic = Question("c", "вакцина учит", {"r1": 1})
    report = evaluate(index, Judgements([*own, cyrillic]), slices=["lang", "kind", "script", "length"], latency=0)
    found = {(each.field, each.value): each.questions for each in report.slices}
    assert found[("lang", "en")] + found[("lang", "fr")] == 61
    assert (found[("kind", "short")], found[("kind", "long")]) == (30, 30)
    assert (found[("script", "Latin")], found[("script", "Cyrillic")]) == (60, 1)
    assert sum(number for (field, _), number in found.items() if field == "length") == 61
    assert all(len(each.estimates) == len(each.differences) == 1 for each in report.slices)
    assert not evaluate(index, judgements, slices=["nothing"], latency=0).slices


def test_a_record_is_found_by_any_of_its_chunks() -> None:
    """The requested number of records is found, however many chunks the first ones have."""
    records = [Record("many", " ".join(["w1 w2 w3 w4 w5 w6 w7 w8 w9 w10"] * 40)), Record("few", "w1 w2 x1 x2 x3 x4")]
    judgements = Judgements.of({"w1 w2": ["few"]})
    with Index(MemoryStore(), Bag(), chunking=Chunking(tokens=10)) as index:
        index.ingest([*records, *(Record(f"f{number}", f"y{number} z{number}") for number in range(40))])
        assert index.count() > 75
        report = evaluate(index, judgements, k=[2], latency=0, floor=False)
    assert set(report.results[0].run[judgements[0].id].records) == {"many", "few"}
    assert report["recall@2"].mean == 1.0


def test_notes_on_missing_records_and_unjudged_results(index: Index) -> None:
    _, judgements = library(questions=3)
    more = [Question("gone", "w1 w2", {"nowhere": 1}), Question("none", "w1", {"r1": 0})]
    report = evaluate(index, Judgements([*judgements, *more]), latency=0)
    assert report.missing == ["nowhere"]
    assert len(report.questions) == 4
    assert report.notes == [
        "1 question without a record that answers is left out",
        "1 record that answers a question is not in the index, and counts as not found",
        "4 independent questions tell little: intervals are rough with fewer than 50",
        UNJUDGED.format("8 %"),
    ]
    assert report.floor is None  # of so few questions


class Narrow(Bag):
    """An embedder with a limit of four words."""

    max_tokens = 4

    def submit_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Future[Encoded]:
        given = list(texts)
        refuse_too_long(self, given)
        return super().submit_queries(given, task=task)


def test_invalid_questions_count_as_unanswered() -> None:
    records = [Record(f"r{number}", f"a{number} b{number}") for number in range(20)]
    judgements = Judgements.of({f"a{at} b{at}": [f"r{at}"] for at in range(10)} | {"a b c d e f g h": ["r11"]})
    with Index(MemoryStore(), Narrow()) as index:
        index.ingest(records)
        report = evaluate(index, judgements, compare=["no-instruction"])
    assert report["success@1"].mean == pytest.approx(10 / 11)
    [failed] = report.results[0].failed.values()
    assert failed.startswith("has 8 tokens")
    assert report.results[0].empty == 1
    assert report.results[1].failed == {}
    assert any(note.startswith("as it is: 1 question could not be asked") for note in report.notes)


def test_invalid_evaluations(index: Index) -> None:
    _, judgements = library(questions=5)
    for wanted, said in [
        ({"k": []}, "k must have at least one cut-off, got none"),
        ({"k": 0}, "k must be an integer of at least 1, got 0"),
        ({"metric": "ndcg"}, "a metric must be one of"),
        ({"latency": -1}, "latency must be an integer of at least 0, got -1"),
        ({"compare": ["nonsense"]}, "a system must be"),
    ]:
        with pytest.raises(SettingError, match=said):
            evaluate(index, judgements, **wanted)  # type: ignore[arg-type]
    with Index(MemoryStore(), Bag()) as wordless:
        wordless.ingest(library(20, 20)[0])
        with pytest.raises(SettingError, match="'hybrid' searches by word, and MemoryStore"):
            evaluate(wordless, judgements, compare=["hybrid"])
    with pytest.raises(SettingError, match="unknown task 'nonsense'; this model knows web_search_query, sts_query"):
        evaluate(index, judgements, compare=[System(task="nonsense")])
    with pytest.raises(SettingError, match="judgements has no question with a record that answers it"):
        evaluate(index, Judgements([Question("q", "text", {"r1": 0})]))
    report = evaluate(index, judgements, k=5, metric="mrr@7", latency=0)
    assert report.headline == ("mrr@7", "ndcg@7", "recall@7")
    for unknown in (lambda: report["ndcg@10"], lambda: report.result("x"), lambda: report.comparison("x")):
        with pytest.raises(SettingError, match="this report"):
            unknown()


def test_the_loss_of_the_index_is_reported() -> None:
    """An index without every second chunk finds half of the exact results."""

    class Forgetful(MemoryStore):
        def search(self, search):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            found = super().search(search)
            return found if search.exact else [[each for each in own if int(each.record_id[1:]) % 2] for own in found]

    records, judgements = library()
    with Index(Forgetful(), Bag()) as index:
        index.ingest(records)
        report = evaluate(index, judgements, compare=["exact"], latency=0, floor=False)
    [note] = [note for note in report.notes if note.startswith("the index finds")]
    assert 0.4 < report.comparison("exact").overlap < 0.6
    assert note.endswith(" % of the first 10 results of an exact search")
    assert report.comparison("exact").significant


def test_score_distributions() -> None:
    """Answers score higher than unrelated records, and the floor's error rates hold for other questions."""
    records, judgements = library(600, 600)
    others = list(judgements)[200:]
    with Index(MemoryStore(), Bag()) as index:
        index.ingest(records)
        floor = evaluate(index, Judgements(list(judgements)[:200]), latency=0).floor
        assert floor is not None
        kept = index.search_many([each.text for each in others], 600, min_score=floor.suggested.floor)
    ids = [{match.record_id for match in own} for own in kept]
    lost = np.mean([each.relevant[0] not in own for each, own in zip(others, ids, strict=True)])
    assert floor.suggested.lost.low <= lost <= floor.suggested.lost.high
    assert floor.suggested.passed.mean == pytest.approx(np.mean([len(own) for own in kept]) / 600, abs=0.01)
    assert floor.suggested.lost.mean + floor.suggested.passed.mean < 0.1
    assert floor.suggested.misled.mean > 0.9  # of 600 such records, some other one is always as near
    rates = [each.lost.mean for each in floor.others]
    assert rates == sorted(rates)
    assert rates[0] < 0.01
    assert rates[-1] > 0.3
    assert sum(floor.answers) == pytest.approx(1)
    assert len(floor.edges) == len(floor.answers) + 1 == len(floor.rivals) + 1 == len(floor.unrelated) + 1


def test_evaluations_are_reproducible(index: Index) -> None:
    """Everything but the times is reproducible."""
    _, judgements = library(questions=20)
    one, other = (json.loads(evaluate(index, judgements, compare=["keyword"], latency=0).to_json()) for _ in range(2))
    for each in (one, other):
        del each["provenance"]["made"]
    assert one == other


def test_it_needs_no_torch() -> None:
    source = "import sys, harrier_core.evaluation; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True)
    assert done.stdout == "False True\n"
