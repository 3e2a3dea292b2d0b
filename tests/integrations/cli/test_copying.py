"""`harrier copy`, without any model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

ROWS = "".join(json.dumps({"id": f"r{each}", "text": f"text {each}", "n": each}) + "\n" for each in range(4))
ROWS_IN = ("--format", "jsonl", "--id", "id", "--metadata", "n")


@pytest.fixture
def filled(call: Run, place: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a place with four records, and unset the model."""
    call("ingest", "-", "--to", place, *ROWS_IN, given=ROWS)
    monkeypatch.delenv("HARRIER_MODEL")
    return place


def test_round_trip(call: Run, filled: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """A copy through a file into another kind of store encodes nothing on a new ingest."""
    would = call("copy", filled, "docs.parquet", "--plan").stdout
    assert would.startswith("to copy: 4 chunks of 4 records, about ")
    assert not (tmp_path / "docs.parquet").exists()
    told = call("copy", filled, "docs.parquet")
    assert told.stdout.startswith("4 records, 4 chunks; 4 copied, 0 unchanged, 0 deleted; 4 vectors compared, all iden")
    assert told.stderr == ""
    other = f"qdrant:{tmp_path}/other?collection=docs&keywords=true"
    done = json.loads(call("copy", "docs.parquet", other, "--json").stdout)
    assert (done["copied"], done["identical"], done["rejected"], done["problems"]) == (4, 4, [], [])
    again = json.loads(call("copy", "docs.parquet", other, "--json", "--plan").stdout)
    assert (again["copied"], again["unchanged"], again["plan"]) == (0, 4, True)
    model = environment["HARRIER_MODEL"]
    ingested = json.loads(call("ingest", "-", "--to", other, *ROWS_IN, "--json", "--model", model, given=ROWS).stdout)
    assert (ingested["unchanged"], ingested["encoded"], ingested["written"]) == (4, 0, 0)
    assert json.loads(call("info", other, "--json").stdout)["keywords"] is True
    assert call("copy", filled, "docs.parquet", "-q").stdout == ""


@pytest.mark.slow
def test_extra_records(call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are an error unless an option says what to do."""
    one, other = (f"qdrant:{tmp_path}/{name}" for name in ("one", "other"))
    call("ingest", "-", "--to", one, *ROWS_IN, given=ROWS)
    monkeypatch.delenv("HARRIER_MODEL")
    call("copy", one, other)
    call("delete", "r0", "--in", one)
    assert "has 1 record that" in call("copy", one, other, code=3).stderr
    assert "1 to be deleted" in call("copy", one, other, "--plan", "--prune").stdout
    assert "0 deleted" in call("copy", one, other, "--keep").stdout
    assert "1 deleted" in call("copy", one, other, "--prune").stdout
    assert "give only one of them" in call("copy", one, other, "--prune", "--keep", code=2).stderr


def test_invalid_copies(call: Run, tmp_path: Path) -> None:
    """Each has a reliable exit code, and nothing is created."""
    assert "there is no file" in call("copy", "none.parquet", "qdrant:q", code=3).stderr
    assert "there is no collection" in call("copy", "qdrant:q", "docs.parquet", code=3).stderr
    assert "must be two places" in call("copy", "qdrant:q", f"qdrant:{tmp_path}/q", code=2).stderr
    assert "copy a file with the system" in call("copy", "a.parquet", "b.parquet", code=2).stderr
    assert "URL must begin with one of" in call("copy", "docs.csv", "qdrant:q", code=2).stderr
    assert list(tmp_path.iterdir()) == []


def test_rejected_rows(call: Run, tmp_path: Path) -> None:
    """A row with a changed text is rejected, with exit code 1."""
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import parquet as pq

    call("ingest", "-", "--to", "qdrant:q", *ROWS_IN, given=ROWS)
    call("copy", "qdrant:q", "docs.parquet")
    table = pq.read_table(tmp_path / "docs.parquet")
    texts = ["by hand", *table["text"].to_pylist()[1:]]
    table = table.set_column(2, table.schema.field("text"), pa.array(texts))
    pq.write_table(table, tmp_path / "docs.parquet")
    told = call("copy", "docs.parquet", "pgvector:p?precision=float16", code=1)
    assert "rejected: r" in told.stderr
    assert "a text that differs from the encoded one" in told.stderr
    assert "not kept: vectors in float16, not float32\n" in told.stderr
    assert "1 record rejected, the first 'r" in told.stdout
