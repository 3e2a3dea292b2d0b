"""Local files and their stamps, which change whenever the content may have changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from harrier_files.files import LocalFile, Origin


def local(path: Path) -> LocalFile:
    return LocalFile(Origin("docs"), path.name, str(path))


def settled() -> None:
    """Wait until an earlier change cannot be confused with another."""
    time.sleep(0.05)


def test_stamps(tmp_path: Path) -> None:
    """A stamp is stable, and changes with the content, even if size and time are restored."""
    path = tmp_path / "a.md"
    path.write_bytes(b"one")
    settled()
    before, first = path.stat(), local(path).stamp
    assert first is not None
    assert local(path).stamp == first
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    settled()
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert local(path).stamp not in (None, first)


def test_another_file_under_the_same_name(tmp_path: Path) -> None:
    """A replaced file of equal size and time has another stamp, also through a link."""
    one, two, link = (tmp_path / name for name in ("one", "two", "link"))
    for path in (one, two):
        path.write_bytes(b"text")
        os.utime(path, ns=(0, 10**9 + 1))
    link.symlink_to(one)
    settled()
    first = local(one).stamp
    assert first is not None
    assert local(link).stamp == first
    link.unlink()
    link.symlink_to(two)
    assert local(link).stamp not in (None, first)
    two.replace(one)
    settled()
    assert local(one).stamp not in (None, first)


def test_a_recent_change(tmp_path: Path) -> None:
    """It has no stamp, because a second change could follow in the same clock tick."""
    path = tmp_path / "a.md"
    path.write_bytes(b"one")
    future = time.time_ns() + 10**15
    os.utime(path, ns=(future, future))
    assert local(path).stamp is None
    settled()
    assert local(path).stamp is None
    stamps = []
    for number in range(200):
        path.write_bytes(b"%03d" % number)
        os.utime(path, ns=(0, 10**9 + 1))
        stamps.append(local(path).stamp)
    known = [each for each in stamps if each is not None]
    assert len(set(known)) == len(known)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_paths_without_a_stamp(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    assert (local(path).stamp, local(path).size) == (None, None)


def test_the_fields_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.MD"
    path.write_bytes(b"text")
    file = local(path)
    assert (file.name, file.suffix, file.size, file.path) == ("docs/a.MD", ".md", 4, str(path))
    with file.open() as content:
        assert content.read() == b"text"
