"""`harrier search` for readers and scripts: entries, sentences, sessions, exit codes."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from terminals import seen_on_a_terminal

Run = Callable[..., subprocess.CompletedProcess[str]]

BREAD = "Bread rises because yeast turns sugar into gas. "
LONG = BREAD + "".join(f"Sentence {number} is about nothing much at all. " for number in range(40)) + "Yeast is alive. "


@pytest.fixture
def place(call: Run, tmp_path: Path) -> str:
    """Return an index of a folder with a long and a short file, and of rows with pages and headings."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "bread.txt").write_text(LONG, encoding="utf-8")
    (folder / "river.txt").write_text("Rivers carry sand to the sea.", encoding="utf-8")
    rows: list[dict[str, Any]] = [
        {"id": "doc", "text": "Penguins swim in cold water.", "page": 12, "title": "Birds", "heading": "Birds › South"},
        {"id": "code", "text": "def penguin(): pass", "line": 42},
        {"id": "tokyo", "text": "東京の天気は晴れです。明日は雨が降るでしょう。"},
    ]
    place = f"qdrant:{tmp_path}/q"
    call("ingest", "notes", "--to", place, "--chunk-tokens", "40")
    for row in rows:
        metadata = [each for name in row.keys() - {"id", "text"} for each in ("--metadata", name)]
        call("ingest", "-", "--to", place, "--format", "jsonl", "--id", "id", *metadata, given=json.dumps(row))
    return place


def test_one_entry_per_record(call: Run, place: str) -> None:
    """It has the path, whole sentences and the number of other chunks, without colours in a pipe."""
    lines = call("search", "yeast turns sugar", "--in", place, "-k", "2").stdout.splitlines()
    assert lines[0].startswith(f"{Path('notes', 'bread.txt')}:1  0.")
    assert lines[1].startswith("    Bread rises because yeast turns sugar into gas. Sentence 0")
    assert re.match(r"    \+ \d more in it: line 1, …$", lines[2])
    assert lines[3] == ""
    assert len([line for line in lines if line.startswith(str(Path("notes", "bread.txt")))]) == 1
    assert "\x1b" not in "".join(lines)


def test_pages_lines_and_headings(call: Run, place: str) -> None:
    shown = call("search", "penguins in cold water", "--in", place, "-k", "1").stdout.splitlines()
    assert shown[0].startswith("doc  page 12  0.")
    assert shown[1:] == ["    Birds › South", "    Penguins swim in cold water."]
    assert call("search", "def penguin pass", "--in", place, "-k", "1").stdout.startswith("code:42  ")


def test_whole_chunks(call: Run, place: str) -> None:
    """--full shows the whole chunk, and -C also its neighbours."""
    one = call("search", "yeast turns sugar", "--in", place, "-k", "1", "--full").stdout
    more = call("search", "yeast turns sugar", "--in", place, "-k", "1", "-C", "1").stdout
    all_of_it = call("search", "yeast turns sugar", "--in", place, "-k", "1", "-C", "99").stdout
    assert len(one) < len(more) < len(all_of_it)
    assert " ".join(LONG.split()) in " ".join(all_of_it.split())


@pytest.mark.slow
def test_pages_of_results(call: Run, place: str) -> None:
    """The second page continues the first; -k counts records, or chunks with --json."""

    def found(*options: str) -> list[str]:
        lines = call("search", "yeast sugar sand", "--in", place, *options).stdout.splitlines()
        return [line.split()[0] for line in lines if line and not line.startswith(" ")]

    assert found("-k", "1") + found("-k", "1", "--offset", "1") == found("-k", "2")
    matches = json.loads(call("search", "yeast", "--in", place, "-k", "3", "--json", "--exact").stdout)
    assert len(matches) == 3
    assert {"id", "record_id", "number", "score", "text", "metadata", "start", "end", "cosine"} < matches[0].keys()
    assert matches[0]["path"] == str(Path("notes", "bread.txt"))


