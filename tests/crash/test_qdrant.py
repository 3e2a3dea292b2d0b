"""`kill -9` of an ingest into Qdrant Edge, and of the engine itself: a second run ends where a clean one would."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ingesting import QDRANT_STEPS, Hashing, after, before, run, store

from harrier_core import Index

INGESTING = Path(__file__).with_name("ingesting.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of these collections are."""
    folder = tmp_path_factory.mktemp("qdrant")
    run(f"Path:{folder}", "before", before())
    return folder


@pytest.fixture(scope="module")
def clean(folder: Path) -> tuple[list[Any], float]:
    """The collection after one clean run, and how long that takes."""
    make(folder, "clean")
    process = ingesting(folder, "clean")
    begin = time.monotonic()
    assert process.wait(60) == 0
    took = time.monotonic() - begin
    points = content(folder, "clean")
    assert points != content(folder, "before")
    assert len({record_id for record_id, *_ in points}) == 210
    return points, took


def make(folder: Path, name: str) -> None:
    """A collection as it is before the ingest."""
    shutil.rmtree(folder / name, ignore_errors=True)
    shutil.copytree(folder / "before", folder / name)


def content(folder: Path, name: str) -> list[Any]:
    """All there is, point for point."""
    with Index(store(f"Path:{folder}", name), Hashing()) as index:
        chunks = ((each.chunk, each.vector.tobytes()) for each in index.read())
        return sorted(
            (c.record_id, c.number, c.text, c.metadata, c.start, c.end, c.hash, vector) for c, vector in chunks
        )


def ingesting(folder: Path, name: str, step: str = "none", occurrence: int = 1) -> subprocess.Popen[str]:
    """A process that ingests, and has begun."""
    command = [sys.executable, "-W", "ignore", str(INGESTING), f"Path:{folder}", name, step, str(occurrence)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == "begin\n"
    return process


def engine_of(process: subprocess.Popen[str]) -> int | None:
    """The engine's process of an ingest, if it has begun."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    started = [int(each) for path in children.parents[1].glob("*/children") for each in path.read_text().split()]
    return started[0] if started else None


def converges(folder: Path, name: str, expected: list[Any]) -> bool:
    """Run again: as after a clean run, and only what was missing was encoded. Tell if anything was."""
    stored = {(record_id, number): hash_[:16] for record_id, number, *_, hash_, _ in content(folder, name)}
    missing = [
        text for record_id, number, text, *_, hash_, _ in expected if stored.get((record_id, number)) != hash_[:16]
    ]
    encoder = run(f"Path:{folder}", name, after())
    assert content(folder, name) == expected
    assert sorted(encoder.encoded) == sorted(missing)
    return bool(missing)


@pytest.mark.parametrize("step", QDRANT_STEPS)
def test_killed_at_a_step(folder: Path, clean: tuple[list[Any], float], step: str) -> None:
    """At its first, and at a later time."""
    once = step.endswith(("settle", "delete_where"))
    for occurrence in (1,) if once else (1, 3):
        make(folder, "killed")
        assert ingesting(folder, "killed", step, occurrence).wait(60) == -signal.SIGKILL
        converges(folder, "killed", clean[0])


def test_killed_at_random(folder: Path, clean: tuple[list[Any], float], pytestconfig: pytest.Config) -> None:
    """Anywhere: the ingest, the engine under it, or both; what goes on ends well, and what was killed is mended."""
    expected, took = clean
    kills = pytestconfig.getoption("--kills")
    chance = random.Random(0)
    hit = 0
    for number in range(kills):
        make(folder, "killed")
        process = ingesting(folder, "killed")
        time.sleep(chance.uniform(0, took))  # the instant is what is tried out
        engine = engine_of(process)
        if engine is not None and number % 3 != 0:
            subprocess.run(["kill", "-9", str(engine)], check=False, stderr=subprocess.DEVNULL)
        if number % 3 != 1:
            process.kill()
        ended = process.wait(60)
        if ended == 0:
            assert content(folder, "killed") == expected
        hit += converges(folder, "killed", expected)
    assert hit >= max(1, kills // 8)
