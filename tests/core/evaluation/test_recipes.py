"""Questions generated from an index's records: kinds, number, and exclusions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from judging import Bag

from harrier_core import Chunking, Contents, Index, Record, SettingError
from harrier_core.evaluation import Judgements, cautions, evaluate, make_questions
from harrier_core.testing import MemoryStore

BODY = " ".join(f"filler{number}" for number in range(30))


def body(number: int) -> str:
    return " ".join(f"word{number}x{at}" for at in range(30)).replace("0", "o").replace("1", "l").translate(_LETTERS)


_LETTERS = str.maketrans("23456789", "abcdefgh")

RECORDS = [
    Record("titled", f"{body(1)}", {"title": "A handbook of bread"}),
    Record("first line", f"# How rivers carry sand\n{body(2)}"),
    Record("twice a", f"Frequently asked questions\n{body(3)}"),
    Record("twice b", f"Frequently asked questions\n{body(4)}"),
    Record("code", f"{body(5)}\nIt failed with (ERR_CONN_1042), and KB5034441."),
    Record("code too", f"{body(6)}\nKB5034441 is known."),
    Record("copy a", f"A text that is there two times\n{BODY} AB-1234/5."),
    Record("copy b", f"A text that is there two times.\n{BODY}"),
    Record("short", "Only a title"),
]


@pytest.fixture
def index() -> Iterator[Index]:
    with Index(MemoryStore(keywords=True), Bag(), chunking=Chunking(tokens=24)) as index:
        index.ingest(RECORDS)
        assert index.count() > len(RECORDS)
        yield index


def test_titles_and_rare_codes(index: Index) -> None:
    """Questions come from unique records without near duplicates, and no model is used."""
    encoder = index.encoder
    assert isinstance(encoder, Bag)
    made = make_questions(Contents(index.store), 50)
    assert {(each.text, each.metadata["made"], *each.relevant) for each in made} == {
        ("A handbook of bread", "title", "titled"),
        ("How rivers carry sand", "title", "first line"),
        ("ERR_CONN_1042", "identifier", "code"),
    }
    overlaps = {each.relevant[0]: each.metadata["overlap"] for each in made}
    assert overlaps == {"titled": 0.0, "first line": 1.0, "code": 1.0}
    assert encoder.asked == []


def test_questions_are_reproducible_and_can_be_edited(index: Index, tmp_path: Path) -> None:
    made = make_questions(index, 2)
    assert list(made) == list(make_questions(index, 2))
    assert len(made) == 2
    made.save(tmp_path / "q.jsonl")
    report = evaluate(index, Judgements.load(tmp_path / "q.jsonl"), compare=["keyword"], latency=0)
    assert report.comparison("keyword").questions == 2
    assert any(note.startswith("1 of 2 questions were made of the records: titles show") for note in report.notes)


def test_a_user_supplied_model(index: Index) -> None:
    """It returns any number of questions per record, and borrowed words are reported."""
    read: list[str] = []

    def ask(text: str) -> list[str] | str | None:
        read.append(text)
        words = text.split()
        return None if "rivers" in text else [f"what is {words[0]} {words[1]} {words[2]}", " "]

    made = make_questions(index, 4, ask=ask)
    assert len(made) == 4
    assert all(each.metadata["made"] == "asked" and each.metadata["overlap"] >= 0.6 for each in made)
    assert len(read) < len(RECORDS)
    said = cautions(list(made))
    assert said[0].startswith("4 of 4 questions were made of the records: questions that a model wrote")
    assert said[1] == "half of those that a model wrote take at least 60 % of their words from their record"


def test_no_usable_records() -> None:
    with Index(MemoryStore(), Bag()) as index:
        index.ingest([Record("a", "short")])
        with pytest.raises(SettingError, match="no question could be made"):
            make_questions(index)
        with pytest.raises(SettingError, match="number must be an integer of at least 1, got 0"):
            make_questions(index, 0)
