"""After a `kill -9` of a copy, the next run ends like a clean run, and writes nothing twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlencode

import pytest
from copies import ONCE, STEPS, run
from databases import url_of
from ingesting import CHUNKING, Hashing, after, before

from harrier_core import Contents, Index, Worded, open_store
from harrier_core.migration import copy, plan
from harrier_core.migration.dumps import Dump
from harrier_core.testing import MemoryStore

COPYING = Path(__file__).with_name("copies.py")

# A StoreWarning may report data that a kill made unreadable; the tests check the content afterwards.
pytestmark = pytest.mark.filterwarnings("ignore::harrier_core.StoreWarning")

_numbers = count()


class Way(NamedTuple):
    """A copy from one place to others, each in the state before the copy."""

    kind: str  # of the target
    source: str
    target: Callable[[], str]
    clean: list[Any]  # the content after one uninterrupted copy
    seconds: float  # the duration of that copy, from its first line of output to its last


def place(kind: str, postgres: str, folder: Path) -> str:
    """Return an empty place."""
    name = f"copied{next(_numbers)}"
    if kind == "postgres":
        return f"{url_of(postgres)}&{urlencode({'table': name})}"
    return f"{folder}/{name}.parquet" if kind == "file" else f"qdrant:{folder}/edge?collection={name}"


def fill(where: str, *, new: bool) -> str:
    """Ingest the records with which these tests begin or end."""
    if where.endswith(".parquet"):
        memory = MemoryStore(keywords=True)
        Index(memory, Hashing(), chunking=CHUNKING).ingest(after() if new else before())
        copy(memory, where)
        return where
    with closing(open_store(where, keywords=True)) as store:
        Index(store, Hashing(), chunking=CHUNKING).ingest(after() if new else before())
    return where


def content(where: str) -> list[Any]:
    """Return everything, including hashes and exact vectors, and check the words."""
    if where.endswith(".parquet"):
        stored = [each for window in Dump(Path(where)).windows() for each in window.read(window.hashes)]
    else:
        with closing(open_store(where)) as store:
            opened = store.open(Hashing.space)
            assert isinstance(opened, Worded)
            assert [*opened.wrong_keywords()] == []
            stored = [*Contents(store).read()]
    rows = ((each.chunk, each.vector.tobytes()) for each in stored)
    return sorted((c.record_id, c.number, c.text, c.metadata, c.start, c.end, c.hash, v) for c, v in rows)


def begun(source: str, target: str, step: str = "none", occurrence: int = 1) -> tuple[subprocess.Popen[str], IO[str]]:
    command = [sys.executable, "-W", "ignore", str(COPYING), source, target, step, str(occurrence)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n"
    return process, process.stdout


def copying(*arguments: Any) -> subprocess.Popen[str]:
    """Start a process that copies, and wait until it has begun."""
    process, output = begun(*arguments)
    output.close()
    return process


@pytest.fixture(scope="module", params=["postgres", "edge", "file"])
def way(request: pytest.FixtureRequest, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Way:
    """Return each way: a collection into a table, and a table into a collection or a file."""
    kind, folder = request.param, tmp_path_factory.mktemp("copies")
    source = fill(place("edge" if kind == "postgres" else "postgres", postgres, folder), new=True)
    clean = fill(place(kind, postgres, folder), new=False)
    process, output = begun(source, clean)
    begin = time.monotonic()
    with output:
        assert output.readline() == "end\n"
    seconds = time.monotonic() - begin
    assert process.wait(60) == 0
    made = content(clean)
    assert [row[:-1] for row in made] == [row[:-1] for row in content(source)]
    return Way(kind, source, lambda: fill(place(kind, postgres, folder), new=False), made, seconds)


def converges(way: Way, target: str) -> bool:
    """Run again, compare with a clean run, and return whether anything was written."""
    if way.kind == "file":
        held = content(target)  # whole, whatever was killed
        run(way.source, target)
        assert content(target) == way.clean
        assert list(Path(target).parent.glob(f".{Path(target).name}*")) == []
        return held != way.clean
    there = {row[:2]: row[6] for row in content(target)}
    missing = [row[:2] for row in way.clean if there.get(row[:2]) != row[6]]
    extra = len(there.keys() - {row[:2] for row in way.clean})
    planned = plan(way.source, target, extra="remove")
    report = copy(way.source, target, extra="remove")
    assert report.sound
    assert (report.copied, report.deleted) == (planned.copied, planned.deleted) == (len(missing), extra)
    assert content(target) == way.clean
    return bool(missing or extra)


def test_killed_at_a_step(way: Way, pytestconfig: pytest.Config) -> None:
    """Two steps are tested, and each step twice in the long form."""
    thorough = pytestconfig.getoption("--kills") >= 50
    steps = STEPS[way.kind]
    for step in steps if thorough else steps[1::3]:
        for occurrence in (1,) if step.endswith(ONCE) else (1, 3) if thorough else (3,):
            target = way.target()
            assert copying(way.source, target, step, occurrence).wait(60) == -signal.SIGKILL, step
            converges(way, target)


def test_killed_at_random(way: Way, pytestconfig: pytest.Config) -> None:
    """Some are interrupted by Ctrl-C; some kills must leave something to do."""
    kills = max(1, pytestconfig.getoption("--kills") // 4)
    chance = random.Random(0)
    tries = hit = 0
    while tries < kills or (hit < max(1, kills // 8) and tries < 10 * kills):
        tries += 1
        target = way.target()
        process = copying(way.source, target)
        time.sleep(chance.uniform(0, way.seconds))  # kill at a random moment
        process.send_signal(signal.SIGINT if tries % 3 == 0 else signal.SIGKILL)
        process.wait(60)
        hit += converges(way, target)
    assert hit >= max(1, kills // 8)
