"""Paragraphs, headings and tables of office documents, from the events of their XML.

Office Open XML and OpenDocument have different namespaces, and mostly the same names for elements that contain text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from harrier_files.formats.document import Writer
from harrier_files.formats.zipped import Attributes, local, local_attributes

_PARAGRAPHS = frozenset(["p", "h"])
_CELLS = frozenset(["tc", "table-cell"])
_ROWS = frozenset(["tr", "table-row"])
# Alternative forms of earlier content, text that was deleted or moved away, comments, names of drawings, and whatever
# differs on each page.
_UNSEEN = frozenset(
    [
        *("Fallback", "moveFrom", "fld", "annotation", "tracked-changes", "note-citation", "title", "desc"),
        *("page-number", "date-time", "footer", "header"),
    ]
)
_TABS = frozenset(["tabs", "tabLst", "tab-stops"])  # tabs in these are positions, not characters
_BREAKS = frozenset(["br", "cr", "line-break"])
_MOST_SPACES = 1_000
_BODY_TEXT = 9  # the outline level of text that is not a heading, from 0


class Flow:
    """Writes the text of a document. everything: text is directly in paragraphs, not in elements for text."""

    def __init__(self, writer: Writer, *, everything: bool = False, styles: Mapping[str, int] | None = None) -> None:
        self._writer = writer
        self._everything = everything
        self._styles = styles or {}  # those of heading paragraphs, with their levels
        self._open: list[str] = []
        self._unseen = 0  # open elements that are skipped
        self._texts: list[tuple[list[str], list[int]]] = []  # open paragraphs, each with its level, if any
        self._rows: list[list[str]] = []  # open rows, with their cells
        self._cells: list[list[str]] = []  # open cells, with their paragraphs
        self._title = False  # whether a shape with the title is open

    def start(self, tag: str, attributes: Attributes) -> None:
        """Begin an element."""
        name = local(tag)
        above = self._open[-1] if self._open else ""
        self._open.append(name)
        if name in _UNSEEN or self._unseen:
            self._unseen += 1
        elif name in _PARAGRAPHS:
            level = _level(local_attributes(attributes)) if name == "h" else 1 if self._title else 0
            self._texts.append(([], [level] if level else []))
        elif name in _ROWS:
            self._rows.append([])
        elif name in _CELLS:
            self._cells.append([])
        elif self._texts and name in _BREAKS:
            self._texts[-1][0].append("\n")
        else:
            self._detail(name, above, attributes)

    def _detail(self, name: str, above: str, attributes: Attributes) -> None:
        """Handle an element that is a character, or describes the paragraph or shape around it."""
        said = local_attributes(attributes)
        if name == "ph" and said.get("type") in ("title", "ctrTitle"):
            self._title = True
        elif name == "page":
            self._page(said)
        elif not self._texts:
            return
        elif name == "tab" and above not in _TABS:
            self._texts[-1][0].append("\t")
        elif name == "noBreakHyphen":
            self._texts[-1][0].append("-")
        elif name == "s" and self._everything:
            self._texts[-1][0].append(" " * min(_number(said.get("c"), 1), _MOST_SPACES))
        elif name == "pStyle" and (level := self._styles.get(said.get("val", ""))):
            self._texts[-1][1].append(level)
        elif name == "outlineLvl" and (outline := _number(said.get("val"), _BODY_TEXT)) < _BODY_TEXT:
            self._texts[-1][1].append(outline + 1)

    def _page(self, attributes: Mapping[str, str]) -> None:
        """Begin a page of a drawing or a presentation."""

    def end(self, tag: str) -> None:
        """End an element."""
        name = local(tag)
        self._open.pop()
        if name == "sp":
            self._title = False
        if self._unseen:
            self._unseen -= 1
        elif name in _PARAGRAPHS:
            self._paragraph()
        elif name in _CELLS and self._cells:
            text = " ".join(self._cells.pop())
            if self._rows:
                self._rows[-1].append(text)
        elif name in _ROWS and self._rows:
            self._line("\t".join(self._rows.pop()).rstrip())

    def _paragraph(self) -> None:
        parts, levels = self._texts.pop()
        text = "".join(parts)
        if self._cells:
            self._cells[-1].append(" ".join(text.split()))
        elif levels:
            self._writer.heading(levels[-1], " ".join(text.split()))
        else:
            self._line(text)

    def _line(self, text: str) -> None:
        if self._cells:  # in a table around this one
            self._cells[-1].append(text)
        else:
            self._writer.line(text)

    def data(self, text: str) -> None:
        """Take some text."""
        if self._unseen or not self._texts:
            return
        if self._everything:
            self._texts[-1][0].append(re.sub(r"\s+", " ", text))
        elif self._open[-1] == "t":
            self._texts[-1][0].append(text)

    def close(self) -> None:
        """End the document."""


def _level(attributes: Mapping[str, str]) -> int:
    return max(_number(attributes.get("outline-level"), 1), 1)


def _number(said: str | None, otherwise: int) -> int:
    return int(said) if said is not None and said.isascii() and said.isdigit() and len(said) < 7 else otherwise