def test_nothing_found(call: Run, place: str) -> None:
    """There is a line on standard error and exit code 1; JSON is an empty list."""
    told = call("search", "yeast", "--in", place, "--min-score", "1.5", code=1)
    assert (told.stdout, told.stderr) == ("", "nothing found with a score of at least 1.5\n")
    told = call("search", "yeast", "--in", place, "--where", '{"page": 99}', "--json", code=1)
    assert (told.stdout, told.stderr) == ("[]\n", "nothing found\n")
    told = call("search", "yeast", "--in", place, "--where", '{"page": 99}', "-q", code=1)
    assert (told.stdout, told.stderr) == ("", "")


def test_questions_from_a_pipe(call: Run, place: str) -> None:
    """There is one per line, the model is loaded once, and a bad question is reported."""
    told = call("search", "--in", place, "-k", "1", given="yeast\n\n  sand to the sea \n")
    assert [line for line in told.stdout.splitlines() if line.startswith(">")] == ["> yeast", "> sand to the sea"]
    told = call("search", "--in", place, "-k", "1", "--json", given=b"yeast\n\xff\npenguins\n", code=1)
    first, second, third = (json.loads(line) for line in told.stdout.splitlines())
    assert first["question"] == "yeast"
    assert first["matches"][0]["record_id"] == "notes/bread.txt"
    assert "lone surrogate" in second["error"]
    assert third["matches"][0]["record_id"] == "doc"
    assert "no question" in call("search", "--in", place, given="\n", code=2).stderr


def test_the_model_of_the_index(
    call: Run, place: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index in a folder is searched with the model that created it, if available."""
    found = call("search", "yeast", "--in", place, "--json").stdout
    monkeypatch.delenv("HARRIER_MODEL")
    assert call("search", "yeast", "--in", place, "--json").stdout == found
    assert call("verify", place).stdout.endswith("all sound\n")
    refused = call("search", "yeast", "--in", "qdrant://127.0.0.1:1/docs", code=2)
    assert refused.stderr.startswith("error: no model is given")
    assert environment["HARRIER_MODEL"]


@pytest.mark.slow
def test_on_a_terminal(command: list[str], environment: dict[str, str], place: str, tmp_path: Path) -> None:
    """Words are highlighted, lines are wrapped, and entries are limited to five lines."""
    arguments = [*command, "search", "yeast turns sugar", "--in", place, "-k", "1", "--quiet"]
    shown = seen_on_a_terminal(arguments, environment, tmp_path, columns=60)
    assert "\x1b[1;31myeast\x1b[0m" in shown
    plain = seen_on_a_terminal([*arguments, "--color", "never"], environment, tmp_path, columns=60).splitlines()
    assert "\x1b" not in "".join(plain)
    assert 3 <= len(plain) <= 5
    assert max(map(len, plain)) <= 60


@pytest.mark.slow
def test_wide_characters_on_a_terminal(
    command: list[str], environment: dict[str, str], place: str, tmp_path: Path
) -> None:
    """Each takes two cells when lines are wrapped."""
    arguments = [*command, "search", "東京の天気", "--in", place, "-k", "1", "--full", "--color", "never", "--quiet"]
    lines = seen_on_a_terminal(arguments, environment, tmp_path, columns=40).splitlines()
    assert [line.strip() for line in lines[1:3]] == ["東京の天気は晴れです。明日は雨が降る", "でしょう。"]


def test_a_session_on_a_terminal(command: list[str], environment: dict[str, str], place: str, tmp_path: Path) -> None:
    """There is a prompt for each question, until Ctrl-D."""
    arguments = [*command, "search", "--in", place, "-k", "1"]
    shown = seen_on_a_terminal(arguments, environment, tmp_path, columns=80, typed=["sand\n", "penguins\n", "\x04"])
    assert shown.count("> ") >= 3
    assert "river.txt" in shown
    assert "doc" in shown


def test_always_in_colours(call: Run, place: str) -> None:
    """--color always works in a pipe, without wrapping or shortening."""
    lines = call("search", "yeast turns sugar", "--in", place, "-k", "1", "--color", "always").stdout.splitlines()
    assert "\x1b[1;31myeast\x1b[0m" in lines[1]
    assert len(lines) == 3
