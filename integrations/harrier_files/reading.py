"""The content of any file as records or rows, or the reason why it cannot be read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from harrier_core import Record, Skipped
from harrier_files.commands import Command
from harrier_files.formats import DOCUMENTS, Document, Given
from harrier_files.formats.decoding import decoded, peekable
from harrier_files.formats.kinds import (
    GZIP,
    HEAD,
    KINDS,
    LANGUAGES,
    VAGUE,
    ZIP,
    OtherKind,
    kind_of,
    suffix_of,
    zipped_kind,
)
from harrier_files.limits import DEFAULT_SIZE, Unreadable, read_at_most
from harrier_files.packed import gunzipped, members
from harrier_files.parser import Parser
from harrier_files.rows import ROWS, Numbered

FORMATS = (*DOCUMENTS, *ROWS)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a file, which are read while it is open."""

    name: str
    rows: Iterator[Numbered]


@dataclass(frozen=True, slots=True)
class Unread:
    """A file, or a member of one, that yields no record, with the reason."""

    name: str
    reason: str
    many: bool = False  # whether it may have rows
    packed: bool = False  # whether it may contain files


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file of another kind, which was not named by the user."""

    name: str


Part = Record | Skipped | Rows | Unread | LeftOut


@dataclass(slots=True)
class Reader:
    """Reads files of any format."""

    wanted: tuple[str, ...] = ("text",)  # columns of rows
    format: str | None = None  # of all files, whatever their names say
    encoding: str | None = None
    commands: Sequence[Command] = ()
    most: int = DEFAULT_SIZE
    parser: Parser = field(default_factory=Parser)

    @property
    def suffixes(self) -> frozenset[str] | None:
        """The suffixes of the files in a folder that are read; None for all."""
        if self.format or any(each.suffix is None for each in self.commands):
            return None
        return frozenset(KINDS) | {each.suffix for each in self.commands if each.suffix}

    def is_one_record(self, called: str) -> bool:
        """Return whether a file with this name is one record, if it is read at all."""
        suffix = suffix_of(called)
        if self._command(called):
            return True
        return suffix not in VAGUE and (self.format or KINDS.get(suffix)) in DOCUMENTS

    def parts(self, name: str, path: str, content: IO[bytes], *, named: bool = True) -> Iterator[Part]:
        """Yield the parts of a file. named: by the user; otherwise a file with a vague suffix is skipped."""
        vague = not named and suffix_of(path) in VAGUE
        yield from self._caught(name, path, self._given(name, path, content), vague=vague)

    def _given(self, name: str, path: str, content: IO[bytes]) -> Iterator[Part]:
        command = self._command(path)
        if command and Path(path).is_file():
            yield self._printed(name, path, command, path)
        else:
            yield from self._opened(name, path, content)

    def _caught(self, name: str, called: str, parts: Iterator[Part], *, vague: bool) -> Iterator[Part]:
        """Yield parts; if reading them fails, yield the reason last."""
        try:
            yield from parts
        except OtherKind as error:
            yield LeftOut(name) if vague else self.unread(name, called, str(error))
        except Unreadable as error:
            yield self.unread(name, called, str(error))
        except OSError as error:
            yield self.unread(name, called, f"cannot be read: {error.strerror or type(error).__name__}")

    def _command(self, called: str) -> Command | None:
        fit = [each for each in self.commands if each.suffix and called.lower().endswith(each.suffix)]
        return next(iter([*fit, *(each for each in self.commands if each.suffix is None)]), None)

    def unread(self, name: str, called: str, reason: str) -> Unread:
        """Return why a file is not read, and whether it may have yielded several records before."""
        suffix = suffix_of(called)
        if suffix == ".gz":
            suffix = suffix_of(called[: -len(suffix)])
        kind = self.format or KINDS.get(suffix)
        return Unread(name, reason, kind in (*ROWS, ZIP), kind == ZIP)

    def _opened(self, name: str, called: str, content: IO[bytes], *, within: bool = False) -> Iterator[Part]:
        if command := self._command(called):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, f"file{suffix_of(called)}")
                file.write_bytes(read_at_most(content, self.most))
                yield self._printed(name, called, command, str(file))
            return
        stream = peekable(content)
        kind = self._kind(called, stream.peek(HEAD)[:HEAD])
        if within and kind in (GZIP, ZIP):
            raise OtherKind("is an archive inside an archive, which is not supported; unpack it")
        if kind == GZIP:
            plain = called[:-3] if called.lower().endswith(".gz") else called
            yield from self._opened(name, plain, gunzipped(stream), within=True)
        elif kind == ZIP:
            yield from self._zipped(name, called, read_at_most(stream, self.most))
        elif kind in ROWS:
            yield Rows(name, ROWS[kind](stream, self.wanted, self.most, self.encoding))
        else:
            yield self._document(name, called, kind, read_at_most(stream, self.most))

    def _kind(self, called: str, head: bytes) -> str:
        if self.format is None:
            return kind_of(called, head)
        return GZIP if head.startswith(b"\x1f\x8b") else self.format

    def _zipped(self, name: str, called: str, content: bytes) -> Iterator[Part]:
        kind = zipped_kind(content)
        if kind != ZIP:
            yield self._document(name, called, kind, content)
            return
        if self.is_one_record(called):  # by its name, on which others rely
            raise Unreadable("is a zip archive despite its name; rename it to .zip")
        suffixes = self.suffixes
        for member, stream in members(content, self.most):
            inside = f"{name}/{member}"
            if suffixes is not None and suffix_of(member) not in suffixes:
                yield LeftOut(inside)
            elif stream is None:
                yield self.unread(inside, member, "is encrypted; unpack it")
            elif ".." in member.split("/") or member.startswith("/") or "\\" in member:
                yield self.unread(inside, member, "has a path that leads outside its archive; rename it")
            else:
                parts = self._opened(inside, member, stream, within=True)
                yield from self._caught(inside, member, parts, vague=suffix_of(member) in VAGUE)

    def _document(self, name: str, called: str, kind: str, content: bytes) -> Record | Skipped:
        if not content.strip():
            return Skipped(name, "is empty or blank", blank=True)
        given = Given(content, self.most, self.encoding)
        document = DOCUMENTS[kind].read(given) if DOCUMENTS[kind].plain else self.parser.read(kind, given)
        known = {"format": kind, **document.metadata}
        if kind == "code" and (language := LANGUAGES.get(suffix_of(called))):
            known["language"] = language
        return _record(name, document, known, blank=DOCUMENTS[kind].plain)

    def _printed(self, name: str, called: str, command: Command, path: str) -> Record | Skipped:
        text = decoded(command.text(path, self.most), self.encoding)
        return _record(name, Document(text), {"format": suffix_of(called).removeprefix(".") or "text"}, blank=True)


def _record(name: str, document: Document, metadata: dict[str, object], *, blank: bool) -> Record | Skipped:
    if not document.text.strip():
        return Skipped(name, "has no text in it", gone=True, blank=blank)
    return Record(name, document.text, metadata, document.places)
