"""Files, folders, standard input and tables to records; what cannot be read is listed, and stops nothing."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any

from harrier_cli.documents import READERS, Unreadable
from harrier_cli.rows import ROWS, Numbered, plain, postgres_rows
from harrier_core import Record

STANDARD_INPUT = "-"
KINDS = {
    **dict.fromkeys((".txt", ".text"), "text"),
    **dict.fromkeys((".md", ".markdown"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".pdf": "pdf",
    ".csv": "csv",
    ".parquet": "parquet",
}
FORMATS = (*READERS, *ROWS)


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a row make the record."""

    id: str | None = None  # without it file:line is the id
    text: str = "text"
    metadata: Sequence[str] = ()

    @property
    def wanted(self) -> tuple[str, ...]:
        """All of them."""
        return (*([] if self.id is None else [self.id]), self.text, *self.metadata)

    def record(self, name: str, row: Any) -> Record:  # a mapping of anything
        """The record of a row."""
        if missing := [each for each in self.wanted if each not in row]:
            raise Unreadable(f"has no column {missing[0]!r}; it has {', '.join(map(str, row)) or 'none'}")
        values = {each: _plain(each, row[each]) for each in self.wanted}
        key = name if self.id is None else values[self.id]
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise Unreadable(f"has an id that is {type(key).__name__}, neither text nor a whole number")
        return Record(str(key), row[self.text], {each: values[each] for each in self.metadata})


def _plain(column: str, value: object) -> Any:
    try:
        return plain(value)
    except Unreadable as error:
        raise Unreadable(f"has a value in column {column!r} {error}") from None


@dataclass(slots=True)
class Source:
    """Records, read as they are needed, and what became of the others."""

    paths: Sequence[str]
    columns: Columns = field(default_factory=Columns)
    format: str | None = None  # of all files, whatever their names say
    rejected: list[tuple[str, str]] = field(default_factory=list)  # (file or file:line, reason)
    left_out: int = 0  # files of other kinds, pipes and the like, and links, in folders
    links: list[str] = field(default_factory=list)  # to folders elsewhere, which are left out, too
    ids: set[int] = field(default_factory=set)  # hashes of those of all records, and of what could not be read
    complete: bool = True  # whether those are all
    bytes_read: int = 0

    def __iter__(self) -> Iterator[Record]:
        for path in self.paths:
            for name, file in [(path, path)] if path == STANDARD_INPUT else self._files(path):
                for record in self._read(name, file):
                    self.ids.add(hash(record.id))
                    yield record

    def size(self) -> int | None:
        """How many bytes there are to read, where that can be known."""
        if STANDARD_INPUT in self.paths:
            return None
        silent = Source(self.paths, self.columns, self.format)
        return sum(_size(file) for path in self.paths for _, file in silent._files(path))

    # -- files

    def _files(self, path: str) -> Iterator[tuple[str, str]]:
        """Names and paths: a folder's files go by their path in it, a single file by its path as it was given."""
        if not Path(path).is_dir():
            yield Path(path).as_posix(), path
            return
        for folder, folders, files in os.walk(path, onerror=self._no_folder):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            for each in folders:  # of which os.walk follows no links
                self._link(Path(path), Path(folder) / each)
            for file in sorted(each for each in files if not each.startswith(".")):
                whole = Path(folder) / file
                # What is there and no file, as a pipe, might never end; a broken link is told of by who opens it.
                if not _special(whole) and (self.format or whole.suffix.lower() in KINDS):
                    yield whole.relative_to(path).as_posix(), str(whole)
                else:
                    self.left_out += 1

    def _link(self, top: Path, folder: Path) -> None:
        """What is behind a link elsewhere is not read, and may be stored; what is within the folder is read anyway."""
        if not folder.is_symlink():
            return
        target, whole = folder.resolve(), top.resolve()
        within = target.is_relative_to(whole) and not any(
            each.startswith(".") for each in target.relative_to(whole).parts
        )
        if not within:
            self.links.append(folder.relative_to(top).as_posix())
            self.left_out += 1
            self.complete = False

    def _no_folder(self, error: OSError) -> None:
        self.rejected.append((str(error.filename), f"cannot be read: {error.strerror}"))
        self.complete = False

    def _read(self, name: str, file: str) -> Iterator[Record]:
        kind = self.format or KINDS.get(Path(file).suffix.lower(), "text")
        try:
            with _open(file) as content:
                if kind in READERS:
                    yield self._document(name, kind, content.read())
                else:
                    yield from self._rows(name, ROWS[kind](content, self.columns.wanted))
        except OSError as error:
            self._reject(name, f"cannot be read: {error.strerror or type(error).__name__}", known=kind in READERS)
        except Unreadable as error:
            self._reject(name, str(error), known=kind in READERS)
        if file != STANDARD_INPUT:
            self.bytes_read += _size(file)

    def _document(self, name: str, kind: str, content: bytes) -> Record:
        text, metadata = READERS[kind](content)
        if not text.strip():
            raise Unreadable("has no text in it")
        return Record(name, text, {"format": kind, **metadata})

    def _rows(self, name: str, rows: Iterable[Numbered]) -> Iterator[Record]:
        for number, row in rows:
            try:
                if isinstance(row, Unreadable):
                    raise row
                yield self.columns.record(f"{name}:{number}", row)
            except Unreadable as error:
                self._reject(f"{name}:{number}", str(error), known=self.columns.id is None)

    def _reject(self, name: str, reason: str, *, known: bool) -> None:
        """What is stored of it, if its id is known, is not gone from the source: it is not to be pruned."""
        self.rejected.append((name, reason))
        if known:
            self.ids.add(hash(name))
        else:
            self.complete = False


@dataclass(slots=True)
class PostgresSource(Source):
    """The rows of a query or a table."""

    url: str = ""
    query: str | None = None
    table: str | None = None

    def __iter__(self) -> Iterator[Record]:
        rows = postgres_rows(self.url, self.query, self.table, self.columns.wanted)
        for record in self._rows(self.table or "query", rows):
            self.ids.add(hash(record.id))
            yield record

    def size(self) -> int | None:
        """Only a second look at all of it would tell."""
        return None


def _open(file: str) -> IO[bytes]:
    """Standard input is left open; what needs to jump about in it gets it whole."""
    if file != STANDARD_INPUT:
        return Path(file).open("rb")
    return io.BufferedReader(_Unclosed(sys.stdin.buffer))


class _Unclosed(io.RawIOBase):
    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # a writable buffer
        read: Any = self._stream
        return int(read.readinto1(buffer))


def _special(file: Path) -> bool:
    try:
        return not S_ISREG(file.stat().st_mode)
    except OSError:
        return False


def _size(file: str) -> int:
    try:
        return Path(file).stat().st_size
    except OSError:
        return 0
