"""The demo, as it is run; its sample, and what it says of itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harrier_cli.demo import Question, main, open_encoder, passages, questions, recall
from rich.cells import cell_len

from harrier_core import Encoder, Index, ModelDamaged
from harrier_core.testing import MemoryStore


@pytest.fixture
def words(built: Callable[..., Path]) -> str:
    """The folder of a model that compares texts by their words."""
    return str(built("qwen3", vectors="words"))


# -- the sample


def test_passages() -> None:
    """Short, many, each once, in many languages and scripts."""
    sample = passages()
    assert len(sample) >= 60
    assert len({record.id for record in sample}) == len({record.text for record in sample}) == len(sample)
    assert all(record.text == record.text.strip() and 10 < len(record.text) < 300 for record in sample)
    assert all(record.id.endswith(f"-{record.metadata['lang']}") for record in sample)
    letters = {letter for record in sample for letter in record.text if letter.isalpha()}
    assert {unicodedata.name(letter).split()[0] for letter in letters} >= {
        *("LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "THAI", "CJK", "HIRAGANA", "HANGUL")
    }
    assert len({record.metadata["lang"] for record in sample}) >= 20


def test_every_text_is_in_the_script_of_its_language() -> None:
    """A row in a wrong column would show."""
    scripts = {
        "ar": "ARABIC",
        "el": "GREEK",
        "he": "HEBREW",
        "hi": "DEVANAGARI",
        "ja": "HIRAGANA",
        "ko": "HANGUL",
        "ru": "CYRILLIC",
        "th": "THAI",
        "uk": "CYRILLIC",
        "zh": "CJK",
    }
    texts = [(record.metadata["lang"], record.text) for record in passages()]
    for lang, text in [*texts, *((question.lang, question.text) for question in questions())]:
        found = {unicodedata.name(letter).split()[0] for letter in text if letter.isalpha()}
        assert scripts.get(lang, "LATIN") in found, text
        assert lang in scripts or found == {"LATIN"}, text


def test_questions() -> None:
    """Many, each once, and every answer is a passage; some are answered in other languages only."""
    asked, lang_of = questions(), {record.id: record.metadata["lang"] for record in passages()}
    assert len(asked) == len({question.text for question in asked}) >= 25
    for question in asked:
        assert question.answers
        assert len(set(question.answers)) == len(question.answers)
        assert set(question.answers) <= set(lang_of)
    foreign = [question for question in asked if question.lang not in {lang_of[id_] for id_ in question.answers}]
    assert len(foreign) >= 10
    assert max(Counter(question.lang for question in asked).values()) < len(asked)


def test_the_same_is_said_in_several_languages() -> None:
    """Most topics have passages in two languages or more; some passages answer nothing and sound as if they did."""
    topics = Counter(record.id.rpartition("-")[0] for record in passages())
    assert sum(count > 1 for count in topics.values()) >= 20
    answers = {id_ for question in questions() for id_ in question.answers}
    decoys = [record for record in passages() if record.id.startswith("ask-")]
    assert len(decoys) >= 5
    assert not {record.id for record in decoys} & answers


# -- figures


def test_recall() -> None:
    """A share of each question's answers, averaged: worked out by hand."""
    asked = [Question("a", "en", ("1", "2")), Question("b", "en", ("3",))]
    rankings = [["1", "9", "2"], ["9", "8", "3"]]
    assert recall(rankings, asked, 1) == (1 / 2 + 0) / 2
    assert recall(rankings, asked, 2) == (1 / 2 + 0) / 2
    assert recall(rankings, asked, 3) == 1


# -- the model


