"""Reports as HTML and JSON: self-contained, escaped, and without texts if requested."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from judging import Bag, library

from harrier_core import Index, Record, Task
from harrier_core.evaluation import Estimate, Judgements, Question, Report, evaluate
from harrier_core.evaluation.plots import Scale
from harrier_core.testing import MemoryStore

EVIL = "<script>alert('x')</script>\"&<img src=x onerror=alert(1)>"
_VOID = {"meta", "img", "br", "line", "circle", "rect"}


class Page(HTMLParser):
    """Parse a page as a browser does: tags, which must be closed, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def report() -> Iterator[Report]:
    """Return a report of records, questions and systems with markup in all user input."""
    records, judgements = library(120, 30)
    marked = [
        Record(f"{each.id}{EVIL}", f"{each.text} {EVIL}", {**each.metadata, "field": EVIL if at % 2 else "plain"})
        for at, each in enumerate(records)
    ]
    questions = [
        Question(f"{each.id}{EVIL}", f"{each.text} {EVIL}", {f"{each.relevant[0]}{EVIL}": 1, f"r99{EVIL}": 0})
        for each in judgements
    ]
    with Index(MemoryStore(keywords=True), Bag()) as index:
        index.ingest(marked)
        compare: list[Any] = ["hybrid", Task(f"w1 w2 w3 {EVIL}"), "exact"]
        yield evaluate(index, Judgements(questions, EVIL), compare=compare, slices=["field"])


@pytest.fixture
def page(report: Report, tmp_path: Path) -> Page:
    report.to_html(tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_it_is_one_file_without_scripts(page: Page) -> None:
    """The page's policy would block scripts as well."""
    assert page.open == []
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "form", "base"}
    attributes = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in attributes if name.startswith("on") or name in ("href", "src", "style")}
    [policy] = [own["content"] for tag, own in page.tags if tag == "meta" and "http-equiv" in own]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_user_input_is_escaped(page: Page, report: Report) -> None:
    """Questions, ids, records, metadata and instructions appear literally."""
    changed = report.changed[0]
    question = report.questions[changed.position]
    for said in (
        question.text,
        question.id,
        changed.first[0].record,
        "task w1 w2 w3 <script>alert('x')</script>",
        EVIL,
    ):
        assert said in page.text


def test_contents(page: Page, report: Report) -> None:
    headings = ("Systems", "Differences to", "Parts of the questions", "What a score means", "What was judged")
    for said in (*headings, "Questions that changed", "Where it is from", "How to read it", "gained most", "✓ right"):
        assert said in page.text, said
    assert report.provenance["space_digest"] in page.text
    assert str(report["ndcg@10"]) in page.text
    dots = [attributes for tag, attributes in page.tags if tag == "circle"]
    assert len(dots) == len(report.results) + len(report.comparisons) + len(report.slices)


def test_reports_without_texts_and_ids(report: Report, tmp_path: Path) -> None:
    """Names of systems, fields and judgements are kept."""
    report.to_html(tmp_path / "report.html", aggregate_only=True)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    said = report.to_json(aggregate_only=True)
    for question in report.questions:
        assert question.text not in page.text
        assert json.dumps(question.text, ensure_ascii=False)[1:-1] not in said
        assert f"{question.id}" not in page.text
        assert json.dumps(question.id, ensure_ascii=False)[1:-1] not in said
    assert "Left out" in page.text
    assert len(json.loads(said)["values"]["ndcg@10"]) == len(report.questions)


def test_as_json(report: Report) -> None:
    said: dict[str, Any] = json.loads(report.to_json())
    first, second, *_ = said["systems"]
    assert first["metrics"]["ndcg@10"]["mean"] == pytest.approx(report["ndcg@10"].mean, abs=1e-6)
    assert second["settings"] == {"mode": "hybrid"}
    assert said["comparisons"][0]["name"] == "hybrid"
    assert said["questions"][0] == {"id": report.questions[0].id, "text": report.questions[0].text}
    assert said["provenance"]["space"]["model"] == "bag of words"
    assert said["provenance"]["judgements"]["questions"] == 30
    assert said["floor"]["suggested"]["floor"] == report.floor.suggested.floor if report.floor else False


def test_wrong_and_unjudged_results_are_distinguished(page: Page, report: Report) -> None:
    grades = {shown.grade for changed in report.changed for shown in (*changed.first, *changed.second)}
    assert {1, None} <= grades
    assert "not judged" in page.text


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.41, 0.62, ["0.40", "0.45", "0.50", "0.55", "0.60", "0.65"]),
        (-0.03, 0.11, ["-0.05", "0", "0.05", "0.10", "0.15"]),
        (0.5, 0.5, ["0.494", "0.496", "0.498", "0.500", "0.502", "0.504", "0.506"]),
        (-0.121, 0.118, ["-0.15", "-0.10", "-0.05", "0", "0.05", "0.10", "0.15"]),
    ],
)
def test_axes_have_round_numbers(low: float, high: float, ticks: list[str]) -> None:
    scale = Scale.around([Estimate(low, low, high)])
    assert [said for _, said in scale.ticks] == ticks
    assert scale.at(scale.low) == "0.00%"
    assert scale.at(9) == "100.00%"
