"""The formats of files, and the functions that read them. Importing it loads no parser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from harrier_core import MissingExtra
from harrier_core.extras import require
from harrier_files.formats.document import Document, Given
from harrier_files.limits import Unreadable

__all__ = ["DOCUMENTS", "Document", "Format", "Given", "check_installed", "read_document"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format in which each file is one document."""

    name: str  # for files, in messages: "is no {name} that can be read"
    reader: str  # a module of this package, and its function
    needs: str | None = None  # a module of another package
    plain: bool = False  # whether reading it is just decoding, which needs no other process

    def read(self, given: Given) -> Document:
        """Read a file. An error of a parser only means that the file is broken."""
        module, function = self.reader.split(".")
        reader = cast("Callable[[Given], Document]", getattr(import_module(f"{__name__}.{module}"), function))
        try:
            return reader(given)
        except (Unreadable, MemoryError):
            raise
        except Exception as error:  # unknown files can trigger any error of a parser
            raise Unreadable(f"cannot be read as {self.name} ({type(error).__name__})") from None


DOCUMENTS: Mapping[str, Format] = {
    "text": Format("text", "plain.plain_text", plain=True),
    "markdown": Format("Markdown", "plain.markdown", plain=True),
    "code": Format("source code", "plain.plain_text", plain=True),
    "html": Format("HTML", "web.html_text", "lxml"),
    "pdf": Format("PDF", "pdf.pdf_text", "pypdfium2"),
    "docx": Format("Word document", "word.word_text", "lxml"),
    "pptx": Format("PowerPoint presentation", "word.slides_text", "lxml"),
    "spreadsheet": Format("spreadsheet", "sheets.sheets_text", "python_calamine"),
    "opendocument": Format("OpenDocument", "opendocument.opendocument_text", "lxml"),
    "epub": Format("EPUB", "epub.epub_text", "lxml"),
    "ipynb": Format("notebook", "notebook.notebook_text"),
    "eml": Format("message", "mail.mail_text", "lxml"),
}
_MANY = {"html": "HTML", "pdf": "a PDF", "epub": "an EPUB", "eml": "a message", "opendocument": "OpenDocument"}


def check_installed(kind: str) -> None:
    """Refuse a format whose package is not installed."""
    if module := DOCUMENTS[kind].needs:
        try:
            require(_MANY.get(kind, f"a {DOCUMENTS[kind].name}"), module)
        except MissingExtra as error:  # the other files may still be read
            raise Unreadable(f"is not read: {error}") from None


def read_document(kind: str, given: Given) -> Document:
    """Read a file in the given format."""
    return DOCUMENTS[kind].read(given)
