"""The text of a PDF, page by page."""

from __future__ import annotations

from contextlib import closing

from harrier_files.formats.document import Document, Given, Writer
from harrier_files.limits import Unreadable


def pdf_text(given: Given) -> Document:
    """Return the text of the pages, with a blank line between them, and the number of pages."""
    from pypdfium2 import PdfDocument, PdfiumError

    writer, some = Writer(given.most), False
    try:
        with closing(PdfDocument(given.content)) as document:
            pages = len(document)
            for number in range(pages):
                page = document[number]
                text = page.get_textpage().get_text_range()
                page.close()
                # U+FFFE is a hyphen at the end of a line, whose word continues.
                text = text.replace("\ufffe", "").replace("\r\n", "\n").strip()
                writer.blank()
                writer.mark("page", number + 1)
                writer.line(text)
                some = some or bool(text)
    except PdfiumError:
        raise Unreadable("cannot be read as PDF; save it again, unencrypted") from None
    if not some:
        raise Unreadable("is a PDF without text, perhaps scanned; run OCR on it first")
    return writer.document(pages=pages)
