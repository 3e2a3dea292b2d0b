"""`harrier delete` and `drop`, without any model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from terminals import seen_on_a_terminal

Run = Callable[..., subprocess.CompletedProcess[str]]

ROWS = "".join(json.dumps({"id": f"r{each}", "text": f"text {each}", "n": each}) + "\n" for each in range(4))


@pytest.fixture
def filled(call: Run, place: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a place with four records, and unset the model."""
    call("ingest", "-", "--to", place, "--format", "jsonl", "--id", "id", "--metadata", "n", given=ROWS)
    monkeypatch.delenv("HARRIER_MODEL")
    monkeypatch.setenv("HARRIER_INDEX", place)
    return place


def test_delete(call: Run, filled: str) -> None:
    """Records are deleted by id, by condition, by both, or all; unknown ids are reported."""
    told = call("delete", "r0", "nope", "r0", code=1)
    assert (told.stdout, told.stderr) == ("1 chunk deleted\n", "not found: nope\n")
    assert json.loads(call("delete", "nope", "--json", code=1).stdout) == {"deleted": 0, "missing": ["nope"]}
    assert call("delete", "r1", "r2", "--where", '{"n": 2}').stdout == "1 chunk deleted\n"
    assert call("delete", "--where", '{"n": 3}', "-q").stdout == ""
    told = call("delete", "--all", code=2)
    assert "this needs confirmation, and there is no terminal: Remove all 1 chunk of " in told.stderr
    assert call("delete", "--all", "--yes").stdout == "1 chunk deleted\n"
    assert json.loads(call("info", filled, "--json").stdout)["records"] == 0


def test_drop(call: Run, filled: str) -> None:
    """The table or collection is removed, and ls no longer lists it."""
    assert "add --yes" in call("drop", filled, code=2).stderr.lower()
    listed = json.loads(call("ls", "--json").stdout)
    assert 4 in [each["records"] for each in listed if each["chunks"] == 4]  # a database has others' tables, too
    call("drop", filled, "--yes")
    assert "ingest something into it first" in call("info", filled, code=3).stderr


def test_confirmation_on_a_terminal(call: Run, command: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    """Nothing is removed unless the answer is yes."""
    place = f"qdrant:{tmp_path}/q"
    call("ingest", "-", "--to", place, "--format", "jsonl", "--id", "id", given=ROWS)
    shown = seen_on_a_terminal([*command, "drop", place], environment, tmp_path, columns=200, typed=["n\n"], sign="] ")
    assert f"Remove qdrant:{tmp_path}/q?collection=documents with 4 chunks? [y/N] " in shown
    assert "nothing was removed" in shown
    shown = seen_on_a_terminal(
        [*command, "delete", "--all", "--in", place], environment, tmp_path, columns=200, typed=["y\n"], sign="] "
    )
    assert "4 chunks deleted" in shown
