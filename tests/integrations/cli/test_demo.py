"""The demo: its run, its sample, and its statements."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from io import StringIO
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from harrier_cli.demo import MODEL, Question, open_encoder, passages, questions, recall
from harrier_cli.demo.comparison import compare
from harrier_cli.demo.sample import write_notes, write_rows
from harrier_cli.demo.shell import CommandFailed, Shell
from harrier_cli.demo.show import CHANGED, QUESTION, ROWS
from rich.cells import cell_len
from rich.console import Console

from harrier_core import Encoder, Index, ModelDamaged, Record, open_store
from harrier_core.testing import MemoryStore


@pytest.fixture
def words(built: Callable[..., Path]) -> str:
    """Return the folder of a model that compares texts by their words."""
    return str(built("qwen3", vectors="words"))


# -- the sample


def test_passages() -> None:
    """They are short, many, unique, and in many languages and scripts."""
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
    """Values in a wrong column are detected."""
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
    """They are many and unique, and every answer is a passage; some only in other languages."""
    asked, lang_of = questions(), {record.id: record.metadata["lang"] for record in passages()}
    assert len(asked) == len({question.text for question in asked}) >= 25
    for question in asked:
        assert question.answers
        assert len(set(question.answers)) == len(question.answers)
        assert set(question.answers) <= set(lang_of)
    foreign = [question for question in asked if question.lang not in {lang_of[id_] for id_ in question.answers}]
    assert len(foreign) >= 10
    assert max(Counter(question.lang for question in asked).values()) < len(asked)


def test_topics_in_several_languages() -> None:
    """Most topics have passages in several languages, and some passages are distractors."""
    topics = Counter(record.id.rpartition("-")[0] for record in passages())
    assert sum(count > 1 for count in topics.values()) >= 20
    answers = {id_ for question in questions() for id_ in question.answers}
    decoys = [record for record in passages() if record.id.startswith("ask-")]
    assert len(decoys) >= 5
    assert not {record.id for record in decoys} & answers


# -- figures


def test_recall() -> None:
    """The mean share of each question's answers equals a value computed by hand."""
    asked = [Question("a", "en", ("1", "2")), Question("b", "en", ("3",))]
    rankings = [["1", "9", "2"], ["9", "8", "3"]]
    assert recall(rankings, asked, 1) == (1 / 2 + 0) / 2
    assert recall(rankings, asked, 2) == (1 / 2 + 0) / 2
    assert recall(rankings, asked, 3) == 1


# -- the model


