"""A `kill -9` of an ingest with a slow model loses at most a few seconds of encoding."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import slow
from harrier_files import FileMemory
from slow import BOOK, CHUNKING, NOTES, SECOND
from sqlite_store import SqliteStore

from harrier_core import Index
from harrier_core.testing import MemoryStore

from ingesting import Hashing  # isort: skip

# The encoding that a kill may lose: the slice under way, and those that are encoded but not yet written.
_LOST = 5 * SECOND


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    return [sys.executable, slow.__file__, str(tmp_path / "index.sqlite")]


def killed(program: list[str], characters: int) -> int:
    """Run until a number of characters is encoded, or to the end, and return the number."""
    child = subprocess.Popen(
        program, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert child.stdout is not None
    encoded = 0
    for line in child.stdout:
        encoded += int(line)
        if encoded >= characters:
            child.kill()
            encoded += sum(int(rest) for rest in child.stdout.read().split())
            break
    child.wait()
    child.stdout.close()
    return encoded


@pytest.mark.slow
def test_little_is_lost(program: list[str], tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Repeatedly killed runs encode little more than one run, with the same result."""
    total = len(BOOK.text) + sum(len(each.text) for each in NOTES)
    chance = random.Random(0)
    kills, encoded = min(pytestconfig.getoption("--kills"), 20), 0
    for number in range(kills):
        if encoded >= total:
            break
        encoded += killed(program, chance.randrange(SECOND // 2, 2 * total // kills))
        assert number == 0 or encoded <= total + (number + 1) * _LOST
    encoded += killed(program, 10**9)
    assert encoded <= total + kills * _LOST
    plain = MemoryStore()
    Index(plain, Hashing(), chunking=CHUNKING).ingest(slow.records())
    stores = (SqliteStore(str(tmp_path / "index.sqlite")), plain)
    both = [
        {(each.chunk.record_id, each.chunk.number): (each.chunk, each.vector.tolist()) for each in store.read()}
        for store in (stores[0].open(Hashing.space), plain)
    ]
    assert both[0].keys() == both[1].keys()
    assert both[0] == both[1]


@pytest.mark.slow
def test_the_memory_keeps_parts_of_a_long_record(program: list[str], tmp_path: Path) -> None:
    """A record is written as a whole, so its encoded parts are remembered."""
    in_the_book = sum(len(each.text) for each in NOTES[:100]) + len(BOOK.text) // 2
    killed(program, in_the_book)
    memory = FileMemory(tmp_path / "index.memory")
    assert memory._connection is not None
    [number] = memory._connection.execute("SELECT count(*) FROM entries").fetchone()
    assert number > 10
    assert "book" not in set(SqliteStore(str(tmp_path / "index.sqlite")).record_ids())
