"""Files that need too much memory or time, or refer to other files, are rejected."""

from __future__ import annotations

import gzip
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harrier_files.formats import DOCUMENTS, Given
from harrier_files.limits import Unreadable
from harrier_files.packed import members
from harrier_files.parser import Parser
from harrier_files.sources import Source
from offices import book, epub, opendocument, paragraph, row, slides, word, zipped

from harrier_core import Record, Skipped

MOST = 1_000_000
_ENTITIES = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
    f"<!ENTITY {after} '{f'&{before};' * 10}'>" for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


def _with_document(document: str) -> bytes:
    return word("", **{"word/document.xml": document})


def _fetching(path: str) -> bytes:
    return _with_document(f"<!DOCTYPE x [<!ENTITY a SYSTEM 'file://{path}'>]><p><t>text &a;</t></p>")


def _lying(content: bytes) -> bytes:
    """Return a zip whose members claim to be ten bytes long."""
    made = bytearray(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        at = archive.start_dir
    while (at := made.find(b"PK\1\2", at)) >= 0:
        made[at + 24 : at + 28] = (10).to_bytes(4, "little")
        at += 46
    return bytes(made)


def _encrypted(content: bytes) -> bytes:
    made = bytearray(content)
    at = -1
    while (at := made.find(b"PK\1\2", at + 1)) >= 0:
        made[at + 8] |= 1
    at = -1
    while (at := made.find(b"PK\3\4", at + 1)) >= 0:
        made[at + 6] |= 1
    return bytes(made)


_LONG = 12 * MOST
_DEEP = 200_000
_FAR = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a bomb": ("docx", lambda: _with_document("<p>" + " " * _LONG)),
    "a bomb of text": ("docx", lambda: word(paragraph("a" * 1_000) * 2_000)),
    "a bomb of slides": ("pptx", lambda: slides(("", "a" * 2 * MOST, ""))),
    "a bomb of a book": ("epub", lambda: epub("<p>" + "word " * MOST)),
    "entities": ("docx", lambda: _with_document(f"{_ENTITIES}]><p><t>&i;</t></p>")),
    "entities of OpenDocument": ("opendocument", lambda: zipped({"content.xml": f"{_ENTITIES}]><p>&i;</p>"})),
    "deep": ("docx", lambda: word("<w:p>" * _DEEP)),
    "deep OpenDocument": ("opendocument", lambda: opendocument("<table:table-cell>" * _DEEP)),
    "deep JSON": ("ipynb", lambda: b"[" * 1_000_000),
    "deep message": ("eml", lambda: b"Content-Type: message/rfc822\r\n\r\n" * 20_000),
    "many parts": ("eml", lambda: b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\n" * 200_000),
    "lying sizes": ("docx", lambda: _lying(word(paragraph("a" * 1_000) * 2_000))),
    "encrypted": ("docx", lambda: _encrypted(word(paragraph("a")))),
    "cut short": ("docx", lambda: word(paragraph("a"))[:-30]),
    "no zip": ("epub", lambda: b"PK\3\4 and nothing"),
    "no part": ("pptx", lambda: zipped({"[Content_Types].xml": ""})),
    "cells far apart": ("spreadsheet", lambda: book({"a": _FAR})),
    "a bomb of a sheet": ("spreadsheet", lambda: book({"a": row(1, "a" * _LONG)})),
    "a broken sheet": ("spreadsheet", lambda: book({"a": "<row>"})),
}

_LARGE, _UNPACKED = "has text of more than 1 MB; split it", "unpacks to more than 10 MB; split it"
REASONS = {  # where it is not just that the file is broken
    "a bomb": _UNPACKED,
    "a bomb of text": _LARGE,
    "a bomb of slides": _LARGE,
    "a bomb of a book": _LARGE,
    "a bomb of a sheet": _LARGE,
    "no part": "names no main part",
    "a broken sheet": "",
    "many parts": "takes more than 10 seconds to read",
    "cells far apart": "cannot be read: its parser crashed (SIGABRT), perhaps because memory ran out",
}


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    """Return a parser process with half a gigabyte and ten seconds per file."""
    parser = Parser(seconds=10, memory=500_000_000)
    yield parser
    parser.close()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name: str, parser: Parser) -> None:
    """None affects more than its own process, or returns more text than allowed."""
    kind, make = HOSTILE[name]
    content = make()
    assert len(content) < 10 * MOST
    told, text = "", ""
    try:
        text = parser.read(kind, Given(content, MOST)).text
    except Unreadable as error:
        told = str(error)
    assert told.startswith(REASONS.get(name, "cannot be read as "))
    assert "aaaa" not in text
    assert len(text) <= MOST
    assert parser.read("docx", Given(word(paragraph("the next")))).text == "the next"


