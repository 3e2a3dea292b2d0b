"""Books in EPUB: their chapters in reading order."""

from __future__ import annotations

from posixpath import dirname
from urllib.parse import unquote

from harrier_files.formats.document import Document, Given, Writer
from harrier_files.formats.web import decoded_page, write_page
from harrier_files.formats.word import title_of
from harrier_files.formats.zipped import Zipped, resolved
from harrier_files.limits import Unreadable

_PAGES = ("application/xhtml+xml", "text/html")


def epub_text(given: Given) -> Document:
    """Return the text of the chapters, and the title."""
    zipped, writer = Zipped(given), Writer(given.most)
    package = next((each.get("full-path", "") for _, each in zipped.elements("META-INF/container.xml", "rootfile")), "")
    if package not in zipped:
        raise Unreadable("names no contents; save it again")
    pages = {
        each.get("id", ""): resolved(dirname(package), unquote(each.get("href", "")))
        for _, each in zipped.elements(package, "item")
        if each.get("media-type") in _PAGES and "nav" not in each.get("properties", "").split()
    }
    for _, each in zipped.elements(package, "itemref"):
        if name := pages.get(each.get("idref", "")):
            writer.blank()
            write_page(writer, decoded_page(zipped.read(name)))
    return writer.document(title=title_of(zipped, package))
