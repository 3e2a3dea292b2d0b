"""Files of this machine: their stamps, which are different whenever the content may be."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from harrier_files.files import LocalFile, Origin


def local(path: Path) -> LocalFile:
    return LocalFile(Origin("docs"), path.name, str(path))


def settled() -> None:
    """Wait until a change from before this is too old to be mistaken for another."""
    time.sleep(0.05)


def test_a_stamp_is_of_the_content(tmp_path: Path) -> None:
    """The same while nothing happens; another after a change of equal size whose time is put back."""
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
    """Of the same size and time, moved there as editors do; and through a link that leads elsewhere now."""
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


def test_a_change_of_this_moment(tmp_path: Path) -> None:
    """It has no stamp: the next one could be of the same tick of the clock. Nor has one of the future."""
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
def test_what_has_no_stamp(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    assert (local(path).stamp, local(path).size) == (None, None)


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.MD"
    path.write_bytes(b"text")
    file = local(path)
    assert (file.name, file.suffix, file.size, file.path) == ("docs/a.MD", ".md", 4, str(path))
    with file.open() as content:
        assert content.read() == b"text"
