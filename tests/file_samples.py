"""A small file of each format, with its text and metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from offices import book, epub, opendocument, paragraph, row, slides, word
from pdfs import pdf


@dataclass(frozen=True)
class Sample:
    """A file and its expected content."""

    content: bytes
    text: str
    format: str
    known: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # positions of pieces, by how they begin


_TABLE = (
    "<w:tbl><w:tr><w:tc>{}</w:tc><w:tc>{}</w:tc></w:tr></w:tbl>".format(paragraph("Flour"), paragraph("500 g"))
    + '<w:p><w:r><w:t xml:space="preserve">Kept </w:t></w:r><w:ins><w:r><w:t>added</w:t><w:tab/><w:t>x</w:t></w:r>'
    "</w:ins>"
    "<w:del><w:r><w:delText>deleted</w:delText></w:r></w:del><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
)
_WORD = word(
    paragraph("Bread", "H1") + paragraph("It rises.") + paragraph("Yeast", "Mine") + paragraph("It eats.") + _TABLE,
    title="All of bread",
    notes=paragraph("A note."),
)
_HTML = (
    '<title>Bread</title><nav><a href="/">Home</a></nav><ul class="docnav"><li>Next</ul><div class="sidebar">A box'
    "</div>"
    "<h1>Bread¶</h1><p>It <b>rises</b> while it rests for an hour or two.</p><h2>Yeast</h2><pre>a\n  b</pre>"
)
_ODT = opendocument(
    '<text:h text:outline-level="1">Bread</text:h><text:p>It\n  rises<text:s text:c="2"/>now<text:tab/>x'
    "<office:annotation><text:p>a comment</text:p></office:annotation></text:p>"
    "<table:table-row><table:table-cell><text:p>Flour</text:p></table:table-cell><table:table-cell><text:p>500 g"
    '</text:p></table:table-cell></table:table-row><text:h text:outline-level="2">Yeast</text:h><text:p>It eats.'
    "</text:p>",
    title="All of bread",
)
_ODP = opendocument(
    '<draw:page draw:name="a"><text:p>One</text:p></draw:page><draw:page><text:p>Two</text:p></draw:page>',
    kind="presentation",
)
_SHEETS = book({"Prices": row(1, "what", "price") + row(3, "bread", 2.5), "Days": row(1, "a  day\n", 3)})
_MAIL = (
    b"From: Ann <ann@example.org>\r\nTo: bob@example.org\r\nSubject: =?utf-8?q?L=C3=A4uft?=\r\n"
    b"Date: Thu, 26 Nov 2026 10:00:00 +0100\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nEs l=C3=A4uft.\r\n--x\r\nContent-Type: application/pdf\r\n"
    b"Content-Disposition: attachment; filename=plan.pdf\r\n\r\nnothing\r\n--x--\r\n"
)
_NOTEBOOK = json.dumps(
    {
        "cells": [
            {"cell_type": "markdown", "source": ["# Bread\n", "It rises."]},
            {"cell_type": "code", "source": "print('bread')", "outputs": [{"text": "bread"}]},
            {"cell_type": "markdown", "source": "## Yeast"},
        ],
        "metadata": {"kernelspec": {"language": "python"}},
    }
).encode()
_MARKDOWN = "---\ntitle: x\n---\n# Bread #\n\nIt rises.\n\n```sh\n# no heading\n```\n\nYeast\n-----\n\nIt eats.\n"
_LINES = "one\ntwo\nthree\n"


def _plain(format_: str = "text", **known: Any) -> Sample:
    return Sample(_LINES.encode(), _LINES, format_, known, {"one": {"line": 1}, "three": {"line": 3}})


_PLAIN = (".txt", ".log", ".rst", ".org", ".adoc", ".tex", ".json", ".yaml", ".toml", "")
_CODE = {".py": "python", ".js": "javascript", ".ts": "typescript", ".go": "go", ".rs": "rust", ".java": "java"}
_YEAST = {"heading": "Bread › Yeast"}
SAMPLES: dict[str, Sample] = {
    **{suffix: _plain() for suffix in _PLAIN},
    **{suffix: _plain("code", language=name) for suffix, name in {**_CODE, ".c": "c", ".cpp": "c++"}.items()},
    ".md": Sample(
        _MARKDOWN.encode(),
        _MARKDOWN,
        "markdown",
        places={"---": {"line": 1}, "# no": {"line": 9, "heading": "Bread"}, "Yeast": {"line": 12, **_YEAST}},
    ),
    ".html": Sample(
        _HTML.encode(),
        "A box\n\nBread\nIt rises while it rests for an hour or two.\n\nYeast\na\n  b",
        "html",
        {"title": "Bread"},
        {"A box": {}, "It rises": {"heading": "Bread"}, "  b": _YEAST},
    ),
    ".pdf": Sample(
        pdf("first page", "second page"),
        "first page\n\nsecond page",
        "pdf",
        {"pages": 2},
        {"first": {"page": 1}, "second": {"page": 2}},
    ),
    ".docx": Sample(
        _WORD,
        "Bread\nIt rises.\n\nYeast\nIt eats.\nFlour\t500 g\nKept added\tx\nA note.",
        "docx",
        {"title": "All of bread"},
        {"It rises": {"heading": "Bread"}, "Flour": _YEAST},
    ),
    ".pptx": Sample(
        slides(("Bread", "It rises.", "Say it."), ("Yeast", "It eats.", "")),
        "Bread\nIt rises.\nSay it.\n\nYeast\nIt eats.",
        "pptx",
        {"slides": 2},
        {"Say it": {"slide": 1, "heading": "Bread"}, "It eats": {"slide": 2, "heading": "Yeast"}},
    ),
    ".xlsx": Sample(
        _SHEETS,
        "what\tprice\nbread\t2.5\n\na day\t3",
        "spreadsheet",
        {"sheets": 2},
        {"bread": {"sheet": "Prices"}, "a day": {"sheet": "Days"}},
    ),
    ".odt": Sample(
        _ODT,
        "Bread\nIt rises  now\tx\nFlour\t500 g\n\nYeast\nIt eats.",
        "opendocument",
        {"title": "All of bread"},
        {"It rises": {"heading": "Bread"}, "It eats": _YEAST},
    ),
    ".odp": Sample(_ODP, "One\n\nTwo", "opendocument", {"slides": 2}, {"One": {"slide": 1}, "Two": {"slide": 2}}),
    ".epub": Sample(
        epub("<h1>Bread</h1><p>It rises.</p>", "<h2>Yeast</h2><p>It eats.</p>", title="All of bread"),
        "Bread\nIt rises.\n\nYeast\nIt eats.",
        "epub",
        {"title": "All of bread"},
        {"It rises": {"heading": "Bread"}, "It eats": _YEAST},
    ),
    ".ipynb": Sample(
        _NOTEBOOK,
        "# Bread\nIt rises.\n\nprint('bread')\n\n## Yeast",
        "ipynb",
        {"language": "python"},
        {"print": {"cell": 2, "heading": "Bread"}, "## Yeast": {"cell": 3, **_YEAST}},
    ),
    ".eml": Sample(
        _MAIL,
        "Es läuft.",
        "eml",
        {
            "title": "Läuft",
            "from": "Ann <ann@example.org>",
            "to": "bob@example.org",
            "date": "2026-11-26T10:00:00+01:00",
            "attachments": ["plan.pdf"],
        },
    ),
}
