"""After a `kill -9` of a re-embedding with concurrent writers and readers, the result equals an ingest."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from databases import url_of
from dying_engine import ENGINE_STEPS
from edge_turns import STEPS as STEPS_OF_EDGE
from harrier_qdrant import edge_child
from ingesting import CHUNKING, Hashing
from killing import kill_server
from reembeds import STEPS, Other, fill, models
from traffic import STABLE, Traffic

from harrier_core import Contents, EmbeddingSpace, Index, Worded, open_store
from harrier_core.migration import back, drop_old, reembed, switch

REEMBEDDING = Path(__file__).with_name("reembeds.py")
EDGE_TURNS = Path(__file__).with_name("edge_turns.py")

# A StoreWarning may report data that a kill made unreadable; the tests check the content afterwards.
pytestmark = pytest.mark.filterwarnings("ignore::harrier_core.StoreWarning")


def begun(place: str, action: str, step: str = "none", occurrence: int = 1) -> subprocess.Popen[str]:
    """Start a process, and wait until it has begun."""
    command = [sys.executable, "-W", "ignore", str(REEMBEDDING), place, action, step, str(occurrence)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "begin\n"
    return process


def content(place: str) -> list[Any]:
    """Return everything, including hashes and exact vectors, and check the words."""
    with Contents(place) as contents:
        opened = contents.store.open(contents.space())
        assert isinstance(opened, Worded)
        assert [*opened.wrong_keywords()] == []
        rows = ((each.chunk, each.vector.tobytes()) for each in contents.read())
        return sorted((c.record_id, c.number, c.text, c.metadata, c.start, c.end, c.hash, v) for c, v in rows)


def clean(place: str, records: Any, model: Hashing) -> list[Any]:
    """Return the content of an empty place after an ingest of these records."""
    with Index(open_store(place, keywords=True), model, chunking=CHUNKING) as index:
        index.drop()
        index.ingest(records)
        made = content(place)
        index.drop()
    return made


def killed(place: str, action: str, chance: random.Random, step: str | None, occurrence: int = 1) -> None:
    """Run a process, and kill it at a random moment if it has not ended before."""
    process = begun(place, action, step or "none", occurrence)
    if step is None:
        time.sleep(chance.uniform(0, 1.5))  # kill at a random moment
        process.kill()
    assert process.wait(60) in ((-signal.SIGKILL,) if step else (-signal.SIGKILL, 0)), step


class Oracle:
    """A place with traffic, and a re-embedding that is killed."""

    def __init__(self, place: str, *, thorough: bool, kill_server: Callable[[], None] | None = None) -> None:
        self._place = place
        self._thorough = thorough
        self._kill_server = kill_server
        self._chance = random.Random(0)
        with Index(open_store(place, keywords=True), Hashing(), chunking=CHUNKING) as index:
            index.ingest(STABLE)
        self._traffic = Traffic(place)

    def run(self) -> None:
        """Fill, switch and switch back, each with a kill, and compare with clean ingests."""
        rounds = ["switch", "back", "switch"] if self._thorough else ["switch"]
        with self._traffic.going():
            self._traffic.wait(100)
            self._kill("reembed", STEPS["reembed"] if self._thorough else STEPS["reembed"][1:2])
            for action in rounds:
                self._kill(action, STEPS["switch"][:3] if self._thorough else STEPS["switch"][2:3])
                self._traffic.wait(20)
        self._check(Other())
        back(self._place, Hashing())
        self._check(Hashing())

    def _kill(self, action: str, steps: list[str]) -> None:
        for step in steps:
            killed(self._place, action, self._chance, step)
        for _ in range(4 if self._thorough else 0):
            killed(self._place, action, self._chance, None)
        if self._kill_server:
            process = begun(self._place, action)
            self._kill_server()
            process.wait(120)
        assert begun(self._place, action).wait(120) == 0

    def _check(self, model: Hashing) -> None:
        assert content(self._place) == clean(f"{self._place}_clean", self._traffic.records, model)


@pytest.mark.timeout(400)  # it starts processes, and rarely has a machine to itself
def test_with_writers_and_readers_in_postgres(postgres: str) -> None:
    """The short form kills the filling once, and the switch just before its commit."""
    Oracle(f"{url_of(postgres)}&table=oracle", thorough=False).run()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_is_killed_in_postgres(server: tuple[str, Path]) -> None:
    """The long form kills at each step and at random, including the server."""
    conninfo, folder = server
    Oracle(f"{url_of(conninfo)}&table=oracle", thorough=True, kill_server=lambda: kill_server(folder)).run()


# -- in a folder of Qdrant Edge: readers and writers are threads of the process that is killed


class Folder:
    """A collection with traffic, whose model is changed back and forth by processes that are killed."""

    def __init__(self, folder: Path) -> None:
        self.place = f"qdrant:{folder}/edge?collection=docs"
        self._clean = f"qdrant:{folder}/clean?collection=docs"
        self._notes = folder / "notes"
        self._notes.mkdir()
        self.kills = 0
        with Index(open_store(self.place, keywords=True), Hashing(), chunking=CHUNKING) as index:
            index.ingest(STABLE)

    def begun(self, action: str, step: str = "none") -> subprocess.Popen[str]:
        """Start a process, and wait until its writers have recovered and it is about to change the model."""
        command = [sys.executable, "-W", "ignore", str(EDGE_TURNS), self.place, action, str(self._notes), step]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == "begin\n", "it is on standard error"
        return process

    def kill_at(self, step: str) -> None:
        """Kill the process at a step; at a step of the engine, kill both, or only the engine, which is restarted."""
        code = self.begun("fresh", step).wait(60)
        died = self._notes / "died"
        assert code == (0 if step.startswith("engine") else -signal.SIGKILL), step
        assert died.exists() == (step in ENGINE_STEPS), step
        died.unlink(missing_ok=True)
        self.kills += 1

    def kill_at_random(self, chance: random.Random) -> None:
        """Kill the process, its engine or both; a process whose engine was killed must run to its end."""
        process = self.begun(chance.choice(["turn", "turn", "fresh"]))
        time.sleep(chance.uniform(0, 4))  # kill at a random moment
        victim = chance.choice(["process", "engine", "both"])
        engines = engines_of(process) if victim != "process" else []
        if victim != "engine":
            process.kill()
        for each in engines:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        code = process.wait(60)
        assert code in ((0,) if victim == "engine" else (0, -signal.SIGKILL)), victim
        self.kills += code != 0 or bool(engines)

    def turn(self) -> None:
        """Change the model without a kill, and compare the content with a clean ingest."""
        held = self._space()
        assert self.begun("turn").wait(120) == 0
        [model] = [each for each in models() if each.space == self._space()]
        assert model.space != held
        assert content(self.place) == clean(self._clean, Traffic(self.place, self._notes).records, model)

    def _space(self) -> EmbeddingSpace | None:
        with closing(open_store(self.place)) as store:
            return store.space()


def engines_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the engine's processes: one for each open collection."""
    found = Path(f"/proc/{process.pid}/task").glob("*/children")
    with suppress(FileNotFoundError, ProcessLookupError):
        return [int(each) for path in found for each in path.read_text().split()]
    return []


