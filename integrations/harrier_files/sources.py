"""Files, folders, standard input and tables to records, and to what says which of them could not be read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any

from harrier_core import Pruning, Record, Skipped
from harrier_files.commands import Command
from harrier_files.folders import STANDARD_INPUT, File, Origin, Walk
from harrier_files.limits import DEFAULT_SIZE, Unreadable, too_large
from harrier_files.parser import Parser
from harrier_files.reading import LeftOut, Part, Reader, Rows, Unread
from harrier_files.rows import Numbered, database_of, plain, postgres_rows
from harrier_files.waiting import waited_for

# What a record's metadata say of where it comes from: the source's name; what it was made from, unless the user named
# the source; and the file of a row that has an id of its own.
SOURCE, ROOT, FILE = OWN_METADATA = ("harrier_source", "harrier_root", "harrier_file")


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

    def record(self, name: str, row: Any, most: int) -> Record:  # a mapping of anything
        """The record of a row, whose text has at most so many characters."""
        if missing := [each for each in self.wanted if each not in row]:
            raise Unreadable(f"has no column {missing[0]!r}; it has {', '.join(map(str, row)) or 'none'}")
        values = {each: _plain(each, row[each]) for each in self.wanted}
        key = name if self.id is None else values[self.id]
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise Unreadable(f"has an id that is {type(key).__name__}, neither text nor a whole number")
        text = row[self.text]
        if isinstance(text, str) and len(text) > most:
            raise Unreadable(too_large("a text", most))
        return Record(str(key), text, {each: values[each] for each in self.metadata})


def _plain(column: str, value: object) -> Any:
    try:
        return plain(value)
    except Unreadable as error:
        raise Unreadable(f"has a value in column {column!r} {error}") from None


@dataclass(slots=True)
class Source:
    """Records, read as they are needed, with a Skipped for each that cannot be; and which stored ones are gone."""

    paths: Sequence[str]
    columns: Columns = field(default_factory=Columns)
    format: str | None = None  # of all files, whatever their names say
    name: str | None = None  # of the source, where the folder's own is not meant
    most: int = DEFAULT_SIZE  # bytes of a file, or of a row
    encoding: str | None = None  # of texts that are not UTF-8
    readers: Sequence[Command] = ()  # of the user, for files that they fit
    complete: bool = True  # whether all ids were given, or begin with one of `walk.unknown`
    bytes_read: int = 0
    walk: Walk = field(init=False)
    _parser: Parser = field(default_factory=Parser)

    def __post_init__(self) -> None:
        self.walk = self._walk()

    def _walk(self) -> Walk:
        return Walk(self.paths, self.name, self._reader.suffixes)

    @property
    def _reader(self) -> Reader:
        return Reader(self.columns.wanted, self.format, self.encoding, self.readers, self.most, self._parser)

    @property
    def origins(self) -> list[Origin]:
        """The sources that the records belong to."""
        return self.walk.origins

    def __iter__(self) -> Iterator[Record | Skipped]:
        self.walk = self._walk()
        try:
            for file in self.walk:
                yield from self._read(file)
        finally:
            self._parser.close()
        for folder, reason in self.walk.unreadable:
            yield Skipped(folder, reason)
        if self.walk.unknown and self.columns.id is not None:
            self.complete = False

    def size(self) -> int | None:
        """How many bytes there are to read, where that can be known."""
        if STANDARD_INPUT in self.paths:
            return None
        return sum(_size(file.path) for file in self._walk())

    @property
    def pruning(self) -> Pruning:
        """Which stored records are not in this source any more, known once all of it was read."""
        return Pruning({SOURCE: {"$in": sorted({origin.name for origin in self.origins})}}, self.gone)

    def gone(self, record_id: str, metadata: Mapping[str, Any]) -> bool:
        """Return whether a stored record that was not given is one of this source's that is not in it any more."""
        return self.complete and self._may_own(record_id) and self._owns(record_id, metadata)

    def _may_own(self, record_id: str) -> bool:
        """Return whether a record may be one of these PATHs, by its id, and is not one that could not be read."""
        if any(map(record_id.startswith, self.walk.unknown)):
            return False
        return self.columns.id is not None or record_id.partition("/")[0] in {each.name for each in self.origins}

    def _owns(self, record_id: str, metadata: Mapping[str, Any]) -> bool:
        """Return whether such a record is one: of a file that was named by itself, only what came from it."""
        if metadata.get(SOURCE) in self.walk.whole:
            return True
        return any(
            metadata.get(SOURCE) == file.origin.name
            and (metadata.get(FILE) == file.name or f"{record_id}:".startswith(f"{file.name}:"))
            for file in self.walk.alone
        )

    def _read(self, file: File) -> Iterator[Record | Skipped]:
        try:
            with _open(file.path) as content:
                for part in self._reader.parts(file.name, file.path, content, named=self._is_named(file)):
                    yield from self._records(part, file)
        except OSError as error:
            reason = f"cannot be read: {error.strerror or type(error).__name__}"
            yield self._unread(self._reader.unread(file.name, file.path, reason))
        if file.path != STANDARD_INPUT:
            self.bytes_read += _size(file.path)

    def _records(self, part: Part, file: File) -> Iterator[Record | Skipped]:
        """The records of a part of a file, each with what it belongs to."""
        match part:
            case Record():
                yield _owned(part, file.origin, None if part.id == file.name else file.name)
            case Skipped():
                yield part
            case Rows():
                own = part.name == file.name and self.columns.id is None
                try:
                    yield from self._rows(part.name, part.rows, file.origin, None if own else file.name)
                except Unreadable as error:
                    yield self._unread(Unread(part.name, str(error), many=True))
            case Unread():
                yield self._unread(part)
            case LeftOut():
                self.walk.left_out += 1

    def _is_named(self, file: File) -> bool:
        """Return whether the user named the file itself."""
        return file.path == STANDARD_INPUT or any(
            Path(path).name == Path(file.path).name and os.path.realpath(path) == os.path.realpath(file.path)
            for path in self.paths
        )

    def _rows(
        self, name: str, rows: Iterable[Numbered], origin: Origin, file: str | None = None
    ) -> Iterator[Record | Skipped]:
        for number, row in rows:
            try:
                if isinstance(row, Unreadable):
                    raise row
                record = self.columns.record(f"{name}:{number}", row, self.most)
            except Unreadable as error:
                if self.columns.id is not None:
                    self.complete = False
                yield Skipped(f"{name}:{number}", str(error))
                continue
            if isinstance(record.text, str) and not record.text.strip():  # as in files without text
                yield Skipped(record.id, "has a text that is empty or blank", gone=True)
            else:
                yield _owned(record, origin, file)

    def _unread(self, part: Unread) -> Skipped:
        """Report a file. What is stored of it is not gone; of rows, which those are is known by their ids at best."""
        if part.many and self.columns.id is None:
            self.walk.unknown.append(f"{part.name}:")
        elif part.many:
            self.complete = False
        if part.packed:
            self.walk.unknown.append(f"{part.name}/")
        return Skipped(part.name, part.reason)


