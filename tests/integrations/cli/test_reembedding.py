"""`harrier reembed`, from the plan to the removal of the old model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

ROWS = "".join(json.dumps({"id": f"r{each}", "text": f"text number {each} of many"}) + "\n" for each in range(6))
ROWS_IN = ("--format", "jsonl", "--id", "id")


@pytest.fixture
def other(built: Callable[..., Path]) -> str:
    """Return another model, which also compares texts by their words."""
    return str(built("gemma3", vectors="words"))


def test_switching_and_switching_back(call: Run, place: str, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented commands work, and records written in between are in both models."""
    niced: list[int] = []
    monkeypatch.setattr("os.nice", niced.append)  # the commands run in this process
    call("ingest", "-", "--to", place, *ROWS_IN, given=ROWS)
    if place.startswith("qdrant://"):
        assert "cannot keep writers out" in call("reembed", place, "--model", other, code=3).stderr
        return
    plan = call("reembed", place, "--model", other, "--plan", "--rate", "2").stdout
    assert plan.startswith("to encode: 6 of 6 chunks, about ")
    assert "in about 3 s" in plan
    assert (
        "there is no second space to switch to" in call("reembed", place, "--model", other, "--switch", code=3).stderr
    )
    assert "6 chunks: 6 encoded (" in call("reembed", place, "--model", other, "--rate", "1000").stdout
    assert niced == [15]
    if place.startswith("qdrant:"):
        assert (
            "that other processes can open" in call("reembed", place, "--model", other, "--workers", "2", code=2).stderr
        )
    else:
        assert "6 chunks: 0 encoded (" in call("reembed", place, "--model", other, "--workers", "2").stdout
    call("delete", "r5", "--in", place)
    checked = json.loads(call("reembed", place, "--model", other, "--check", "--json").stdout)
    assert (checked["chunks"], checked["new_chunks"], checked["differing"], checked["sound"]) == (5, 6, 1, True)
    assert 0 < checked["agreement"] <= 1
    done = json.loads(call("reembed", place, "--model", other, "--switch", "--json").stdout)
    assert (done["encoded"], done["deleted"], done["complete"]) == (0, 1, True)
    assert "another space" in call("search", "number 3", "--in", place, code=3).stderr
    call("ingest", "-", "--to", place, *ROWS_IN, "--model", other, given=ROWS)
    assert "r5" in call("search", "text number 5", "--in", place, "--model", other, "-k", "6").stdout
    assert "the old model again" in call("reembed", place, "--back").stderr
    assert "r5" in call("search", "text number 5", "--in", place, "-k", "6").stdout
    call("reembed", place, "--model", other, "--switch")
    call("reembed", place, "--drop-old")
    assert "nothing to drop" in call("reembed", place, "--drop-old", code=3).stderr
    assert "nothing to go back to" in call("reembed", place, "--back", code=3).stderr


def test_refusals(call: Run, place: str) -> None:
    """Each has a reliable exit code."""
    assert "there is no" in call("reembed", place, code=3).stderr
    call("ingest", "-", "--to", place, *ROWS_IN, given=ROWS)
    assert "already holds vectors of this model" in call("reembed", place, code=2).stderr
    assert "give only one of them" in call("reembed", place, "--switch", "--back", code=2).stderr
    assert "cannot be combined with --switch" in call("reembed", place, "--switch", "--rate", "5", code=2).stderr
    assert "cannot be combined with --back" in call("reembed", place, "--back", "--workers", "2", code=2).stderr
    assert "need --check" in call("reembed", place, "--old-model", "harrier-270m", code=2).stderr
    assert "must be a positive number" in call("reembed", place, "--rate", "0", code=2).stderr


@pytest.mark.slow
def test_other_chunks(call: Run, place: str, other: str) -> None:
    """They need the source, which is ingested into a new place."""
    call("ingest", "-", "--to", place, *ROWS_IN, given=ROWS)
    assert "cut from the source: ingest it" in call("reembed", place, "--model", other, "--recut", code=2).stderr
    if place.startswith("qdrant://"):
        return
    switch = "reembed", place, "--model", other, "--switch", "--recut"
    assert "whose name ends with" in call(*switch, code=3).stderr
    ingest = "ingest", "-", *ROWS_IN, "--to", f"{place}_recut", "--model", other, "--chunk-tokens", "8"
    call(*ingest, given=ROWS.splitlines(keepends=True)[0])
    assert "5 records in all, such as" in call(*switch, code=3).stderr
    call(*ingest, given=ROWS)
    assert json.loads(call(*switch, "--json").stdout)["complete"]
    assert call("search", "number 3", "--in", place, "--model", other).stdout.startswith("r3  chunk 1")