@pytest.mark.timeout(4_000)
def test_killed_in_a_folder(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """After kills at steps and at random, two more switches with new writes lose and duplicate nothing."""
    kills = pytestconfig.getoption("--kills")
    folder, chance = Folder(tmp_path), random.Random(0)
    steps = [*STEPS_OF_EDGE, *ENGINE_STEPS]
    for step in steps if kills >= 50 else ["after vectors", "both after _swap"]:
        folder.kill_at(step)
    while folder.kills < (kills if kills >= 50 else 3):
        folder.kill_at_random(chance)
    folder.turn()
    folder.turn()


def test_killed_between_two_folders(tmp_path: Path) -> None:
    """If the engine is killed between two renames, the next process completes the switch."""
    place = f"qdrant:{tmp_path}?collection=docs"
    fill(place)
    reembed(place, Other())
    old = content(place)
    new, kept, file = tmp_path / "docs_next", tmp_path / "docs_before", tmp_path / ".harrier" / "docs" / "exchange"
    found = (new / "harrier_space.json").stat()
    said = {"new": str(new), "kept": str(kept), "told_by": "harrier_space.json"}
    for done in (False, True):
        file.write_text(json.dumps({**said, "id": [found.st_ino, found.st_mtime_ns]}), encoding="utf-8")
        if done:
            edge_child._swap(tmp_path / "docs", new)
        with Index(place, encoders=models()) as index:
            assert index.search("anything", 5)
            assert index.encoder.dimensions == (24 if done else 16)
        assert (kept.exists(), file.exists()) == (done, False)
    assert switch(place, Other()).complete
    back(place, Hashing())
    assert content(place) == old
    switch(place, Other())
    drop_old(place)
    assert not kept.exists()
