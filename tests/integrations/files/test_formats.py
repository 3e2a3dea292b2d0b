"""Each format: its text, metadata of files and chunks, and ingestion."""

from __future__ import annotations

import gzip
import pickle
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from file_samples import SAMPLES, Sample
from harrier_files.formats.document import Places
from harrier_files.formats.kinds import KINDS
from harrier_files.reading import FORMATS
from harrier_files.sources import Source
from offices import zipped

from harrier_core import Record, Skipped
from harrier_core.extras import PACKAGES

ROOT = Path(__file__).parents[3]


def read(path: Path, **settings: Any) -> list[Record | Skipped]:
    """Read a file or folder."""
    return list(Source([str(path)], **settings))


def check(record: Record | Skipped, sample: Sample, **more: Any) -> None:
    """Compare a record with the expected content of a file."""
    assert isinstance(record, Record), record
    assert record.text == sample.text
    known = {name: value for name, value in record.metadata.items() if not name.startswith("harrier_")}
    assert known == {"format": sample.format, **sample.known, **more}
    describe = pickle.loads(pickle.dumps(record.describe))
    for begin, place in sample.places.items():
        at = sample.text.index(begin)
        assert describe(at, at + 1) == place, begin


@pytest.mark.parametrize("suffix", SAMPLES)
def test_formats(suffix: str, tmp_path: Path) -> None:
    """Each format is read in a folder and in an archive."""
    sample = SAMPLES[suffix]
    (tmp_path / f"a{suffix}").write_bytes(sample.content)
    (tmp_path / f"b{suffix}.gz").write_bytes(gzip.compress(sample.content))
    (tmp_path / "c.zip").write_bytes(zipped({f"sub/c{suffix}": sample.content, "picture.png": b"\x89PNG", ".x": b"x"}))
    source = Source([str(tmp_path)])
    found = list(source)
    assert [each.id.partition("/")[2] for each in found] == [f"a{suffix}", f"b{suffix}.gz", f"c.zip/sub/c{suffix}"]
    for record in found:
        check(record, sample)
    assert source.walk.left_out == {".png": 1}


@pytest.mark.parametrize("suffix", [each for each in SAMPLES if SAMPLES[each].content[:2] in {b"PK", b"%P"}])
@pytest.mark.parametrize("name", ["a", "a.txt", "a.bin"])
def test_wrong_suffixes(suffix: str, name: str, tmp_path: Path) -> None:
    """A named file is read by its content."""
    (tmp_path / name).write_bytes(SAMPLES[suffix].content)
    [record] = read(tmp_path / name)
    check(record, SAMPLES[suffix])


BINARY = {
    "a.png": (b"\x89PNG\r\n\x1a\n", "is a PNG image"),
    "a.txt": (b"\xff\xd8\xff\xe0", "is a JPEG image"),
    "a.doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an Office file from before 2007"),
    "run": (b"\x7fELF\x02", "is a program"),
    "a.bmp": (b"BM\0\0", "is a BMP image"),
    "a.rtf": (b"{\\rtf1 x}", "is RTF, which is not read; convert it to text, or read it with a command (--reader)"),
    "a.tar": (b"a" * 257 + b"ustar", "is a tar archive"),
    "a.bin": (b"\0\1\2", "is binary, in no supported format"),
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_files(name: str, tmp_path: Path) -> None:
    content, reason = BINARY[name]
    (tmp_path / name).write_bytes(content)
    [skipped] = read(tmp_path / name)
    assert isinstance(skipped, Skipped)
    assert skipped.reason.startswith(reason)


def test_files_without_a_suffix(tmp_path: Path) -> None:
    """In a folder, programs are skipped and texts are read."""
    (tmp_path / "run").write_bytes(b"\x7fELF\x02\0")
    (tmp_path / "backup.gz").write_bytes(gzip.compress(b"a" * 257 + b"ustar"))
    (tmp_path / "README").write_bytes(b"BMW is a make of cars.")
    source = Source([str(tmp_path)])
    [record] = list(source)
    assert record.id == f"{tmp_path.name}/README"
    assert source.walk.left_out == {"without suffix": 1, ".gz": 1}


def test_pruning_archives(tmp_path: Path) -> None:
    """A named archive owns its members; a damaged one prevents pruning."""
    archive, before = (
        tmp_path / "a.zip",
        {"a.md": "# Bread", "rows.csv": "text\none\ntwo\n", "rows.jsonl": '{"text": "x"}'},
    )
    archive.write_bytes(zipped(before))
    found = [each for each in read(archive) if isinstance(each, Record)]
    names = [f"a.zip/{name}" for name in ("a.md", "rows.csv:2", "rows.csv:3", "rows.jsonl:1")]
    assert [each.id for each in found] == [f"{tmp_path.name}/{name}" for name in names]
    other = Record(f"{tmp_path.name}/b.md", "x", {**found[0].metadata, "harrier_file": None})
    for content, gone in ((zipped({"a.txt": "x"}), True), (b"PK\3\4", False)):
        archive.write_bytes(content)
        source = Source([str(archive)])
        list(source)
        assert [source.gone(each.id, each.metadata) for each in (*found, other)] == [*[gone] * 4, False]


def test_a_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lxml", None)
    (tmp_path / "resources.docx").write_bytes(SAMPLES[".docx"].content)
    [skipped] = read(tmp_path / "resources.docx")
    assert isinstance(skipped, Skipped)
    assert skipped.reason == (
        "is not read: a Word document needs lxml, which is not installed; run pip install 'harrier-kit[files]'"
    )


