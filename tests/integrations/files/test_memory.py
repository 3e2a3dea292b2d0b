"""The memory of files is shared, private, and never causes a failure."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from harrier_files.memory import FileMemory


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "files.sqlite"


def test_entries(path: Path) -> None:
    memory = FileMemory(path)
    memory.mset([("a", b"1"), ("b", b"")])
    memory.mset([("a", b"2")])
    assert memory.mget(["b", "missing", "a"]) == [b"", None, b"2"]
    assert memory.mget([]) == []
    memory.close()
    assert FileMemory(path).mget(["a"]) == [b"2"]
    assert memory.mget(["a"]) == [None]
    memory.mset([("c", b"")])  # after the close: of no effect


def test_many_keys_at_once(path: Path) -> None:
    memory = FileMemory(path)
    pairs = [(str(number), str(number).encode()) for number in range(2_500)]
    memory.mset(pairs)
    assert memory.mget([key for key, _ in pairs]) == [value for _, value in pairs]


def test_only_its_owner_can_read_it(path: Path) -> None:
    FileMemory(path).mset([("a", b"1")])
    modes = {each.name: each.stat().st_mode & 0o777 for each in (path.parent, *path.parent.iterdir())}
    assert modes.pop("cache") == 0o700
    assert set(modes.values()) == {0o600}


def test_unused_entries(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = 86_400.0
    monkeypatch.setattr("harrier_files.memory.time.time", lambda: 20_000 * day)
    memory = FileMemory(path)
    memory.mset([("asked", b"1"), ("not asked", b"2")])
    memory.close()
    monkeypatch.setattr("harrier_files.memory.time.time", lambda: 20_060 * day)
    memory = FileMemory(path)
    assert memory.mget(["asked"]) == [b"1"]
    memory.close()
    monkeypatch.setattr("harrier_files.memory.time.time", lambda: 20_120 * day)
    assert FileMemory(path).mget(["asked", "not asked"]) == [b"1", None]


def test_threads_and_processes(path: Path) -> None:
    FileMemory(path).close()
    script = (
        "import sys\nfrom harrier_files.memory import FileMemory\nmemory = FileMemory(sys.argv[1])\n"
        "for number in range(200):\n    memory.mset([(f'{sys.argv[2]}-{number}', b'x')])\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", script, str(path), str(each)]) for each in range(3)]
    memory = FileMemory(path)

    def write(own: int) -> None:
        for number in range(200):
            memory.mset([(f"t{own}-{number}", b"x")])

    threads = [threading.Thread(target=write, args=[own]) for own in range(3)]
    for each in threads:
        each.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in started] == [0, 0, 0]
    keys = [f"{kind}{own}-{number}" for kind in ("", "t") for own in range(3) for number in range(200)]
    assert memory.mget(keys) == [b"x"] * len(keys)


@pytest.mark.parametrize("broken", ["no database", "a folder", "no place", "read-only"])
def test_an_unusable_file(path: Path, caplog: pytest.LogCaptureFixture, broken: str) -> None:
    """Nothing is remembered, with one warning."""
    path.parent.mkdir()
    if broken == "no database":
        path.write_bytes(b"not SQLite's" * 1_000)
    elif broken == "a folder":
        path.mkdir()
    elif broken == "no place":
        path = path.parent / "file" / "below" / "files.sqlite"
        (path.parents[1]).write_bytes(b"")
    else:
        path = Path("/proc/harrier/files.sqlite")
    memory = FileMemory(path)
    memory.mset([("a", b"1")])
    assert memory.mget(["a"]) == [None]
    memory.close()
    [line] = [each.getMessage() for each in caplog.records]
    assert line.startswith(f"the state of files in {path} cannot be kept (")


def test_a_file_damaged_while_open(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    memory = FileMemory(path)
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE entries")
    other.close()
    memory.mset([("a", b"1")])
    assert memory.mget(["a"]) == [None]
    assert len(caplog.records) == 1


def test_the_default_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARRIER_CACHE", str(tmp_path / "own"))
    assert FileMemory.of_user().path == tmp_path / "own" / "files.sqlite"
    monkeypatch.delenv("HARRIER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert FileMemory.of_user().path == tmp_path / "harrier-kit" / "files.sqlite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert FileMemory.of_user().path == tmp_path / "home" / ".cache" / "harrier-kit" / "files.sqlite"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARRIER_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("harrier_files.memory.Path.home", no_home)
    memory = FileMemory.of_user()
    memory.mset([("a", b"1")])
    assert memory.mget(["a"]) == [None]
    assert str(memory.path) == os.devnull
