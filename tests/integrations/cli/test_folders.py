"""Reading commands on a folder that is not an index report it, and change nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

READING = {
    "search": ["search", "bread", "--in"],
    "info": ["info"],
    "verify": ["verify"],
    "delete": ["delete", "a", "--in"],
    "sync status": ["sync", "status"],
}


def as_it_is(folder: Path) -> dict[Path, tuple[int, ...]]:
    found = {path: path.lstat() for path in (folder, *folder.rglob("*"))}
    return {path: (each.st_mode, each.st_uid, each.st_gid, each.st_ctime_ns) for path, each in found.items()}


@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize("name", ["docs", "empty"])
def test_commands_that_read(call: Run, docs: Path, tmp_path: Path, command: str, name: str) -> None:
    """Neither a folder of documents nor an empty one becomes a database or changes its owner."""
    assert docs == tmp_path / "docs"
    (tmp_path / "empty").mkdir()
    before = as_it_is(tmp_path)
    told = call(*READING[command], f"pgvector:{name}", code=3)
    assert told.stderr.startswith("error: there is no index in folder ")
    assert told.stderr.endswith(f"{name}; ingest something into it first\n")
    assert told.stderr.count("\n") == 1
    assert as_it_is(tmp_path) == before


def test_an_ingest_into_documents(call: Run, docs: Path) -> None:
    """It is refused in one line, and changes nothing."""
    before = as_it_is(docs)
    told = call("ingest", "docs", "--to", "pgvector:docs", code=3)
    assert told.stderr.startswith(
        f"error: folder {docs} is not empty and contains no embedded Postgres of this kit (it "
    )
    assert told.stderr.count("\n") == 1
    assert as_it_is(docs) == before
