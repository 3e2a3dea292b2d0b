"""The text of a file: plain, Markdown, HTML or PDF."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any


class Unreadable(Exception):
    """A file, or a row of one, that yields no record; its message says why."""


_BLOCKS = [
    *("address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "figcaption", "figure", "footer"),
    *("form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section"),
    *("table", "td", "th", "tr", "ul"),
]
_UNSEEN = ["script", "style", "template", "noscript", "head", "title"]


def plain_text(content: bytes) -> tuple[str, dict[str, Any]]:
    """UTF-8, with or without a byte order mark, as it is."""
    try:
        return content.decode("utf-8-sig"), {}
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 at byte {error.start:,}; convert it") from None


def html_text(content: bytes) -> tuple[str, dict[str, Any]]:
    """What a browser would show, a block a line, and the title."""
    try:
        from bs4 import BeautifulSoup, Tag
        from bs4.builder import ParserRejectedMarkup
        from bs4.element import PreformattedString
    except ImportError:
        raise Unreadable("is HTML, which needs beautifulsoup4; run pip install 'harrier-kit[cli]'") from None
    try:
        with warnings.catch_warnings():  # of what looks like a name or like XML to it
            warnings.simplefilter("ignore")
            soup = BeautifulSoup(content, "html.parser")
        title = soup.title.get_text(" ", strip=True) if soup.title else ""
        for tag in soup(_UNSEEN):
            tag.decompose()
        for string in soup.find_all(string=True):
            if isinstance(string, PreformattedString):  # a comment, a declaration; as a plain string it would be text
                string.extract()
                continue
            string.replace_with(re.sub(r"\s+", " ", string))
        for tag in soup(_BLOCKS):
            if isinstance(tag, Tag):
                tag.insert(0, "\n")
                tag.insert_after("\n")
        lines = [" ".join(line.split()) for line in soup.get_text().splitlines()]
    except (ParserRejectedMarkup, RecursionError) as error:
        raise Unreadable(f"is no HTML that can be read ({type(error).__name__})") from None
    return "\n".join(filter(None, lines)), {"title": title} if title else {}


def pdf_text(content: bytes) -> tuple[str, dict[str, Any]]:
    """The text of its pages, a blank line between them."""
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError:
        raise Unreadable("is a PDF, which needs pypdf; run pip install 'harrier-kit[cli]'") from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells of each flaw that it could mend
    try:
        reader = PdfReader(io.BytesIO(content))
        text = "\n\n".join(page.extract_text() for page in reader.pages)
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OSError) as error:
        raise Unreadable(f"is no PDF that can be read ({type(error).__name__}); save it anew, unencrypted") from None
    if not text.strip():
        raise Unreadable("is a PDF without text, of pictures perhaps; run a text recognition over it first")
    return text, {"pages": len(reader.pages)}


READERS: Mapping[str, Callable[[bytes], tuple[str, dict[str, Any]]]] = {
    "text": plain_text,
    "markdown": plain_text,
    "html": html_text,
    "pdf": pdf_text,
}
