"""After a `kill -9` of an ingest into Qdrant Edge or of the engine, a second run ends like a clean one."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ingesting import QDRANT_STEPS, Hashing, store
from killing import Clean, Place

from harrier_core import Index
from harrier_core.store import Worded

# A StoreWarning may report data that a kill made unreadable; the tests check the content afterwards.
pytestmark = pytest.mark.filterwarnings("ignore::harrier_core.StoreWarning")


def wrong_words(index: Index) -> list[str]:
    """Return the chunks whose words do not match their texts."""
    opened = index.store.open(Hashing.space)
    assert isinstance(opened, Worded)
    return [chunk.id for chunk in opened.wrong_keywords()]


class Collections(Place):
    """Collections of Qdrant Edge, each in its own folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"Path:{folder}")
        self._folder = folder

    def copy_before(self, name: str) -> None:
        """Copy the files."""
        shutil.rmtree(self._folder / name, ignore_errors=True)
        shutil.copytree(self._folder / "before", self._folder / name)

    def content(self, name: str) -> list[Any]:
        """Return the content point by point."""
        with Index(store(self.address, name), Hashing()) as index:
            assert wrong_words(index) == []
            chunks = ((each.chunk, each.vector.tobytes()) for each in index.read())
            return sorted(
                (c.record_id, c.number, c.text, c.metadata, c.start, c.end, c.hash, vector) for c, vector in chunks
            )

    def is_open(self, name: str) -> bool:
        """Return whether a process has the folder open."""
        return (self._folder / name / "harrier_open").exists()

    def killed_is_over(self) -> None:
        """Wait until the engine of the killed process has ended."""


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Collections:
    collections = Collections(tmp_path_factory.mktemp("qdrant"))
    collections.make_before()
    return collections


@pytest.fixture(scope="module")
def clean(collections: Collections) -> Clean:
    return collections.run_cleanly()


def engine_of(process: subprocess.Popen[str]) -> int | None:
    """Return the engine's process of an ingest, if it has begun."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    started = [int(each) for path in children.parents[1].glob("*/children") for each in path.read_text().split()]
    return started[0] if started else None


@pytest.mark.parametrize("step", QDRANT_STEPS)
def test_killed_at_a_step(collections: Collections, clean: Clean, step: str, pytestconfig: pytest.Config) -> None:
    """Each step is killed at a later occurrence, and at the first in the long form."""
    once = step.endswith(("build_indexes", "delete_where"))
    later = (1, 3) if pytestconfig.getoption("--kills") >= 50 else (3,)
    for occurrence in (1,) if once else later:
        collections.copy_before("killed")
        assert collections.ingesting("killed", step, occurrence).wait(60) == -signal.SIGKILL
        collections.converges("killed", clean)


def test_taken_over(collections: Collections, clean: Clean, pytestconfig: pytest.Config) -> None:
    """A waiting process gets the folder as soon as the last one has flushed everything."""
    for _ in range(max(5, pytestconfig.getoption("--kills") // 2)):
        collections.copy_before("taken")
        process = collections.ingesting("taken")
        while not collections.is_open("taken"):
            assert process.poll() is None
            time.sleep(0.001)
        assert collections.content("taken") == clean.content
        assert process.wait(60) == 0


def test_killed_at_random(collections: Collections, clean: Clean, pytestconfig: pytest.Config) -> None:
    """The ingest, the engine or both are killed; the run or the next one completes the work."""
    kills = pytestconfig.getoption("--kills")
    chance = random.Random(0)
    hit = 0
    for number in range(kills):
        collections.copy_before("killed")
        process = collections.ingesting("killed")
        time.sleep(chance.uniform(0, clean.seconds))  # kill at a random moment
        engine = engine_of(process)
        if engine is not None and number % 3 != 0:
            subprocess.run(["kill", "-9", str(engine)], check=False, stderr=subprocess.DEVNULL)
        if number % 3 != 1:
            process.kill()
        ended = process.wait(60)
        if ended == 0:
            assert collections.content("killed") == clean.content
        hit += collections.converges("killed", clean)
    assert hit >= max(1, kills // 8)
