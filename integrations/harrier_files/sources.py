"""Files, folders, pages, standard input and tables as records, with reports of those that could not be read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

from harrier_core import Deferred, Pruning, Record, SettingError, Skipped, __version__
from harrier_files.choosing import NO_SUFFIX, Choice
from harrier_files.columns import Columns
from harrier_files.commands import Command
from harrier_files.files import STANDARD_INPUT, File, Gone, LocalFile, NotWanted, Origin, stamp_of
from harrier_files.formats.kinds import suffix_of
from harrier_files.limits import DEFAULT_SIZE, Unreadable
from harrier_files.parser import Parser
from harrier_files.reading import LeftOut, Part, Reader, Rows, Unread
from harrier_files.rows import Numbered
from harrier_files.walk import Walk

# A record's metadata about its origin: the source's name; its location, unless the user named the source; the
# file of a row with its own id; and the sitemap in which a page was found.
SOURCE, ROOT, FILE, LISTING = OWN_METADATA = ("harrier_source", "harrier_root", "harrier_file", "harrier_sitemap")


Given = str | PathLike[str]  # a path or a URL


@dataclass(slots=True)
class Source:
    """The records of files, for `Index.ingest`; it also finds stored records whose files are gone.

        source = Source("handbook", exclude=["drafts/"])
        report = index.ingest(source, prune=source.pruning)

    It is iterable, any number of times: files are read as their records are needed. Among the Records are Skipped ones,
    for each file or row that could not be read, with the reason; an ingest puts them into its report.

    A record's id does not depend on how a path was spelled: a file of a folder is FOLDER/PATH/IN/IT, and one that is
    named individually belongs to the folder that it is in; a page's id is its URL; that of a row without one is
    FILE:LINE.

    Attributes:
        paths: Files, folders, URLs, or "-" for standard input; one, or several. A URL is a page or a sitemap
            (https://), or whatever fsspec opens (s3://bucket/prefix).
        columns: Which columns of a row make a record.
        format: The format of all files, whatever their names; one of FORMATS.
        name: The prefix of the files' ids, instead of the folder's name, so that the folder may be anywhere.
        most: The largest file that is read, in bytes, and the largest row.
        encoding: That of texts that are not UTF-8 and do not declare one.
        readers: User commands that read files, as parsed by `harrier_files.commands`.
        include: Read only files in folders that match one of these .gitignore patterns, including files of any suffix,
            and hidden ones if the pattern has their dot.
        exclude: Do not read what matches one of these.
        ignore: Whether .gitignore and .harrierignore are respected.
        links: What to do with links in folders to files and folders that are not among `paths`: "skip" ignores them,
            and their stored records count as gone; "follow" reads them.
        piped: The id of the text from standard input.
        complete: After a run: whether all ids were yielded, or begin with one of `walk.unknown`.
        bytes_read: How many bytes have been read so far.
        walk: Other findings: `walk.left_out` counts the files that are not read, by kind.

    """

    paths: Given | Sequence[Given]
    columns: Columns = field(default_factory=Columns)
    format: str | None = None
    name: str | None = None
    most: int = DEFAULT_SIZE
    encoding: str | None = field(default=None, kw_only=True)
    readers: Sequence[Command] = field(default=(), kw_only=True)
    include: Sequence[str] = field(default=(), kw_only=True)
    exclude: Sequence[str] = field(default=(), kw_only=True)
    ignore: bool = field(default=True, kw_only=True)
    links: Literal["skip", "follow"] = field(default="skip", kw_only=True)
    piped: str = field(default=STANDARD_INPUT, kw_only=True)
    complete: bool = field(default=True, init=False)
    bytes_read: int = field(default=0, init=False)
    walk: Walk = field(init=False)
    _parser: Parser = field(default_factory=Parser, kw_only=True)

    def __post_init__(self) -> None:
        if self.links not in ("skip", "follow"):
            raise SettingError(f"links must be 'skip' or 'follow', got {self.links!r}")
        if not self.piped.strip():
            raise SettingError("the id of standard input must not be empty or blank")
        if isinstance(self.include, str) or isinstance(self.exclude, str):
            raise SettingError("include and exclude must be lists of patterns, got a single str")
        self.walk = self._walk()

    def _walk(self) -> Walk:
        choice = Choice(self._reader.suffixes, tuple(self.include), tuple(self.exclude), self.ignore)
        follow = self.links == "follow"
        return Walk(self._named, self.name, choice, follow=follow, piped=self.piped, most=self.most)

    @property
    def _named(self) -> list[str]:
        paths = [self.paths] if isinstance(self.paths, str | PathLike) else self.paths
        return [fspath(path) for path in paths]

    @property
    def _reader(self) -> Reader:
        return Reader(self.columns.wanted, self.format, self.encoding, self.readers, self.most, self._parser)

    @property
    def origins(self) -> list[Origin]:
        """The sources that the records belong to."""
        return self.walk.origins

    def __iter__(self) -> Iterator[Record | Skipped]:
        try:
            for each in self._all(later=False):
                if not isinstance(each, Deferred):
                    yield each
        finally:
            self._parser.close()

    @contextmanager
    def deferred(self) -> Iterator[Iterator[Record | Skipped | Deferred]]:
        """Yield the same records, except that an ingest with a memory reads files only if they may have changed.

        with source.deferred() as records:
            report = index.ingest(records, memory=FileMemory.of_user(), prune=source.pruning)
        """
        try:
            yield self._all(later=True)
        finally:
            self._parser.close()

    def _all(self, *, later: bool) -> Iterator[Record | Skipped | Deferred]:
        self.walk = self._walk()
        self.complete, self.bytes_read = True, 0
        for file in self.walk:
            if later and (deferred := self._deferred(file)) is not None:
                yield deferred
            else:
                yield from self.read(file)
            self.bytes_read += file.size or 0
        for folder, reason in self.walk.unreadable:
            yield Skipped(folder, reason)
        if self.walk.unknown and self.columns.id is not None:
            self.complete = False

    def size(self) -> int | None:
        """Return how many bytes there are to read, if that is quickly known."""
        walk = self._walk()
        return sum(file.size or 0 for file in walk) if walk.is_local else None

    @property
    def pruning(self) -> Pruning:
        """The selection of stored records that are no longer in this source, known once all of it was read."""
        return Pruning({SOURCE: {"$in": sorted({origin.name for origin in self.origins})}}, self.gone)

    def gone(self, record_id: str, metadata: Mapping[str, Any]) -> bool:
        """Return whether a stored record that was not yielded belongs to this source but is no longer in it."""
        if metadata.get(LISTING) in self.walk.account.unlisted:  # it is unknown what that sitemap lists
            return False
        return self.complete and self._may_own(record_id) and self._owns(record_id, metadata)

    def _may_own(self, record_id: str) -> bool:
        """Return whether a record may belong to these PATHs, by its id, and is not one that could not be read."""
        if any(map(record_id.startswith, self.walk.unknown)):
            return False
        return self.columns.id is not None or any(record_id.startswith(each.prefix) for each in self.origins)

    def _owns(self, record_id: str, metadata: Mapping[str, Any]) -> bool:
        """Return whether such a record belongs here: for a file that was named individually, only its own records."""
        if metadata.get(SOURCE) in self.walk.whole:
            return True
        return any(
            metadata.get(SOURCE) == file.origin.name
            and (
                file.name in (metadata.get(FILE), metadata.get(LISTING)) or f"{record_id}:".startswith(f"{file.name}:")
            )
            for file in self.walk.alone
        )

    def apart(self, file: File) -> Source:
        """Return a source of this file alone, with the same settings, for another process to read."""
        paths = [file.path] if isinstance(file, LocalFile) and self._is_named(file) else []
        name = self.name if paths else None
        return replace(self, paths=paths, name=name, include=(), exclude=(), _parser=Parser())

    def read(self, file: File) -> Iterator[Record | Skipped]:
        """Yield the records of one of the files, and the parts of it that are rejected."""
        called = _called(file)
        try:
            with file.open() as content:
                for part in self._reader.parts(file.name, called, content, named=self._is_named(file)):
                    yield from self._records(part, file)
        except NotWanted as error:
            self.walk.account.left_out[error.kind] += 1
        except Gone as error:
            yield Skipped(file.name, str(error), gone=True)
        except Unreadable as error:
            yield self._unread(self._reader.unread(file.name, called, str(error)))
        except OSError as error:
            reason = f"cannot be read: {error.strerror or type(error).__name__}"
            yield self._unread(self._reader.unread(file.name, called, reason))

    def _deferred(self, file: File) -> Deferred | None:
        """Return a file that is one record, if changes of it can be detected."""
        stamp = file.stamp  # before any other access to it
        if stamp is None or not self._reader.is_one_record(_called(file)):
            return None
        settings = (self.format, self.encoding, self.readers, self.most, file.origin, __version__)
        return Deferred(file.name, stamp_of(stamp, settings), partial(self._one, file))

    def _one(self, file: File) -> Record | Skipped:
        return next(self.read(file), Skipped(file.name, "is no longer there", gone=True))

    def _records(self, part: Part, file: File) -> Iterator[Record | Skipped]:
        """Yield the records of a part of a file, each with its origin."""
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
                self.walk.account.left_out[suffix_of(part.name) or NO_SUFFIX] += 1

    def _is_named(self, file: File) -> bool:
        """Return whether the user named the file itself."""
        return not isinstance(file, LocalFile) or any(
            Path(path).name == Path(file.path).name and os.path.realpath(path) == os.path.realpath(file.path)
            for path in self._named
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
            if isinstance(record.text, str) and not record.text.strip():  # as for files without text
                yield Skipped(record.id, "has a text that is empty or blank", blank=True)
            else:
                yield _owned(record, origin, file)

    def _unread(self, part: Unread) -> Skipped:
        """Report an unread file. Its stored records are kept; only ids can show which stored rows belong to it."""
        if part.many and self.columns.id is None:
            self.walk.unknown.append(f"{part.name}:")
        elif part.many:
            self.complete = False
        if part.packed:
            self.walk.unknown.append(f"{part.name}/")
        return Skipped(part.name, part.reason)


def _called(file: File) -> str:
    """Return a path with the suffix of the file's kind, which a page's path need not have."""
    return file.path if file.path.lower().endswith(file.suffix) else f"{file.path}_{file.suffix}"


def _owned(record: Record, origin: Origin, file: str | None = None) -> Record:
    """Return the record with its origin in its metadata."""
    owner = {SOURCE: origin.name, ROOT: None if origin.named else origin.root, FILE: file, LISTING: origin.listing}
    known = {name: value for name, value in owner.items() if value is not None}
    return replace(record, metadata={**record.metadata, **known})
