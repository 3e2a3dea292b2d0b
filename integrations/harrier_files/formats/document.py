"""A document that was read: its text, its metadata, and the positions of its parts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harrier_files.limits import DEFAULT_SIZE, Unreadable, too_large

# Characters of a heading, and of all headings above a position, that are kept: each chunk's metadata have them.
_HEADING, _HEADINGS = 200, 400
_MARKS = 100_000  # for one name; after that, no mark is better than a wrong one
_BETWEEN = " › "

Marks = dict[str, tuple[list[int], list[Any]]]  # by name: offsets in ascending order, and what begins there


@dataclass(frozen=True, slots=True)
class Given:
    """The content of a file, and how to read it."""

    content: bytes
    most: int = DEFAULT_SIZE  # characters of its text
    encoding: str | None = None  # of texts that are not UTF-8 and do not declare an encoding


@dataclass(slots=True)
class Places:
    """Tells where in a document a piece of its text begins: on which page or line, under which headings.

    Lines are counted from the last piece that was asked about, so that asking about all pieces takes linear time.
    """

    marks: Marks
    text: str | None = None  # the text whose lines are counted
    _counted: tuple[int, int] = field(default=(0, 1), compare=False, repr=False)  # an offset, and the line it is on

    def __call__(self, start: int, end: int) -> Mapping[str, Any]:
        """Return the metadata of a piece of the text, by its start."""
        found = {name: values[at - 1] for name, (offsets, values) in self.marks.items() if (at := _at(offsets, start))}
        if self.text is not None:
            found["line"] = self._line(self.text, start)
        return {name: value for name, value in found.items() if value is not None}

    def _line(self, text: str, start: int) -> int:
        offset, line = self._counted
        line += text.count("\n", offset, start) if start >= offset else -text.count("\n", start, offset)
        self._counted = start, line
        return line


def _at(offsets: list[int], start: int) -> int:
    return bisect_right(offsets, start)


@dataclass(frozen=True, slots=True)
class Document:
    """The text of a file, and its metadata."""

    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    marks: Marks = field(default_factory=dict)
    lined: bool = False  # whether lines of the text are lines of the file

    @property
    def places(self) -> Places | None:
        """A description of the pieces of the text, if there is one."""
        return Places(self.marks, self.text if self.lined else None) if self.marks or self.lined else None


class Marker:
    """Collects the positions of parts of a text, and the headings above each position."""

    def __init__(self) -> None:
        self.marks: Marks = {}
        self._open: list[tuple[int, str]] = []  # headings, by their levels

    def mark(self, offset: int, name: str, value: object) -> None:
        """Mark what begins at an offset, such as a page."""
        offsets, values = self.marks.setdefault(name, ([], []))
        if len(offsets) <= _MARKS:
            offsets.append(offset)
            values.append(value if len(offsets) <= _MARKS else None)

    def heading(self, offset: int, level: int, title: str) -> None:
        """Mark a heading at an offset, under the earlier ones of lower levels."""
        while self._open and self._open[-1][0] >= level:
            self._open.pop()
        if title := " ".join(title.split())[:_HEADING]:
            self._open.append((level, title))
        self.mark(offset, "heading", _BETWEEN.join(each for _, each in self._open)[-_HEADINGS:] or None)

    def leave_headings(self, offset: int) -> None:
        """End all headings at an offset."""
        if self._open:
            self._open.clear()
            self.mark(offset, "heading", None)


class Writer:
    """Writes the text of a document, a line at a time, and marks the parts that begin."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[str] = []
        self._size = 0
        self._marker = Marker()

    def line(self, text: str) -> None:
        """Write a line, or lines, unless the text is blank."""
        if text := text.strip("\n").rstrip():
            self._write(f"{text}\n")

    def blank(self) -> None:
        """Separate what follows from what was written before."""
        if self._parts and self._parts[-1] != "\n":
            self._write("\n")

    def heading(self, level: int, text: str) -> None:
        """Write a heading; what follows is under it."""
        if text.strip():
            self.blank()
            self._marker.heading(self._size, level, text)
            self.line(text)

    def mark(self, name: str, value: object) -> None:
        """Mark what begins here, such as a page; earlier headings end."""
        self._marker.leave_headings(self._size)
        self._marker.mark(self._size, name, value)

    def _write(self, text: str) -> None:
        self._parts.append(text)
        self._size += len(text)
        if self._size > self._most + 1:  # the last line's end is not part of the text
            raise Unreadable(too_large("text", self._most))

    def document(self, **metadata: object) -> Document:
        """Return the document written so far."""
        known = {name: value for name, value in metadata.items() if value}
        return Document("".join(self._parts).rstrip("\n"), known, self._marker.marks)
