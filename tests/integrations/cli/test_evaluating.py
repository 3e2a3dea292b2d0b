"""`harrier eval` for users and for CI: tables, JSON, pages, exit codes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from judging import SPOKEN, WRONGLY_SPOKEN, library

from harrier_core import Encoder, Hnsw, Index, Record
from harrier_core.evaluation import Run as Results

Run = Callable[..., subprocess.CompletedProcess[str]]

RECORDS, JUDGEMENTS = library(120, 30, words=SPOKEN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return judgements in BEIR format."""
    folder = tmp_path_factory.mktemp("judged")
    JUDGEMENTS.save(folder)
    return folder


def made(postgres: str, table: str, model: Path) -> str:
    """Return the place of an index of the records with words."""
    place = f"{postgres}&table={table}&keywords=true"
    with Encoder(str(model)) as encoder, Index(place, encoder) as index:
        index.ingest(RECORDS)
    return place


@pytest.fixture(scope="module")
def place(postgres: str, built: Callable[..., Path]) -> str:
    return made(postgres, "judged", built("qwen3", vectors="words"))


def test_a_table_a_page_and_runs(call: Run, place: str, folder: Path, tmp_path: Path) -> None:
    """Verdicts are in words, and a page and TREC runs are written."""
    compare = ["--compare", "no-instruction", "--compare", "hybrid", "--compare", f"instruction={WRONGLY_SPOKEN}"]
    more = ["--report", "page.html", "--runs", "runs", "--slice", "lang", "--compare", "exact"]
    told = call("eval", place, "--judgements", str(folder), *compare, *more)
    lines = told.stdout.splitlines()
    assert lines[0].startswith("30 questions asked of postgresql://")
    names = ["as it is", "no-instruction", "hybrid", "task about adult answer…", "exact"]
    assert [line.split("  ")[0] for line in lines[3:8]] == names
    assert max(map(len, lines[2:8])) <= 90
    assert "  exact: the same for all 30 questions" in lines
    assert [line for line in lines if line.startswith("  task about adult") and ": worse, -0." in line]
    assert any(line.startswith("  lang: en") for line in lines)
    assert told.stderr == "wrote page.html\nwrote 5 runs to runs\n"
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert len(Results.load(tmp_path / "runs" / "hybrid.trec")) == 30


def test_a_release_that_got_worse_is_stopped(call: Run, place: str, folder: Path, tmp_path: Path) -> None:
    """Limits and a baseline detect it; JSON of one run is the next one's baseline."""
    arguments = ["eval", place, "--judgements", str(folder)]
    first = call(*arguments, "--json", "--aggregate-only", "--fail-below", "ndcg@10=0.2").stdout
    assert SPOKEN[50] not in first
    (tmp_path / "last.json").write_text(first, encoding="utf-8")
    same = call(*arguments, "--baseline", "last.json")
    assert same.stdout.endswith("  recall@100: the same for all 30 questions\n")
    worse = call(*arguments, "--baseline", "last.json", "--instruction", WRONGLY_SPOKEN, code=1)
    assert "  ndcg@10: worse, -0." in worse.stdout
    assert worse.stderr.startswith("below the limit: ndcg@10 is worse than the baseline's: -0.")
    low = call(*arguments, "--json", "--fail-below", "ndcg@10=0.99", "--fail-below", "mrr@3=0.1", "-q", code=1)
    assert low.stderr.startswith("below the limit: ndcg@10 is 0.")
    assert "mrr@3" in json.loads(low.stdout)["systems"][0]["metrics"]


@pytest.fixture(scope="module")
def graph(postgres: str, built: Callable[..., Path]) -> str:
    """Return an index of 1,100 records with a sparse HNSW graph."""
    records, _ = library(1_100, words=SPOKEN)
    store = PgVectorStore(postgres, table="graph", hnsw=Hnsw(m=2, ef_construction=4))
    with Encoder(str(built("qwen3", vectors="words"))) as encoder, Index(store, encoder) as index:
        index.ingest(records)
        assert index.describe().indexed
    return f"{postgres}&table=graph"