def test_the_model_is_what_one_asks_for(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument before the environment, and the environment before the default."""
    monkeypatch.setenv("HARRIER_MODEL", words)
    assert repr(open_encoder(tmp_path)) == repr((Encoder(words), None))
    monkeypatch.setenv("HARRIER_MODEL", "nowhere/nothing")
    assert open_encoder(tmp_path, words)[1] is None


def test_a_stand_in_where_there_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason, whichever way the model was named."""
    encoder, missing = open_encoder(tmp_path, "nowhere")
    assert "'nowhere' is not a folder" in str(missing)
    assert encoder.space.model == str(tmp_path / "stand-in")
    monkeypatch.setenv("HARRIER_MODEL", "nothing")
    assert "'nothing' is not a folder" in str(open_encoder(tmp_path)[1])


def test_a_damaged_model_is_not_replaced(words: str, tmp_path: Path) -> None:
    """A stand-in is for a model that is not there, and hides nothing else."""
    folder = tmp_path / "damaged"
    shutil.copytree(words, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelDamaged):
        open_encoder(tmp_path, str(folder))


def test_what_is_said_of_the_stand_in_is_so(words: str) -> None:
    """Its two rankings begin alike; and what repeats a question's words is found before the answer."""
    with Encoder(words) as encoder, Index(MemoryStore(), encoder) as index:
        index.ingest(passages())
        texts = [question.text for question in questions()]
        instructed, bare = index.search_many(texts, k=3), index.search_vectors(encoder.encode_documents(texts), k=3)
        for one, other in zip(instructed, bare, strict=True):
            assert [match.record_id for match in one] == [match.record_id for match in other]
            assert all(abs(a.score - b.score) < 0.01 for a, b in zip(one, other, strict=True))
        assert index.search("Why is the sky blue?", k=1)[0].record_id == "ask-sky-en"


# -- what is printed


def test_the_demo_without_a_model(tmp_path: Path) -> None:
    """It says that a stand-in answers and what that cannot show, within the terminal's width."""
    offline = {"COLUMNS": "80", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    environment = {name: value for name, value in os.environ.items() if name != "HARRIER_MODEL"} | offline
    command = [sys.executable, "-X", "utf8", "-m", "harrier_cli.demo"]
    done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", env=environment, timeout=100)
    assert done.returncode == 0, done.stderr
    # A break that is not the prompt's own would mislead.
    lines = [line for line in done.stdout.splitlines() if not line.startswith("    Instruct: ")]
    assert max(map(cell_len, lines)) <= 80
    shown = " ".join(done.stdout.split())
    assert "The hub cannot be reached" in shown
    assert "So a stand-in answers." in shown
    assert "of Harrier this shows nothing" in shown
    assert "Instruct: Given a web search query, retrieve relevant passages that answer the query Query: Why is" in shown


ROW = re.compile(r" *(\d+) +(-?\d\.\d{3}) +(\d+) +(-?\d\.\d{3}) +(✓?) *(.*?) *")


def test_the_demo_shows_what_is_so(
    built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scores, places and ticks are those of the query and of the bare question, as the Encoder alone gives them."""
    monkeypatch.setenv("COLUMNS", "400")  # a passage a line
    model = str(built("qwen3"))  # to which an instruction makes a difference
    main(model)
    lines = capsys.readouterr().out.splitlines()
    sample, asked = passages(), {question.text: question for question in questions()}
    with Encoder(model) as encoder:
        documents = encoder.encode_documents([record.text for record in sample])
        instructed, bare = encoder.encode_queries(asked) @ documents.T, encoder.encode_documents(asked) @ documents.T
    seen = 0
    for line in lines:
        if line in asked:
            question, number = asked[line], [*asked].index(line)
        elif row := ROW.fullmatch(line):
            [at] = [at for at, record in enumerate(sample) if record.text == row[6]]
            for place, score, scores in ((row[1], row[2], instructed[number]), (row[3], row[4], bare[number])):
                assert abs(float(score) - scores[at]) < 3e-3  # in half precision, and rounded
                assert (scores > scores[at] + 3e-3).sum() < int(place) <= (scores > scores[at] - 3e-3).sum()
            assert (row[5] == "✓") == (sample[at].id in question.answers)
            seen += 1
    assert seen >= 4 * 3
    assert not any("stand-in" in line for line in lines)


def test_the_demo_counts_what_is_found(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its table of recall, worked out again from vectors alone; and all of it within the terminal's width."""
    monkeypatch.setenv("COLUMNS", "120")
    main(words)
    shown = capsys.readouterr().out
    assert max(map(cell_len, shown.splitlines())) <= 120
    found = dict(re.findall(r"^ (with|without|at best) +(\d\.\d\d +\d\.\d\d)", shown, re.MULTILINE))
    asked, sample = questions(), passages()
    texts = [question.text for question in asked]
    with Encoder(words) as encoder:
        documents = encoder.encode_documents([record.text for record in sample])
        order = np.argsort(-(encoder.encode_queries(texts) @ documents.T), axis=1)
    rankings = {
        "with": [[sample[at].id for at in row] for row in order],
        "at best": [list(question.answers) for question in asked],
    }
    for name, ranking in rankings.items():
        assert found[name].split() == [f"{recall(ranking, asked, k):.2f}" for k in (1, 3)]
    assert set(found) == {"with", "without", "at best"}
