"""`harrier ingest --workers`: the model, the memory of files, and the end of several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fleets import workers_of

from harrier_core.testing.sample import PROSE

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number, text in enumerate(PROSE):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    return folder


def test_files_by_two_workers(run: Run, folder: Path, tmp_path: Path) -> None:
    """One process finds their result unchanged, and reads no file again."""
    options = ["ingest", folder.name, "--to", f"pgvector:{tmp_path}/db?table=docs", "--json"]
    by_two = json.loads(run(*options, "--workers", "2").stdout)
    assert by_two["written"] >= by_two["records"] == len(PROSE)
    again = json.loads(run(*options, "--prune").stdout)
    assert (again["written"], again["unchanged"], again["pruned"]) == (0, by_two["written"], True)


@pytest.mark.slow
def test_a_store_for_one_process(run: Run, folder: Path, tmp_path: Path) -> None:
    told = run("ingest", folder.name, "--to", f"qdrant:{tmp_path}/q?collection=c", "--workers", "2", code=2).stderr
    assert "Qdrant Edge lets one process at a time into its folder" in told
    assert "omit workers" in told


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(
    command: list[str], environment: dict[str, str], folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """The workers end with the command, which says how to continue."""
    arguments = ["ingest", folder.name, "--to", f"pgvector:{tmp_path}/db?table=docs", "--workers", "2"]
    with subprocess.Popen(
        [*command, *arguments], env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 60
        while not (own := workers_of(process.pid)) and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(process.pid, number)
        _, told = process.communicate(timeout=60)
    assert own
    assert "run the same command again to continue" in told
    assert not set(own) & set(workers_of(None))
