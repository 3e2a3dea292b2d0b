"""The text of an HTML page, as a browser would show it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping

from harrier_files.formats.decoding import MARKS
from harrier_files.formats.document import Document, Given, Writer
from harrier_files.limits import Unreadable

_BLOCKS = frozenset(
    [
        *("address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "figcaption", "figure"),
        *("footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre"),
        *("section", "table", "td", "th", "tr", "ul"),
    ]
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_UNSEEN = frozenset(["noscript", "script", "style", "template", "title"])
# Navigation: HTML's own element and roles, and the classes of DocBook, Publican, Sphinx and Bootstrap. Other names of
# menus, such as "sidebar", are also those of boxes in the text.
_ROLES = frozenset(["menu", "menubar", "navigation", "search"])
_CLASSES = frozenset(
    ["breadcrumb", "breadcrumbs", "docnav", "mobile-nav", "navbar", "navfooter", "navheader", "sphinxsidebar"]
)
# Without its menus a page must have at least this share of its text, or they are its content: a table of contents.
_LEAST = 0.2
_PERMALINK = "¶"  # added after headings by Sphinx and MkDocs
_DECLARED = re.compile(
    rb"""<(?:meta\b[^>]{0,500}?\bcharset|\?xml\b[^>]{0,100}?\bencoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE
)
_DECLARED_WITHIN = 4_096  # bytes; browsers look at the first 1,024
_TITLE = 1_000  # characters of a title that are kept: each chunk's metadata has them
_FED = 1 << 16  # characters passed to the HTML parser at once


class _Page:
    """Collects the text of a page from the parser's events: no tree is built, so no page is too deep for it."""

    def __init__(self) -> None:
        self.title: list[str] | None = None
        self.lines: list[tuple[str, int, bool]] = []  # a text, the level of a heading or 0, and whether it is in a menu
        self._parts: list[str] = []  # parts of the current line
        self._unseen: list[str] = []  # open elements that show no text
        self._level = 0
        self._menu: list[str] = []  # an open menu, and the elements of its kind in it
        self._kept = 0  # open elements in which blanks count

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Begin an element."""
        if tag in _UNSEEN:
            self._unseen.append(tag)
            if tag == "title" and self.title is None:
                self.title = []
            return
        if tag in _BLOCKS:
            self._end_line()
            self._level = _HEADINGS.get(tag, self._level)
            self._kept += tag == "pre"
        if self._menu:
            if tag == self._menu[0]:
                self._menu.append(tag)
        elif tag == "nav" or (attributes and _is_menu(attributes)):
            self._end_line()
            self._menu.append(tag)

    def end(self, tag: str) -> None:
        """End an element."""
        if tag in _UNSEEN:
            if self._unseen:
                self._unseen.pop()
                if tag == "title" and self.title is not None:
                    self.title.append("\n")  # what follows belongs to another title
            return
        if tag in _BLOCKS:
            self._end_line()
            self._level = 0 if tag in _HEADINGS else self._level
            self._kept -= tag == "pre" and self._kept > 0
        if self._menu and tag == self._menu[-1]:
            self._end_line()
            self._menu.pop()

    def data(self, text: str) -> None:
        """Take some text."""
        if not self._unseen:
            self._parts.append(text if self._kept else re.sub(r"\s+", " ", text))
        elif self._unseen == ["title"] and self.title is not None and "\n" not in self.title:
            self.title.append(re.sub(r"\s+", " ", text))

    def _end_line(self) -> None:
        if not self._parts:
            return
        text = "".join(self._parts)
        self._parts.clear()
        if text := text.rstrip() if self._kept else " ".join(text.split()).removesuffix(_PERMALINK):
            self.lines.append((text, self._level, bool(self._menu)))

    def close(self) -> None:
        """End the page."""
        self._end_line()

    def write(self, writer: Writer) -> None:
        """Write the text, without menus unless there is little else."""
        whole = sum(len(text) for text, *_ in self.lines)
        without = sum(len(text) for text, _, menu in self.lines if not menu)
        for text, level, menu in self.lines:
            if menu and without >= _LEAST * whole:
                continue
            if level:
                writer.heading(level, text)
            else:
                writer.line(text)

    @property
    def said_title(self) -> str:
        """The title that the page declares."""
        return "".join(self.title or []).strip()[:_TITLE]


def _is_menu(attributes: Mapping[str, str]) -> bool:
    return attributes.get("role") in _ROLES or not _CLASSES.isdisjoint(attributes.get("class", "").split())


def html_text(given: Given) -> Document:
    """Return the text that a browser would show, one line per block, and the title."""
    writer = Writer(given.most)
    return writer.document(title=write_page(writer, decoded_page(given.content, given.encoding)))


def write_page(writer: Writer, text: str) -> str:
    """Write the text of a page, and return its title."""
    from lxml import etree

    page = _Page()
    # Without its limits, which cut deep pages and long texts; the limits of this process are enough.
    parser = etree.HTMLParser(target=page, encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    try:
        for begin in range(0, len(text), _FED):
            parser.feed(text[begin : begin + _FED].encode("utf-8", "replace"))
        if text.strip():
            parser.close()
    except etree.LxmlError as error:
        raise Unreadable(f"cannot be read as HTML ({type(error).__name__})") from None
    page.write(writer)
    return page.said_title


def decoded_page(content: bytes, encoding: str | None = None) -> str:
    """Decode as a browser does: by a byte order mark, by the declared encoding, as UTF-8, or else as windows-1252."""
    for mark, name in MARKS.items():
        if content.startswith(mark):
            return content[len(mark) :].decode(name, "replace")
    if found := _DECLARED.search(content[:_DECLARED_WITHIN]):
        try:
            name = codecs.lookup(found[1].decode("ascii", "replace")).name
            # The declaration is ASCII, so it cannot be UTF-16; and Latin 1 means its superset everywhere on the web.
            name = "utf-8" if name.startswith("utf-16") else "cp1252" if name in ("iso8859-1", "ascii") else name
            return content.decode(name, "replace")
        except (LookupError, ValueError):
            pass
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode(encoding or "cp1252", "replace")