@pytest.mark.slow
def test_a_damaged_index_is_stopped(call: Run, graph: str, tmp_path: Path) -> None:
    """A wrong instruction, a poor graph and shuffled vectors fail; a sound index passes."""
    library(1_100, 60, words=SPOKEN)[1].save(tmp_path / "q.jsonl")
    arguments = ["eval", graph, "--judgements", "q.jsonl", "-k", "10", "--json", "-q"]
    (tmp_path / "last.json").write_text(call(*arguments, "--ef", "1000").stdout, encoding="utf-8")
    gate = [*arguments, "--baseline", "last.json"]
    assert call(*gate, "--ef", "1000").stderr == ""
    for spoiled in (["--ef", "1000", "--instruction", WRONGLY_SPOKEN], ["--ef", "1"]):
        told = call(*gate, *spoiled, code=1)
        assert "below the limit: ndcg@10 is worse than the baseline's: -0." in told.stderr
    with psycopg.connect(graph.partition("&table=")[0], autocommit=True) as connection:
        connection.execute(
            "WITH numbered AS (SELECT record_id, embedding, row_number() OVER (ORDER BY record_id) AS n FROM graph) "
            "UPDATE graph SET embedding = other.embedding FROM numbered own, numbered other "
            "WHERE graph.record_id = own.record_id AND other.n = own.n % 1100 + 1"
        )
    told = call(*gate, "--exact", code=1)
    assert "below the limit: ndcg@10 is worse than the baseline's: -0." in told.stderr


def test_make_questions(
    call: Run, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: Callable[..., Path]
) -> None:
    """They are written or printed with their limitations, and no model is loaded."""
    place = f"{postgres}&table=chapters"
    with Encoder(str(built("qwen3", vectors="words"))) as encoder, Index(place, encoder) as index:
        for number, name in enumerate(["alpha", "beta", "gamma", "delta"]):
            text = f"Chapter {name} begins\n{' '.join([name] * 5)} {RECORDS[number].text * 3} E-{number}042x"
            index.ingest([Record(f"page {number}", text)])
    with monkeypatch.context() as without:
        without.setattr("harrier_core.Encoder.encode_queries", None)
        told = call("eval", place, "--make-questions", "--judgements", "new.jsonl", "--questions", "6")
    assert "wrote 6 questions to new.jsonl" in told.stderr
    assert "identifiers show whether a rare code finds the only record that has it" in told.stderr
    made = [json.loads(line) for line in (tmp_path / "new.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {each["metadata"]["made"] for each in made} == {"title", "identifier"}
    printed = call("eval", place, "--make-questions", "--questions", "6", "-q")
    assert [json.loads(line) for line in printed.stdout.splitlines()] == made
    refused = call("eval", place, "--make-questions", "--judgements", "new.jsonl", code=2)
    assert "writes a new .jsonl file" in refused.stderr
    assert "6 of 6 questions were made" not in call("eval", place, "--judgements", "new.jsonl").stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no questions are given; pass --judgements, or create some with --make-questions"),
        (["--judgements", "nowhere"], "there are no judgements at nowhere"),
        (["--judgements", "{}", "-k", "1,ten"], "-k must be integers of at least 1, such as 1,10,100, got '1,ten'"),
        (["--judgements", "{}", "--fail-below", "ndcg@10"], "a limit must be a metric and a number from 0 to 1"),
        (["--judgements", "{}", "--compare", "nonsense"], "a system must be no-instruction, tasks"),
        (["--judgements", "{}", "--baseline", "nowhere"], "the baseline nowhere cannot be read"),
        (["--judgements", "{}", "--report", "nowhere/page.html"], "--report: there is no folder nowhere"),
        (["--judgements", "{}", "--task", "nonsense"], "unknown task 'nonsense'"),
        (["--judgements", "{}", "--mode", "sparse"], "--mode must be one of dense, keyword, hybrid, got 'sparse'"),
    ],
)
def test_wrong_usage(call: Run, place: str, folder: Path, options: list[str], said: str) -> None:
    told = call("eval", place, *(each.format(folder) for each in options), code=2)
    assert told.stderr.startswith(f"error: {said}")
    assert told.stdout == ""


def test_another_index_with_its_own_model(
    call: Run, place: str, folder: Path, postgres: str, built: Callable[..., Path]
) -> None:
    model = built("gemma3", vectors="words")
    other = made(postgres, "another", model)
    compare = f"model={model},index={other}"
    told = call("eval", place, "--judgements", str(folder), "--compare", compare, "--json")
    first, second = json.loads(told.stdout)["systems"]
    assert second["settings"]["index"].endswith(f"({model})")
    assert first["metrics"]["recall@100"]["mean"] > 0.5 < second["metrics"]["recall@100"]["mean"]
