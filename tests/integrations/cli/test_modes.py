"""`harrier search --mode`, `ingest --keywords` and `keywords`: keyword and hybrid search, missing words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from harrier_core import Encoder, VectorStore
from harrier_core.testing import MemoryStore

Run = Callable[..., subprocess.CompletedProcess[str]]

ROWS = [
    {"id": "one", "text": "A connection was refused: ERR_CONN_1042."},
    {"id": "two", "text": "A connection was refused: ERR_CONN_1043."},
    {"id": "bread", "text": "Bread rises because yeast turns sugar into gas."},
]
GIVEN = "".join(json.dumps(row) + "\n" for row in ROWS)
INGEST = ("ingest", "-", "--format", "jsonl", "--id", "id", "--to")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, VectorStore]:
    """Return stores in memory under URLs mem:NAME for the duration of a test."""
    stores: dict[str, VectorStore] = {}

    def opened(url: str) -> VectorStore:
        name, _, query = url.partition("?")
        return stores.setdefault(name, MemoryStore(keywords=query == "keywords=true"))

    monkeypatch.setattr(EntryPoint, "load", lambda _: opened)
    monkeypatch.setattr("harrier_core.opening.entry_points", lambda **_: [EntryPoint("mem", "", "harrier.stores")])
    return stores


@pytest.fixture
def place(call: Run, memory: dict[str, VectorStore]) -> str:
    """Return an index with words."""
    call(*INGEST, "mem:a", "--keywords", given=GIVEN)
    assert memory["mem:a"].describe().keywords
    return "mem:a"


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the tasks of all queries that a model encodes."""
    asked: list[str] = []
    encode = Encoder.encode_queries

    def listening(encoder: Encoder, texts: Any, **how: Any) -> Any:
        asked.extend(encoder.prompt(text, task=how.get("task")) for text in texts)
        return encode(encoder, texts, **how)

    monkeypatch.setattr(Encoder, "encode_queries", listening)
    return asked


def ids(told: subprocess.CompletedProcess[str]) -> list[str]:
    return [each["record_id"] for each in json.loads(told.stdout)]


def test_keyword_search(call: Run, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is named or loaded, and the matches contain the words."""
    monkeypatch.delenv("HARRIER_MODEL")
    monkeypatch.setattr(Encoder, "__init__", None)  # creating an Encoder fails
    by_word = ("search", "--in", place, "--mode", "keyword")
    told = call(*by_word, "err-conn-1043", "--json")
    assert ids(told) == ["two", "one"]
    assert [each["cosine"] for each in json.loads(told.stdout)] == [None, None]
    assert "refused: ERR_CONN_1043" in call(*by_word, "err-conn-1043", "-k", "1").stdout
    assert call(*by_word, "zeppelin", code=1).stderr == "nothing found\n"
    assert ids(call(*by_word, "refused", "--json", "--where", '{"nope": 1}', code=1)) == []
    assert len(ids(call(*by_word, "refused", "--json", "--offset", "1"))) == 1
    assert ids(call(*by_word, "refused", "--json", "--min-score", "1e9", code=1)) == []
    session = call(*by_word, "--json", given="1042\nzeppelin\nyeast\n", code=1).stdout.splitlines()
    assert [[each["record_id"] for each in json.loads(line)["matches"]] for line in session] == [["one"], [], ["bread"]]


def test_hybrid_search(call: Run, place: str, prompts: list[str]) -> None:
    """The query keeps its instruction, and words have the given weight."""
    by_both = ("search", "--in", place, "--mode", "hybrid", "--json")
    assert ids(call(*by_both, "ERR_CONN_1043"))[0] == "two"
    assert prompts == [
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ERR_CONN_1043"
    ]
    assert ids(call(*by_both, "yeast 1042", "--keyword-weight", "100", "--task", "sts_query"))[0] in ("one", "bread")
    assert prompts[1].startswith("Instruct: Retrieve semantically similar text\n")
    assert len(ids(call(*by_both, "yeast"))) == 3


def test_precedence_of_the_mode(call: Run, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An option overrides the environment, which overrides the file."""
    found = ("search", "yeast", "--in", place, "--json")
    assert len(ids(call(*found))) == 3
    (tmp_path / "harrier.toml").write_text('mode = "keyword"\n', encoding="utf-8")
    assert ids(call(*found)) == ["bread"]
    assert len(ids(call(*found, "--mode", "dense"))) == 3
    monkeypatch.setenv("HARRIER_MODE", "hybrid")
    assert len(ids(call(*found))) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--mode", "sparse"], "--mode must be one of dense, keyword, hybrid, got 'sparse'"),
        (["--keyword-weight", "2"], "--keyword-weight needs --mode hybrid, got --mode dense"),
        (["--mode", "keyword", "--keyword-weight", "2"], "--keyword-weight needs --mode hybrid, got --mode keyword"),
        (["--mode", "hybrid", "--keyword-weight", "-1"], "keyword_weight must be a number of at least 0"),
    ],
)
def test_invalid_modes(call: Run, place: str, options: list[str], said: str) -> None:
    assert said in call("search", "yeast", "--in", place, *options, code=2).stderr