def test_lines_in_linear_time() -> None:
    """The text is scanned once for any number and order of chunks."""

    class Counted(str):
        __slots__ = ("seen",)

        def count(self, each: str, start: Any = 0, end: Any = None) -> int:
            self.seen = getattr(self, "seen", 0) + end - start
            return super().count(each, start, end)

    text = Counted("line\n" * 10_000)
    places = Places({}, text)
    assert [places(at, at + 5)["line"] for at in range(0, len(text), 50)] == list(range(1, 10_001, 10))
    assert text.seen <= len(text)
    assert [places(at, at + 5)["line"] for at in (49_990, 0, 5)] == [9_999, 1, 2]


def test_headings_are_limited(tmp_path: Path) -> None:
    """A missing heading is better than a wrong one, and long ones are shortened."""
    (tmp_path / "a.md").write_text("# x\n" * 100_100 + f"# {'long ' * 1_000}", encoding="utf-8")
    (tmp_path / "b.md").write_text("\n".join(f"{'#' * level} {'long ' * 100}" for level in (1, 2, 3)), encoding="utf-8")
    many, long = read(tmp_path)
    assert isinstance(many, Record)
    assert isinstance(long, Record)
    assert many.describe is not None
    assert long.describe is not None
    assert many.describe(4 * 99_999, 5) == {"line": 100_000, "heading": "x"}
    assert many.describe(len(many.text), 5) == {"line": 100_101}
    assert len(long.describe(len(long.text), 5)["heading"]) == 400


@pytest.mark.parametrize(
    ("header", "body", "text"),
    [
        ("", "läuft".encode(), "läuft"),
        ("Content-Type: text/plain; charset=us-ascii\n", "läuft".encode("cp1252"), "läuft"),
        ("Content-Type: text/plain; charset=x-unknown\n", "läuft".encode(), "läuft"),
        ("Content-Type: text/plain; charset=iso-8859-2\n", "łąka".encode("iso-8859-2"), "łąka"),
        (
            "Content-Type: text/html\n",
            b"<meta charset=koi8-r><h1>\xc1</h1><nav>Menu</nav><p>of a letter",
            "а\nof a letter",
        ),
        ("Content-Transfer-Encoding: base64\n", b"bMOkdWZ0", "läuft"),
    ],
)
def test_bodies_of_messages(header: str, body: bytes, text: str, tmp_path: Path) -> None:
    """The content of a message is read, whatever its declared type."""
    (tmp_path / "a.eml").write_bytes(f"Subject: a\n{header}\n".encode() + body)
    [record] = read(tmp_path)
    assert isinstance(record, Record)
    assert record.text == text


def test_pages_that_consist_of_menus(tmp_path: Path) -> None:
    """Such a page is read as a whole."""
    (tmp_path / "a.html").write_text(f"<p>Contents<nav>{'<li>A chapter of the book' * 20}</nav>", encoding="utf-8")
    [record] = read(tmp_path)
    assert isinstance(record, Record)
    assert record.text.count("chapter") == 20


@pytest.mark.parametrize("suffix", [".docx", ".odt", ".epub", ".pptx"])
def test_against_pandoc(suffix: str, tmp_path: Path) -> None:
    """98 % of the words in a document written by pandoc are read."""
    pandoc = shutil.which("pandoc")
    if pandoc is None:
        pytest.skip("pandoc is not installed here")
    page, path, title = ROOT / "SECURITY.md", tmp_path / f"a{suffix}", ["--metadata", "title=Harrier"]
    subprocess.run([pandoc, page, "-o", path, *title], check=True, capture_output=True)
    back: list[str | Path] = [pandoc, "-t", "plain", "--wrap=none", page if suffix == ".pptx" else path]
    told = subprocess.run(back, check=True, capture_output=True, text=True)
    [record] = read(path)
    assert isinstance(record, Record)
    theirs, ours = (Counter(re.findall(r"[^\W\d_]+", text)) for text in (told.stdout, record.text))
    same = sum((ours & theirs).values())
    assert same >= 0.98 * sum(theirs.values()), (theirs - ours).most_common(9)
    assert same >= 0.98 * sum(ours.values()), (ours - theirs).most_common(9)


def test_against_pdftotext(tmp_path: Path) -> None:
    """The words of a PDF equal poppler's."""
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed here")
    path = tmp_path / "a.pdf"
    path.write_bytes(SAMPLES[".pdf"].content)
    told = subprocess.run(["pdftotext", path, "-"], check=True, capture_output=True, text=True)
    assert told.stdout.split() == SAMPLES[".pdf"].text.split()


# -- docs/files.md

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "files.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| `")
]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_page_of_formats(row: list[str]) -> None:
    """docs/files.md has the right suffixes, extra, library and metadata of each format."""
    format_, suffixes, library, extra, known, described = row
    name = format_.strip("`")
    listed = re.findall(r"`([^`]*)`", suffixes)
    assert {KINDS[suffix] for suffix in listed} == {name}
    assert set(listed) >= {suffix for suffix, kind in KINDS.items() if kind == name} or name == "code"
    extras = {f"`{extra}`" for extra, package in PACKAGES.values() if package == library.strip("`")}
    assert {extra} == (extras or {"-"})
    for suffix in listed:
        if (sample := SAMPLES.get(suffix)) is not None:
            assert sample.format == name
            assert set(sample.known) <= set(re.findall(r"`(\w+)`", known))
            assert {key for place in sample.places.values() for key in place} <= set(re.findall(r"`(\w+)`", described))


def test_all_formats_have_a_row() -> None:
    assert [row[0].strip("`") for row in ROWS] == list(FORMATS)
