"""Texts that are read as they are: plain text, Markdown and source code."""

from __future__ import annotations

import re

from harrier_files.formats.decoding import decoded
from harrier_files.formats.document import Document, Given, Marker

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_NO_HEADING = re.compile(r"\s*($|[-+*>|#=]|\d+[.)]\s)")  # lines that are not made headings by an underline
_LONG = 1_000  # characters of a line that are checked
_LINE = re.compile(r"[^\n]*\n?")


def plain_text(given: Given) -> Document:
    """Return a text whose lines are numbered."""
    return Document(decoded(given.content, given.encoding), lined=True)


def markdown(given: Given) -> Document:
    """Return Markdown as it is written, and the positions of its headings."""
    text = decoded(given.content, given.encoding)
    marker = Marker()
    mark_headings(text, marker)
    return Document(text, marks=marker.marks, lined=True)


def mark_headings(text: str, marker: Marker, begin: int = 0) -> None:
    """Mark the headings of Markdown that begins at an offset, ignoring lines in code fences."""
    if "#" not in text and "==" not in text and "--" not in text:
        return
    found = _Headings(marker, begin)
    for line in _LINE.finditer(text):
        found.line(line.start(), line[0].rstrip("\r\n")[:_LONG])


class _Headings:
    """Finds headings, one line at a time."""

    def __init__(self, marker: Marker, begin: int) -> None:
        self._marker, self._begin = marker, begin
        self._fence = ""  # the open one
        self._before: tuple[int, str] | None = None  # a line that the next one may underline
        self._first = True

    def line(self, start: int, line: str) -> None:
        """Take the next line."""
        fenced = bool(self._fence)
        if self._first and line == "---":  # front matter, up to another such line
            self._fence = "---"
        elif self._fence:
            self._fence = "" if line.strip().startswith(self._fence) else self._fence
        elif fence := _FENCE.match(line):
            self._fence = fence[1]
        elif heading := _HEADING.match(line):
            title = line[heading.end() :].rstrip().rstrip("#")
            self._marker.heading(self._begin + start, len(heading[1]), title)
        elif self._before and (under := _UNDERLINE.match(line)):
            level = 1 if under[1][0] == "=" else 2
            self._marker.heading(self._begin + self._before[0], level, self._before[1])
        text = not (fenced or self._fence or _NO_HEADING.match(line))
        self._before = (start, line) if text else None
        self._first = False
