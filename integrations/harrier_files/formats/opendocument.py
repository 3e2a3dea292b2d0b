"""Texts, presentations and drawings in OpenDocument format, as written by LibreOffice."""

from __future__ import annotations

from collections.abc import Mapping

from harrier_files.formats.document import Document, Given, Writer
from harrier_files.formats.flow import Flow
from harrier_files.formats.word import title_of
from harrier_files.formats.zipped import Zipped


def opendocument_text(given: Given) -> Document:
    """Return the text, with notes at their references, and the title."""
    zipped, writer = Zipped(given), Writer(given.most)
    pages = _Pages(writer, everything=True)
    zipped.parse("content.xml", pages)
    return writer.document(title=title_of(zipped, "meta.xml"), slides=pages.count)


class _Pages(Flow):
    """A text, or the pages of a presentation."""

    count = 0

    def _page(self, attributes: Mapping[str, str]) -> None:
        self.count += 1
        self._writer.blank()
        self._writer.mark("slide", self.count)
