"""After a `kill -9` of a re-embedding with concurrent writers and readers, the result equals an ingest."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from databases import url_of
from harrier_qdrant import edge_child
from ingesting import CHUNKING, Hashing, after
from killing import kill_server
from reembeds import STEPS, Other, check_found, fill, models

from harrier_core import Contents, Index, Pruning, Record, Worded, open_store
from harrier_core.migration import back, drop_old, reembed, switch

REEMBEDDING = Path(__file__).with_name("reembeds.py")

# Of what a kill had made unreadable in a folder of Qdrant Edge: the tests look at what is there after it.
pytestmark = pytest.mark.filterwarnings("ignore::harrier_core.StoreWarning")

STABLE = [
    Record(f"stable{each}", f"The old record number {each} that nobody changes.", {"w": -1}) for each in range(20)
]


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
    """Return what an ingest of these records into an empty place gives."""
    with Index(open_store(place, keywords=True), model, chunking=CHUNKING) as index:
        index.drop()
        index.ingest(records)
        made = content(place)
        index.drop()
    return made


class Traffic:
    """Writers that insert, change, delete and prune, readers that search, and the expected result."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._over = threading.Event()
        self._truth: list[dict[str, Record]] = [{}, {}]  # of each writer
        self.written = self.searched = 0
        self.errors: list[BaseException] = []

    @property
    def records(self) -> list[Record]:
        return [*STABLE, *(record for own in self._truth for record in own.values())]

    @contextmanager
    def going(self) -> Iterator[None]:
        work = [(self._write, 0), (self._write, 1), (self._read, 2), (self._read, 3)]
        threads = [threading.Thread(target=self._guarded, args=each) for each in work]
        self._over.clear()
        for each in threads:
            each.start()
        try:
            yield
        finally:
            self._over.set()
            for each in threads:
                each.join()
        assert self.errors == []

    def wait(self, written: int) -> None:
        """Wait until a number of writes and searches have happened."""
        before = self.written, self.searched
        while not self.errors and min(self.written - before[0], self.searched - before[1]) < written:
            time.sleep(0.01)

    def _guarded(self, work: Any, number: int) -> None:
        chance = random.Random(number)
        try:
            with Index(self._place, encoders=models(), chunking=CHUNKING) as index:
                while not self._over.wait(0.005):  # the processes need their turns as well
                    work(index, number, chance)
        except BaseException as error:
            self.errors.append(error)

    def _write(self, index: Index, number: int, chance: random.Random) -> None:
        own = self._truth[number]
        kind = chance.random()
        if kind < 0.6 or len(own) < 10:
            changed = {}
            for _ in range(chance.randrange(1, 4)):
                id_ = f"w{number}-{chance.randrange(60)}"
                said = " ".join(f"Sentence {each} says {chance.random()}." for each in range(chance.randrange(1, 8)))
                changed[id_] = Record(id_, said, {"w": number, "n": chance.randrange(3)})
            index.ingest(changed.values(), build_indexes=False)
            own |= changed
        elif kind < 0.9:
            gone = chance.sample([*own], 2)
            index.delete(gone)
            for id_ in gone:
                del own[id_]
        else:
            kept = dict(chance.sample([*own.items()], len(own) - 2))
            index.ingest(kept.values(), prune=Pruning({"w": number}), build_indexes=False)
            self._truth[number] = kept
        self.written += 1

    def _read(self, index: Index, _: int, chance: random.Random) -> None:
        k = chance.choice([1, 5, 20])
        where = {"w": -1} if k == 20 else None
        check_found(index.search(f"a question {chance.random()}", k, where, with_vectors=True), k)
        self.searched += 1


def killed(place: str, action: str, chance: random.Random, step: str | None, occurrence: int = 1) -> None:
    """Run a process and kill it at random, if it has not ended before."""
    process = begun(place, action, step or "none", occurrence)
    if step is None:
        time.sleep(chance.uniform(0, 1.5))  # the instant is what is tried out
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


@pytest.mark.timeout(400)  # it has a machine to itself rarely, and begins processes
def test_with_writers_and_readers_in_postgres(postgres: str) -> None:
    """The short form kills the filling once, and the switch just before its commit."""
    Oracle(f"{url_of(postgres)}&table=oracle", thorough=False).run()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_is_killed_in_postgres(server: tuple[str, Path]) -> None:
    """The long form kills at each step and at random, including the server."""
    conninfo, folder = server
    Oracle(f"{url_of(conninfo)}&table=oracle", thorough=True, kill_server=lambda: kill_server(folder)).run()


# -- in a folder of Qdrant Edge, where all of them are one process, which is killed with its readers and writers


def settled(place: str) -> None:
    """Run the ingest and the re-embedding again after a kill."""
    with Index(place, encoders=models(), chunking=CHUNKING) as index:
        index.ingest(after(), prune=True)
    with closing(open_store(place)) as store:
        space = store.space()
        if space == Hashing.space:
            reembed(store, Other())
        switch(store, Other())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Return what a clean ingest into the new space gives."""
    return clean(f"qdrant:{tmp_path_factory.mktemp('clean')}?collection=docs", after(), Other())


def test_killed_in_a_folder(tmp_path: Path, made: list[Any], pytestconfig: pytest.Config) -> None:
    """After kills at steps and at random, the next run completes, and switching back loses nothing."""
    kills = pytestconfig.getoption("--kills")
    chance = random.Random(0)
    steps: list[str | None] = [*(STEPS["edge"] if kills >= 50 else STEPS["edge"][4:]), *[None] * (kills // 8)]
    for number, step in enumerate(steps):
        place = f"qdrant:{tmp_path}/{number}?collection=docs"
        fill(place)
        process = begun(place, "all", step or "none", 1)
        if step is None:
            time.sleep(chance.uniform(0, 5))  # the instant is what is tried out
            process.kill()
        assert process.wait(60) in ((-signal.SIGKILL,) if step else (-signal.SIGKILL, 0)), step
        settled(place)
        assert content(place) == made
    back(place, Hashing())
    assert content(place) == clean(f"qdrant:{tmp_path}/clean?collection=docs", after(), Hashing())


def test_without_a_kill(tmp_path: Path, made: list[Any]) -> None:
    """The ingest continues across the switch, and no search fails."""
    place = f"qdrant:{tmp_path}/all?collection=docs"
    fill(place)
    assert begun(place, "all").wait(120) == 0
    assert content(place) == made


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
