"""Files anywhere: on this machine, on the web, in a bucket or an archive."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import IO

from harrier_files.limits import Unreadable
from harrier_files.waiting import waited_for

STANDARD_INPUT = "-"
# File systems have a limited time resolution: a second change within the same tick leaves no trace. Linux ticks every
# 10 ms at most, FAT every 2 s, and a time without fractions of a second is likely to be from such a system.
_TICK, _COARSE_TICK = 0.02, 2.0
_SECOND = 10**9  # nanoseconds


class Gone(Unreadable):
    """A file that is known to be gone: its stored records are no longer in the source."""


class NotWanted(Unreadable):
    """A file of a kind that is not read, which turns out only when it is opened."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"is {kind}, which is not read")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Origin:
    """The owner of records: a source by its name, and where it is, if it has a location."""

    name: str
    root: str | None = None
    named: bool = False  # by the user: then it may be anywhere, and records do not say where it was
    begins: str | None = None  # the prefix of its files' ids, if that is not the name
    listing: str | None = None  # the sitemap in which its files were found

    @property
    def prefix(self) -> str:
        """The prefix of the ids of its files, and of their rows."""
        return f"{self.name}/" if self.begins is None else self.begins


@dataclass(slots=True)
class File(ABC):
    """A file to read, wherever it is."""

    origin: Origin
    inside: str  # its path within the source
    path: str  # its location, for messages

    @property
    def name(self) -> str:
        """The id of its record, or the prefix of the ids of its rows."""
        return f"{self.origin.prefix}{self.inside}"

    @property
    def suffix(self) -> str:
        """The ending of its name, in lowercase, such as ".md"; it determines the format."""
        return PurePosixPath(self.inside).suffix.lower()

    @property
    def size(self) -> int | None:
        """Its size in bytes, if known before it is read."""
        return None

    @property
    def stamp(self) -> bytes | None:
        """A fingerprint that differs whenever the content may; None if that cannot be known.

        Equal stamps of one file mean that its content is the same, and that it need not be read again. Different stamps
        mean nothing: a file that was copied or touched has a new one. Stamps cannot be used to compare two files.

        Get the stamp before you open the file, and keep it if all of the file was read: a change in between then makes
        the next stamp different. It costs a look at the file's metadata, on the web a HEAD request, and nothing if the
        listing included it. A file that was changed just now has no stamp: a second change within the same tick of the
        clock could not be detected. On Windows, the only time of the last change is the one that programs may set;
        there, new content of the same size under an old modification time goes unnoticed.
        """
        return None

    @abstractmethod
    def open(self) -> AbstractContextManager[IO[bytes]]:
        """Open it for reading, from its beginning. Raise OSError or Unreadable if that fails."""


@dataclass(slots=True)
class LocalFile(File):
    """A file of this machine."""

    @property
    def size(self) -> int | None:
        """Its size in bytes, unless it is a pipe or the like."""
        found = self._stat()
        return found.st_size if found and S_ISREG(found.st_mode) else None

    @property
    def stamp(self) -> bytes | None:
        """Device, inode, size, and the times of the last changes of content and of metadata."""
        found = self._stat()
        if found is None or not S_ISREG(found.st_mode):
            return None
        coarse = not (found.st_mtime_ns % _SECOND or found.st_ctime_ns % _SECOND)
        latest = max(found.st_mtime_ns, found.st_ctime_ns) / _SECOND
        if time.time() - latest < (_COARSE_TICK if coarse else _TICK):
            return None
        return stamp_of(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def _stat(self) -> os.stat_result | None:
        try:
            return Path(self.path).stat()
        except (OSError, ValueError):  # a path with a NUL
            return None

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open it; for a pipe, Ctrl-C ends the wait."""
        with Path(self.path).open("rb") as content:
            yield content if S_ISREG(os.fstat(content.fileno()).st_mode) else waited_for(content)


@dataclass(slots=True)
class StandardInput(File):
    """The content of standard input, which is left open."""

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Read it so that Ctrl-C ends the wait."""
        yield waited_for(sys.stdin.buffer)


def stamp_of(*facts: object) -> bytes:
    """Return a stamp of 16 bytes made from facts about a file."""
    return blake2b(repr(facts).encode(errors="surrogatepass"), digest_size=16).digest()


@dataclass(slots=True)
class Account:
    """Other results of the search for files."""

    unreadable: list[tuple[str, str]] = field(default_factory=list)  # (folder or page, reason)
    links: list[tuple[str, str]] = field(default_factory=list)  # (link, why it is skipped)
    left_out: Counter[str] = field(default_factory=Counter)  # files that are not read, by their kind: ".gz", "hidden"
    unknown: list[str] = field(default_factory=list)  # prefixes of ids whose records may or may not be gone
    unlisted: set[str] = field(default_factory=set)  # URLs that may be sitemaps, but did not list their pages
