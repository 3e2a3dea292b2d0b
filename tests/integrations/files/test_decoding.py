"""Encodings of texts and rows, and delimiters of CSV."""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import Any

import pytest
from harrier_files.columns import Columns
from harrier_files.formats.decoding import checked_encoding, decoded
from harrier_files.limits import Unreadable
from harrier_files.rows import csv_rows, jsonl_rows
from harrier_files.sources import Source

from harrier_core import Record, SettingError, Skipped

TEXT = "läuft für 5 €"
MARKED = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


@pytest.mark.parametrize("name", MARKED)
@pytest.mark.parametrize("asked", [None, "cp1252"])
def test_byte_order_marks(name: str, asked: str | None, tmp_path: Path) -> None:
    """They override --encoding, also in CSV and JSONL."""
    csv, lines = f"text,n\n{TEXT},1\n", f'{{"text": "{TEXT}"}}\n'
    for suffix, text in {".txt": TEXT, ".csv": csv, ".jsonl": lines}.items():
        (tmp_path / f"a{suffix}").write_bytes(MARKED[name] + text.encode(name))
    found = list(Source([str(tmp_path)], encoding=asked))
    assert [each.text for each in found if isinstance(each, Record)] == [TEXT] * 3


def test_the_given_encoding(tmp_path: Path) -> None:
    """It applies to texts that are not UTF-8, so a folder may contain both."""
    csv, lines = f"text,n\n{TEXT},1\n", f'{{"text": "{TEXT}"}}\n'
    for encoding in ("utf-8", "cp1252"):
        for suffix, text in {".txt": TEXT, ".csv": csv, ".jsonl": lines, ".html": f"<p>{TEXT}"}.items():
            (tmp_path / f"{encoding}{suffix}").write_bytes(text.encode(encoding))
    found = list(Source([str(tmp_path)], encoding="cp1252"))
    assert [each.text for each in found if isinstance(each, Record)] == [TEXT] * 8
    reasons = {each.id: each.reason for each in Source([str(tmp_path)]) if isinstance(each, Skipped)}
    remedy = "convert it, or name its encoding, such as --encoding cp1252"
    assert reasons == {
        f"{tmp_path.name}/cp1252.txt": f"is not UTF-8 at byte 1; {remedy}",
        f"{tmp_path.name}/cp1252.csv": f"is not UTF-8 at or shortly after line 1; {remedy}",
        f"{tmp_path.name}/cp1252.jsonl:1": f"is not UTF-8; {remedy}",
    }


def test_encodings_that_look_like_utf8() -> None:
    """The given encoding applies, although their bytes are valid UTF-8."""
    for name in ("utf-16-le", "iso2022_jp"):
        text = "テスト"
        assert decoded(text.encode(name), checked_encoding(name)) == text
        rows = csv_rows(io.BytesIO(f"text\n{text}\n".encode(name)), ["text"], 99, checked_encoding(name))
        assert [row for _, row in rows] == [{"text": text}]
    assert decoded("läuft".encode(), checked_encoding("latin1")) == "läuft"
    with pytest.raises(Unreadable, match="is not ascii at byte 1; convert it, or name its encoding"):
        decoded(b"l\xe4uft", checked_encoding("ascii"))


def test_a_stream_that_cannot_be_read_twice() -> None:
    """Standard input is read in the given encoding."""

    class Piped(io.BytesIO):
        def seekable(self) -> bool:
            return False

    content = f'{{"text": "{TEXT}"}}\n'.encode("cp1252")
    assert [row for _, row in jsonl_rows(Piped(content), [], 99, "cp1252")] == [{"text": TEXT}]


@pytest.mark.parametrize("name", ["no-such", "zip", "rot13", "", "a\0b"])
def test_unknown_encodings(name: str) -> None:
    with pytest.raises(SettingError, match="--encoding must be an encoding that Python knows, such as cp1252"):
        checked_encoding(name)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_delimiters(separator: str, name: str, tmp_path: Path) -> None:
    """The delimiter is the one with which the first line has the requested columns."""
    lines = [["id", "text", "lang"], ["1", '"said ""so""\nand, then; more"', "en"]]
    (tmp_path / name).write_text("".join(f"{separator.join(each)}\n" for each in lines), encoding="utf-8")
    [record] = list(Source([str(tmp_path)], Columns("id", metadata=["lang"])))
    assert isinstance(record, Record)
    assert (record.id, record.text, record.metadata["lang"]) == ("1", 'said "so"\nand, then; more', "en")


@pytest.mark.parametrize(
    ("header", "said"), [("a;b", "has no column 'text'; it has a;b"), ("text;b,text", "has no column")]
)
def test_a_missing_column(header: str, said: str, tmp_path: Path) -> None:
    """If no delimiter fits, the error assumes a comma."""
    (tmp_path / "a.csv").write_text(f"{header}\n1,2\n" if "," in header else f"{header}\n1\n", encoding="utf-8")
    found: Any = list(Source([str(tmp_path)], Columns("text" if "," in header else None, "text")))
    if "," not in header:
        assert found[0].reason == said
    else:
        assert found[0].text == "2"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"text"])
def test_a_csv_without_rows(content: bytes) -> None:
    rows = csv_rows(io.BytesIO(content), ["text"], 99)
    assert list(rows) == []
