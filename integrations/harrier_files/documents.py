"""The text of a file: plain, Markdown, HTML or PDF."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from harrier_core import MissingExtra
from harrier_core.extras import require
from harrier_files.limits import Unreadable, too_large

_BLOCKS = frozenset(
    [
        *("address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "figcaption", "figure"),
        *("footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre"),
        *("section", "table", "td", "th", "tr", "ul"),
    ]
)
_UNSEEN = frozenset(["noscript", "script", "style", "template", "title"])
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_DECLARED = re.compile(
    rb"""<(?:meta\b[^>]{0,500}?\bcharset|\?xml\b[^>]{0,100}?\bencoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE
)
_DECLARED_WITHIN = 4_096  # bytes; browsers look at the first 1,024
_TITLE = 1_000  # characters of a title that are kept: each chunk's metadata has them
_FED = 1 << 16  # characters that the parser of HTML gets at once

Text = tuple[str, dict[str, Any]]  # and what is known of it


def plain_text(content: bytes) -> Text:
    """Decode UTF-8, with or without a byte order mark."""
    try:
        return content.decode("utf-8-sig"), {}
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 at byte {error.start:,}; convert it") from None


class _Page:
    """Collects the text of a page from the parser's events: no tree is made, so that no page is too deep for it."""

    def __init__(self) -> None:
        self.title: list[str] | None = None
        self._parts: list[str] = []
        self._unseen: list[str] = []  # the elements that are open and show no text

    def start(self, tag: str, attributes: object) -> None:
        """Begin an element."""
        if tag in _UNSEEN:
            self._unseen.append(tag)
            if tag == "title" and self.title is None:
                self.title = []
        elif tag in _BLOCKS:
            self._parts.append("\n")

    def end(self, tag: str) -> None:
        """End an element."""
        if tag in _UNSEEN and self._unseen:
            self._unseen.pop()
            if tag == "title" and self.title is not None:
                self.title.append("\n")  # what follows is of another title
        elif tag in _BLOCKS:
            self._parts.append("\n")

    def data(self, text: str) -> None:
        """Take some text."""
        if not self._unseen:
            self._parts.append(re.sub(r"\s+", " ", text))
        elif self._unseen == ["title"] and self.title is not None and "\n" not in self.title:
            self.title.append(re.sub(r"\s+", " ", text))

    def close(self) -> Text:
        """Return the text, a block a line, and the title."""
        lines = [" ".join(line.split()) for line in "".join(self._parts).splitlines()]
        title = "".join(self.title or []).strip()[:_TITLE]
        return "\n".join(filter(None, lines)), {"title": title} if title else {}


def html_text(content: bytes, most: int) -> Text:
    """Return the text that a browser would show, a block a line, and the title."""
    from lxml import etree

    page = _Page()
    # Without its limits: they cut deep pages and long texts, and the limits of this process are enough.
    parser = etree.HTMLParser(target=page, encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    text = _decoded(content)
    try:
        for begin in range(0, len(text), _FED):
            parser.feed(text[begin : begin + _FED].encode("utf-8", "replace"))
        if not text.strip():
            return "", {}
        read: Text = parser.close()
    except etree.LxmlError as error:
        raise Unreadable(f"is no HTML that can be read ({type(error).__name__})") from None
    if len(read[0]) > most:
        raise Unreadable(too_large("text", most))
    return read


def _decoded(content: bytes) -> str:
    """Decode as a browser does: by a byte order mark, by what the page declares, as UTF-8, or else as windows-1252."""
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    if found := _DECLARED.search(content[:_DECLARED_WITHIN]):
        try:
            name = codecs.lookup(found[1].decode("ascii", "replace")).name
            # The declaration is ASCII, so that it is not UTF-16; and Latin 1 is its superset everywhere on the web.
            name = "utf-8" if name.startswith("utf-16") else "cp1252" if name in ("iso8859-1", "ascii") else name
            return content.decode(name, "replace")
        except (LookupError, ValueError):
            pass
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def pdf_text(content: bytes, most: int) -> Text:
    """Return the text of the pages, with a blank line between them, and the number of pages."""
    from pypdfium2 import PdfDocument, PdfiumError

    pages: list[str] = []
    size = 0
    try:
        with closing(PdfDocument(content)) as document:
            for number in range(len(document)):
                page = document[number]
                text = page.get_textpage().get_text_range()
                page.close()
                # U+FFFE is a hyphen at the end of a line, whose word goes on.
                pages.append(text.replace("\ufffe", "").replace("\r\n", "\n").strip())
                size += len(pages[-1])
                if size > most:
                    raise Unreadable(too_large("text", most))
    except PdfiumError:
        raise Unreadable("is no PDF that can be read; save it again, unencrypted") from None
    if not size:
        raise Unreadable("is a PDF without text, of pictures perhaps; run OCR over it first")
    return "\n\n".join(pages), {"pages": len(pages)}


# Formats whose parsers may hang, or take all memory: they are read in a process that can be killed (`parser.py`).
PARSERS: Mapping[str, Callable[[bytes, int], Text]] = {"html": html_text, "pdf": pdf_text}
_NEEDS = {"html": ("lxml", "HTML"), "pdf": ("pypdfium2", "a PDF")}
PLAIN = ("text", "markdown")


def check_installed(kind: str) -> None:
    """Refuse a format whose library is missing."""
    library, what = _NEEDS[kind]
    try:
        require(what, library)
    except MissingExtra as error:  # the other files may be read
        raise Unreadable(f"is not read: {error}") from None
