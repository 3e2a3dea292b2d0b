"""Spreadsheets of Excel and LibreOffice, read by calamine."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from io import BytesIO

from harrier_files.formats.document import Document, Given, Writer


def sheets_text(given: Given) -> Document:
    """Return the cells of all sheets, one line per row, as values: formulas by their results."""
    from python_calamine import CalamineWorkbook, SheetTypeEnum

    writer = Writer(given.most)
    with CalamineWorkbook.from_filelike(BytesIO(given.content)) as book:
        sheets = [each.name for each in book.sheets_metadata if each.typ == SheetTypeEnum.WorkSheet]
        for name in sheets:
            writer.blank()
            writer.mark("sheet", name[:200])
            for row in book.get_sheet_by_name(name).iter_rows():
                writer.line("\t".join(map(_shown, row)).rstrip())
    return writer.document(sheets=len(sheets))


def _shown(value: float | str | bool | date | datetime | time | timedelta) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return value.isoformat(" ") if isinstance(value, datetime) else str(value)