def test_an_index_without_words(call: Run, memory: dict[str, VectorStore], monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the remedy, which needs no model; a second call does nothing."""
    call(*INGEST, "mem:b", given=GIVEN)
    assert "keywords no, 'harrier keywords' adds them\n" in call("info", "mem:b").stdout
    for mode in ("keyword", "hybrid"):
        told = call("search", "yeast", "--in", "mem:b", "--mode", mode, code=3).stderr
        assert "`harrier keywords PLACE`" in told
    told = call(*INGEST, "mem:b", "--keywords", given=GIVEN, code=3).stderr
    assert "created without --keywords; run `harrier keywords PLACE` to add the words of its texts" in told
    monkeypatch.delenv("HARRIER_MODEL")
    place = str(memory["mem:b"])
    done = call("keywords", "mem:b")
    assert (done.stdout, done.stderr) == (f"{place} has the words of its texts now: 3 chunks\n", "")
    assert call("keywords", "mem:b").stdout == f"{place} already has the words of its texts\n"
    assert "keywords yes\n" in call("info", "mem:b").stdout
    assert json.loads(call("info", "mem:b", "--json").stdout)["keywords"] is True
    again = json.loads(call("keywords", "mem:b", "--json").stdout)
    assert again == {"place": place, "chunks": 3, "added": False}
    assert ids(call("search", "yeast", "--in", "mem:b", "--mode", "keyword", "--json")) == ["bread"]


def test_a_missing_index(call: Run, memory: dict[str, VectorStore]) -> None:
    for command in (["keywords", "mem:c"], ["search", "yeast", "--in", "mem:c", "--mode", "keyword"]):
        assert "ingest something into it first" in call(*command, code=3).stderr
    assert call("keywords", code=2).stderr.startswith("error: no index is given")
    assert memory["mem:c"].space() is None


def test_an_interrupted_run(call: Run, memory: dict[str, VectorStore], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says that the next run continues."""
    call(*INGEST, "mem:d", given=GIVEN)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MemoryStore, "add_keywords", interrupted)
    assert "run the same command again to continue" in call("keywords", "mem:d", code=130).stderr
    assert memory["mem:d"].describe().keywords is False


# -- stores of adapters


@pytest.mark.parametrize("url", ["qdrant:{}/q?collection=docs", "pgvector:{}/pg?table=docs"])
def test_in_a_folder(call: Run, environment: dict[str, str], tmp_path: Path, url: str) -> None:
    """The option or the URL enables words, and a keyword search imports neither torch nor a tokenizer."""
    place = url.format(tmp_path)
    call(*INGEST, f"{place}&keywords=true", given=GIVEN)
    call(*INGEST, place, "--keywords", given=GIVEN)
    assert "keywords yes\n" in call("info", place).stdout
    program = (
        "import sys; from harrier_cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'transformers', 'tokenizers'} & sys.modules.keys()"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, "search", "1043", "--in", place, "--mode", "keyword", "--json"],
        check=True, capture_output=True, text=True, env={**environment, "HARRIER_MODEL": ""}, cwd=os.fspath(tmp_path),
    )  # fmt: skip
    assert ids(found) == ["two"]
    assert ids(call("search", "ERR_CONN_1042", "--in", place, "--mode", "hybrid", "--json"))[0] == "one"