def _owned(record: Record, origin: Origin, file: str | None = None) -> Record:
    """The same, with what it belongs to."""
    owner = {SOURCE: origin.name, ROOT: None if origin.named else origin.root, FILE: file}
    known = {name: value for name, value in owner.items() if value is not None}
    return replace(record, metadata={**record.metadata, **known})


@dataclass(slots=True)
class PostgresSource(Source):
    """The rows of a query or a table."""

    url: str = ""
    query: str | None = None
    table: str | None = None

    @property
    def origins(self) -> list[Origin]:
        """The table, or the query, of this database."""
        return [self._origin]

    @property
    def _origin(self) -> Origin:
        read = f"query {sha256((self.query or '').encode()).hexdigest()[:16]}"
        if self.table is not None:
            read = f"table {self.table}"
        name = self.name or self.table or "query"
        return Origin(name, f"{database_of(self.url)} {read}", named=self.name is not None)

    def __iter__(self) -> Iterator[Record | Skipped]:
        rows = postgres_rows(self.url, self.query, self.table, self.columns.wanted)
        file = None if self.columns.id is None else self._origin.name
        yield from self._rows(self._origin.name, rows, self._origin, file)

    def size(self) -> int | None:
        """Return None: only a second look at all of it would tell."""
        return None

    def _may_own(self, record_id: str) -> bool:
        """Return whether a record may be a row, by its id."""
        return self.columns.id is not None or record_id.startswith(f"{self._origin.name}:")

    def _owns(self, record_id: str, metadata: Mapping[str, Any]) -> bool:
        """Return whether it is one."""
        return metadata.get(SOURCE) == self._origin.name


@contextmanager
def _open(file: str) -> Iterator[IO[bytes]]:
    """Standard input is left open; what needs to jump about in it gets it whole."""
    if file == STANDARD_INPUT:
        yield waited_for(sys.stdin.buffer)
        return
    with Path(file).open("rb") as content:
        yield content if S_ISREG(os.fstat(content.fileno()).st_mode) else waited_for(content)


def _size(file: str) -> int:
    try:
        return Path(file).stat().st_size
    except OSError:
        return 0
