"""Minimal hand-written Office documents with only the parts that a reader needs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from xml.sax.saxutils import escape

_RELATIONSHIPS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
_SLIDES = "http://schemas.openxmlformats.org/presentationml/2006/main"
_SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "urn:oasis:names:tc:opendocument:xmlns"


def zipped(parts: Mapping[str, str | bytes], *, first: str = "") -> bytes:
    """Return a zip of these parts. first: the content of `mimetype`, which is not compressed."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        if first:
            archive.writestr("mimetype", first, zipfile.ZIP_STORED)
        for name, content in parts.items():
            archive.writestr(name, content)
    return written.getvalue()


def relationships(*related: tuple[str, str, str]) -> str:
    """Return the part that names other parts: by id, kind and target."""
    each = "".join(
        f'<Relationship Id="{id_}" Type="{_RELATIONSHIPS}/{kind}" Target="{target}"/>' for id_, kind, target in related
    )
    return f'<Relationships xmlns="{_PACKAGE}">{each}</Relationships>'


def properties(title: str) -> str:
    """Return the part that has the title."""
    return f'<p xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{escape(title)}</dc:title></p>'


def word(body: str, *, title: str = "", notes: str = "", **more: str | bytes) -> bytes:
    """Return a Word document with this body, in WordprocessingML."""
    styles = (
        f'<w:styles xmlns:w="{_WORD}"><w:style w:styleId="H1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:styleId="H2"><w:name w:val="heading 2"/></w:style>'
        '<w:style w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="H2"/></w:style></w:styles>'
    )
    return zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": relationships(("r1", "officeDocument", "word/document.xml")),
            "word/_rels/document.xml.rels": relationships(
                ("r1", "styles", "styles.xml"), ("r2", "footnotes", "/word/footnotes.xml")
            ),
            "word/document.xml": f'<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>',
            "word/styles.xml": styles,
            "word/footnotes.xml": f'<w:footnotes xmlns:w="{_WORD}">{notes}</w:footnotes>',
            "docProps/core.xml": properties(title),
            **more,
        }
    )


def paragraph(text: str, style: str = "") -> str:
    """Return a paragraph of a Word document."""
    styled = f'<w:pPr><w:tabs><w:tab w:pos="9"/></w:tabs><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{styled}<w:r><w:t>{escape(text)}</w:t></w:r></w:p>"


def slides(*shown: tuple[str, str, str]) -> bytes:
    """Return a presentation of slides: the title, text and notes of each, in the reverse of their parts' order."""
    count = len(shown)
    parts: dict[str, str | bytes] = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": relationships(("r1", "officeDocument", "ppt/presentation.xml")),
        "ppt/_rels/presentation.xml.rels": relationships(
            *((f"r{number}", "slide", f"slides/slide{count - number}.xml") for number in range(count))
        ),
        "ppt/presentation.xml": f'<p:presentation xmlns:p="{_SLIDES}" xmlns:r="{_RELATIONSHIPS}"><p:sldIdLst>'
        + "".join(f'<p:sldId id="{256 + number}" r:id="r{number}"/>' for number in range(count))
        + "</p:sldIdLst></p:presentation>",
    }
    for number, (title, text, notes) in enumerate(shown):
        name = f"slide{count - number}.xml"
        parts[f"ppt/slides/{name}"] = _slide(_shape(title, '<p:ph type="title"/>') + _shape(text))
        parts[f"ppt/slides/_rels/{name}.rels"] = relationships(("r1", "notesSlide", f"../notesSlides/{name}"))
        parts[f"ppt/notesSlides/{name}"] = _slide(_shape(notes))
    return zipped(parts)


def _slide(shapes: str) -> str:
    return f'<p:sld xmlns:p="{_SLIDES}" xmlns:a="{_DRAWING}"><p:spTree>{shapes}</p:spTree></p:sld>'


def _shape(text: str, placeholder: str = "") -> str:
    number = '<a:fld type="slidenum"><a:t>77</a:t></a:fld>'
    run = f"<a:p><a:r><a:t>{escape(text)}</a:t></a:r>{number}</a:p>"
    return f"<p:sp><p:nvSpPr>{placeholder}</p:nvSpPr><p:txBody>{run}</p:txBody></p:sp>"


def book(sheets: Mapping[str, str]) -> bytes:
    """Return a workbook of Excel: the rows of each sheet, in SpreadsheetML."""
    names = list(sheets)
    parts: dict[str, str | bytes] = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": relationships(("r1", "officeDocument", "xl/workbook.xml")),
        "xl/_rels/workbook.xml.rels": relationships(
            *((f"r{at}", "worksheet", f"worksheets/sheet{at}.xml") for at in range(len(names))),
            ("s", "styles", "styles.xml"),
        ),
        "xl/styles.xml": f'<styleSheet xmlns="{_SHEETS}"><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>'
        "</styleSheet>",
        "xl/workbook.xml": f'<workbook xmlns="{_SHEETS}" xmlns:r="{_RELATIONSHIPS}"><sheets>'
        + "".join(f'<sheet name="{escape(name)}" sheetId="{at}" r:id="r{at}"/>' for at, name in enumerate(names))
        + "</sheets></workbook>",
    }
    for at, name in enumerate(names):
        parts[f"xl/worksheets/sheet{at}.xml"] = (
            f'<worksheet xmlns="{_SHEETS}"><sheetData>{sheets[name]}</sheetData></worksheet>'
        )
    return zipped(parts)


def row(number: int, *cells: str | float) -> str:
    """Return a row of a sheet."""
    made = []
    for at, cell in enumerate(cells):
        place = f'r="{chr(65 + at)}{number}"'
        if isinstance(cell, str):
            made.append(f'<c {place} t="inlineStr"><is><t>{escape(cell)}</t></is></c>')
        else:
            made.append(f"<c {place}><v>{cell}</v></c>")
    return f'<row r="{number}">{"".join(made)}</row>'


def opendocument(body: str, *, kind: str = "text", title: str = "") -> bytes:
    """Return an OpenDocument with this body."""
    spaces = " ".join(f'xmlns:{each}="{_OFFICE}:{each}:1.0"' for each in ("office", "text", "table"))
    return zipped(
        {
            "content.xml": f'<office:document-content {spaces} xmlns:draw="{_OFFICE}:drawing:1.0"><office:body>{body}'
            "</office:body></office:document-content>",
            "meta.xml": properties(title),
        },
        first=f"application/vnd.oasis.opendocument.{kind}",
    )


def epub(*chapters: str, title: str = "") -> bytes:
    """Return a book of these chapters, in HTML."""
    items = "".join(
        f'<item id="c{at}" href="c%20{at}.xhtml" media-type="application/xhtml+xml"/>' for at in range(len(chapters))
    )
    order = "".join(f'<itemref idref="c{at}"/>' for at in range(len(chapters)))
    parts: dict[str, str | bytes] = {
        "META-INF/container.xml": '<container><rootfiles><rootfile full-path="EPUB/a.opf"/></rootfiles></container>',
        "EPUB/a.opf": '<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>'
        f"{escape(title)}</dc:title></metadata><manifest>{items}"
        '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/></manifest>'
        f'<spine><itemref idref="nav"/>{order}</spine></package>',
        "EPUB/nav.xhtml": "<p>contents</p>",
    }
    parts |= {f"EPUB/c {at}.xhtml": chapter for at, chapter in enumerate(chapters)}
    return zipped(parts, first="application/epub+zip")