def test_nothing_is_fetched(tmp_path: Path) -> None:
    """External entities and relationships are not read."""
    (tmp_path / "secret").write_text("hunter2", encoding="utf-8")
    content = _fetching(str(tmp_path / "secret"))
    assert "hunter2" not in DOCUMENTS["docx"].read(Given(content)).text
    book = zipped(
        {
            "META-INF/container.xml": "<c><rootfile full-path='a.opf'/></c>",
            "a.opf": f"<p><item id='a' href='../../..{tmp_path}/secret' media-type='text/html'/>"
            "<itemref idref='a'/></p>",
        }
    )
    with pytest.raises(Unreadable, match="has no part"):
        DOCUMENTS["epub"].read(Given(book))


def test_hostile_archives(tmp_path: Path) -> None:
    """Members that are too large, damaged, encrypted or outside are listed by name."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt.gz").write_bytes(gzip.compress(b"word " * MOST))
    (folder / "b.txt.gz").write_bytes(gzip.compress(b"text")[:-9])
    (folder / "c.zip").write_bytes(
        zipped({"../up.txt": "x", "fine.txt": "fine", "in.zip": zipped({"a.txt": "a"}), "long.md": "word " * MOST})
    )
    (folder / "d.zip").write_bytes(zipped({f"{at}.txt": "word " * (MOST // 6) for at in range(20)}))
    (folder / "e.zip").write_bytes(_encrypted(zipped({"a.txt": "a"})))
    (folder / "f.zip").write_bytes(b"PK\3\4")
    source = Source([str(folder)], most=MOST)
    found = list(source)
    fine = [each.id for each in found if isinstance(each, Record)]
    reasons = {each.id: each.reason for each in found if isinstance(each, Skipped)}
    assert fine == ["docs/c.zip/fine.txt", *(f"docs/d.zip/{at}.txt" for at in range(12))]
    large, all_ = "is larger than 1 MB; split it", "unpacks to more than 10 MB; split it"
    expected = {
        "docs/a.txt.gz": large,
        "docs/b.txt.gz": "cannot be read as gzip (EOFError)",
        "docs/c.zip/../up.txt": "has a path that leads outside its archive; rename it",
        "docs/c.zip/in.zip": "is an archive inside an archive, which is not supported; unpack it",
        "docs/c.zip/long.md": large,
        **{f"docs/d.zip/{at}.txt": all_ for at in range(12, 20)},
        "docs/e.zip/a.txt": "is encrypted; unpack it",
        "docs/f.zip": "cannot be read as zip (BadZipFile)",
    }
    assert {name: reason.removesuffix(", or raise --max-size") for name, reason in reasons.items()} == expected
    assert {"docs/c.zip/in.zip/", "docs/f.zip/"} <= set(source.walk.unknown)


def test_many_members() -> None:
    """They are counted before they are listed, because listing takes more memory."""
    with pytest.raises(Unreadable, match="has more than 100,000 members"):
        next(members(zipped({"a": "a"}) + b"PK\1\2" * 100_001, MOST))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["docx", "opendocument", "pptx", "html", "markdown", "eml", "ipynb"])
def test_linear_time(kind: str) -> None:
    """Four times the input takes about four times as long."""
    make: dict[str, Callable[[int], bytes]] = {
        "docx": lambda size: word("<w:tbl><w:tr><w:tc><w:p/></w:tc></w:tr></w:tbl>" * size + paragraph("x") * size),
        "opendocument": lambda size: opendocument("<text:p>x<text:s/></text:p>" * size),
        "pptx": lambda size: slides(("x", "y", "z"), *[("", "x\n" * size, "")]),
        "html": lambda size: b"<h1>x</h1><nav>y</nav><pre>\nz</pre>" * size,
        "markdown": lambda size: b"# " + b" " * size + b"#\n" + b"# x\n---\n" * size + b"```\n" * size,
        "eml": lambda size: b"Subject: x\r\n\r\n" + b"line\r\n" * size,
        "ipynb": lambda size: json.dumps({"cells": [{"cell_type": "markdown", "source": "# x"}] * size}).encode(),
    }

    def seconds(size: int) -> float:
        content, took = make[kind](size), []
        for _ in range(3):
            begin = time.process_time()
            DOCUMENTS[kind].read(Given(content))
            took.append(time.process_time() - begin)
        return min(took)

    assert seconds(40_000) < 9 * seconds(10_000) + 0.05