def test_precedence_of_the_model(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument overrides the environment, which overrides the default."""
    monkeypatch.setenv("HARRIER_MODEL", words)
    assert repr(open_encoder(tmp_path)) == repr((Encoder(words), None))
    monkeypatch.setenv("HARRIER_MODEL", "nowhere/nothing")
    assert open_encoder(tmp_path, words)[1] is None


def test_a_stand_in_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is given, however the model was named."""
    encoder, missing = open_encoder(tmp_path, "nowhere")
    assert "'nowhere' is not a folder" in str(missing)
    assert encoder.space.model == str(tmp_path / "stand-in")
    monkeypatch.setenv("HARRIER_MODEL", "nothing")
    assert "'nothing' is not a folder" in str(open_encoder(tmp_path)[1])


def test_a_damaged_model_is_not_replaced(words: str, tmp_path: Path) -> None:
    """A stand-in only replaces a missing model."""
    folder = tmp_path / "damaged"
    shutil.copytree(words, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelDamaged):
        open_encoder(tmp_path, str(folder))


def test_statements_about_the_stand_in(words: str) -> None:
    """It compares spelling, so text that repeats the question ranks before the answer."""
    with Encoder(words) as encoder, Index(MemoryStore(), encoder) as index:
        index.ingest(passages())
        texts = [question.text for question in questions()]
        instructed, bare = index.search_many(texts, k=3), index.search_vectors(encoder.encode_documents(texts), k=3)
        for one, other in zip(instructed, bare, strict=True):
            assert [match.record_id for match in one] == [match.record_id for match in other]
        assert index.search("Why is the sky blue?", k=1)[0].record_id == "ask-sky-en"


# -- output

Steps = list[tuple[str, list[str]]]  # a command, and the lines below it

_DEMO = [sys.executable, "-X", "utf8", "-m", "harrier_cli", "demo"]
_REPORT = re.compile(
    r"([\d,]+) records in [^;]*; ([\d,]+) chunks? written \(([\d,]+) encoded\); ([\d,]+) unchanged, 0 deleted; "
    r"0 rejected$"
)


def shown_by(tmp_path: Path, *arguments: str, **more: str) -> str:
    """Return what the demo prints in a narrow terminal without a hub, and check that nothing is left."""
    (tmp_path / "tmp").mkdir()
    offline = {"COLUMNS": "80", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
    environment = {name: value for name, value in os.environ.items() if name != "HARRIER_MODEL"} | offline | more
    command = [*_DEMO, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", env=environment, timeout=540)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert not list((tmp_path / "tmp").glob("harrier-demo-*"))
    return done.stdout


@pytest.fixture(scope="module")
def stand_in_demo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run the demo with an unreachable hub."""
    return shown_by(tmp_path_factory.mktemp("demo"))


def steps(shown: str) -> Steps:
    """Return what 80 columns show: commands and their output, without comments."""
    found: Steps = []
    for line in shown.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("    ") and found[-1][0].endswith(" \\"):
            found[-1] = (f"{found[-1][0][:-1]}{line.strip()}", [])
        elif found and line and not line.startswith("#"):
            found[-1][1].append(line)
    return found


def report(lines: list[str]) -> list[int]:
    """Return the counts of an ingest's report: records, written, encoded, unchanged."""
    found = _REPORT.search(" ".join(lines))
    assert found, lines
    return [int(number.replace(",", "")) for number in found.groups()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_breaks_within_a_word(stand_in_demo: str) -> None:
    """In eighty columns, words that are broken across lines are complete when joined."""
    assert max(map(cell_len, stand_in_demo.splitlines())) <= 80
    shown = " ".join(stand_in_demo.split())
    assert r"retrieve relevant passages that answer the query\nQuery: Why do leaves turn yellow?" in shown
    assert "holds vectors of another space: vectors of stand-in and of other may not be compared" in shown


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stand_in_is_announced_in_one_line(stand_in_demo: str) -> None:
    """There is no failed look-up, and no comparison that means nothing."""
    lines = stand_in_demo.splitlines()
    assert lines[0] == f"# The model is {MODEL}, a download of 0.5 GB if it is not here yet."
    assert [line for line in lines if "tiny stand-in" in line] == [lines[1]]
    assert "hub" not in stand_in_demo
    assert "comparison" not in stand_in_demo


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_step_shows_what_it_says(stand_in_demo: str) -> None:
    """A right answer, runs that encode nothing or one note, a refused model, and a harmless kill."""
    (first, search, prompt, second, edit, third, refused, started, kill, resumed, verified) = steps(stand_in_demo)
    assert report(first[1]) == [80, 80, 80, 0]
    assert search[0] == f"harrier search '{QUESTION}' -k 2 --in pgvector:index"
    assert re.fullmatch(r"notes/leaves-en\.md:1  0\.\d\d", search[1][0])
    assert prompt[1][0].startswith('{"prompt": "Instruct: Given a web search query')
    assert report(second[1]) == [80, 0, 0, 80]
    assert edit == (f"echo 'And in spring they are green again.' >> notes/{CHANGED}", [])
    assert report(third[1]) == [80, 1, 1, 79]
    assert refused[0].endswith(" --model other")
    assert refused[1][0].startswith("error: table public.documents holds vectors of another space")
    assert (started[0], kill) == (f"{resumed[0]} &", ("kill -9 $!", []))
    records, written, encoded, unchanged = report(resumed[1])
    assert records == ROWS == written + unchanged
    assert 0 < unchanged < ROWS
    assert encoded == written
    assert verified[1][0].startswith(f"{ROWS:,} chunks checked, ")
    assert verified[1][0].endswith("; all sound")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_on_a_server(postgres: str, built: Callable[..., Path], tmp_path: Path) -> None:
    """With an available model it also compares; its tables, also of an earlier demo, are removed."""
    places = [f"{postgres}&table=harrier_demo_{name}" for name in ("notes", "rows")]
    with Encoder(built("gemma3")) as encoder, Index(open_store(places[0]), encoder) as index:
        index.ingest([Record("1", "left by an earlier one, of another model")])
    shown = shown_by(tmp_path, "--postgres", postgres, HARRIER_MODEL=str(built("qwen3")))
    assert "stand-in" not in shown
    assert [command.split()[0] for command, _ in steps(shown)].count("python") == 1
    assert re.search(r"^ with +\d\.\d\d", shown, re.MULTILINE)
    assert report(steps(shown)[0][1]) == [80, 80, 80, 0]
    for place in places:
        with closing(open_store(place)) as store:
            assert store.space() is None


def test_it_ends_when_a_command_fails(tmp_path: Path) -> None:
    """It shows the output, and what was expected."""
    console = Console(width=80, file=StringIO())
    with pytest.raises(CommandFailed, match="ended with exit code 2, not 0"):
        Shell(console, tmp_path, "nowhere").harrier("ingest", "nothing", "--to", "pgvector:index")
    assert isinstance(console.file, StringIO)
    assert "error: there is no nothing" in console.file.getvalue()


def test_a_long_command_is_continued(tmp_path: Path) -> None:
    """It is wrapped between words as a shell reads it."""
    console = Console(width=40, file=StringIO())
    words = ["printf", "%s,", "a question of some length", "with 'quotes'", *(f"word-{number}" for number in range(9))]
    Shell(console, tmp_path, "nowhere").type(*words)
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    assert max(map(len, shown.splitlines())) <= 40
    done = subprocess.run(["bash", "-c", shown.removeprefix("$ ")], check=True, capture_output=True, text=True)
    assert done.stdout == "".join(f"{word}," for word in words[2:])


def test_rows(tmp_path: Path) -> None:
    """Each has a unique id, and its text is a passage."""
    write_rows(tmp_path / "rows.jsonl", 200)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) == 200
    assert {row["text"] for row in rows} == {record.text for record in passages()}


# -- the comparison

ROW = re.compile(r" *(\d+) +(-?\d\.\d{3}) +(\d+) +(-?\d\.\d{3}) +(✓?) *(.*?) *")


@pytest.fixture
def compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], postgres: str, table: str, tmp_path: Path
) -> Callable[[str, int], list[str]]:
    """Return a function that gives the lines of a model's comparison at a width."""

    def compared(model: str, columns: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        place = f"{postgres}&table={quote(table)}"
        write_notes(tmp_path / "notes")
        notes = [Record(f"notes/{file.name}", file.read_text("utf-8")) for file in (tmp_path / "notes").iterdir()]
        with Encoder(model) as encoder, Index(open_store(place), encoder) as index:
            index.ingest(notes)
        compare(place, model)
        lines = capsys.readouterr().out.splitlines()
        assert max(map(cell_len, lines)) <= columns
        return lines

    return compared


def test_the_comparison_is_right(built: Callable[..., Path], compared: Callable[[str, int], list[str]]) -> None:
    """Scores, ranks and ticks equal the Encoder's, with and without the instruction."""
    model = str(built("qwen3"))  # to which an instruction makes a difference
    lines = compared(model, 400)  # a passage a line
    sample, asked = passages(), {question.text: question for question in questions()}
    with Encoder(model) as encoder:
        documents = encoder.encode_documents([f"{record.text}\n" for record in sample])
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
    assert seen >= 3 * 3


def test_the_recall_of_the_comparison(words: str, compared: Callable[[str, int], list[str]]) -> None:
    """Its table of recall equals one computed from vectors alone."""
    shown = "\n".join(compared(words, 120))
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
