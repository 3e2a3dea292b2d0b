"""Files that contain files: gzip and zip, unpacked as they are read, and only within limits."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from gzip import BadGzipFile, GzipFile
from typing import IO, cast
from zipfile import BadZipFile, ZipFile

from harrier_files.limits import Unreadable, shown_size

_MEMBERS = 100_000  # in an archive
_ENTRY = b"PK\x01\x02"  # an entry in its table of contents
_UNPACKED = 10  # bytes of all members together, for each that a file may have
_BROKEN = (EOFError, BadGzipFile, BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError)


class _Unpacked(io.RawIOBase):
    """A stream of unpacked bytes, whose errors say what is wrong with the file."""

    def __init__(self, stream: IO[bytes], what: str, budget: list[int] | None = None) -> None:
        super().__init__()
        self._stream, self._what, self._budget = stream, what, budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            block = self._stream.read(len(buffer))
        except _BROKEN as error:
            raise Unreadable(f"cannot be read as {self._what} ({type(error).__name__})") from None
        if self._budget is not None:
            self._budget[0] -= len(block)
            if self._budget[0] < 0:
                raise Unreadable(f"unpacks to more than {shown_size(self._budget[1])}; split it, or raise --max-size")
        buffer[: len(block)] = block
        return len(block)


def gunzipped(stream: IO[bytes]) -> io.BufferedReader:
    """Return a stream of the uncompressed content."""
    return io.BufferedReader(_Unpacked(cast("IO[bytes]", GzipFile(fileobj=stream)), "gzip"))


def members(content: bytes, most: int) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield the files in a zip by their names, without hidden ones; an encrypted one has no content."""
    if content.count(_ENTRY) > _MEMBERS:
        raise Unreadable(f"has more than {_MEMBERS:,} members; split it")
    try:
        archive = ZipFile(io.BytesIO(content))
    except _BROKEN as error:
        raise Unreadable(f"cannot be read as zip ({type(error).__name__})") from None
    total = _UNPACKED * most
    budget = [total, total]  # what is left of it, and the total
    for entry in archive.infolist():
        folders = entry.filename.split("/")
        if entry.is_dir() or any(each.startswith(".") and each != ".." for each in folders) or "__MACOSX" in folders:
            continue
        if entry.flag_bits & 1:
            yield entry.filename, None
            continue
        try:
            stream = archive.open(entry)
        except _BROKEN as error:
            raise Unreadable(f"has a member {entry.filename[:200]!r} that cannot be read ({error})") from None
        with stream:
            yield entry.filename, io.BufferedReader(_Unpacked(stream, "zip", budget))
