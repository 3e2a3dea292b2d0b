"""Files that are too large, too slow or crash their parser are listed, and the others are read."""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harrier_files.columns import Columns
from harrier_files.formats import Document, Given
from harrier_files.formats.pdf import pdf_text
from harrier_files.formats.web import html_text
from harrier_files.limits import Unreadable, parse_size, read_at_most, shown_size
from harrier_files.parser import Parser
from harrier_files.rows import csv_rows, jsonl_rows
from harrier_files.sources import Source
from pdfs import pdf

from harrier_core import Record, SettingError, Skipped

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def parser() -> Iterator[Parser]:
    """Return a parser process with half a second per file."""
    parser = Parser(seconds=0.5)
    yield parser
    parser.close()


# -- HTML, in linear time

PAGES = {
    "lines": "line<br>",
    "paragraphs": "<p>x</p>",
    "nested": "<div>",
    "comments": "<!--",
    "unclosed": "<p>x<li>y<td>z",
    "formatting": "<b><i>x",
    "marks": "<",
    "entities": "&amp",
    "attributes": "<a b=c ",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_html_takes_linear_time(name: str) -> None:
    """Four times the input takes about four times as long."""

    def seconds(times: int) -> float:
        content = (PAGES[name] * times).encode()
        took = []
        for _ in range(3):
            begin = time.process_time()
            html_text(Given(content))
            took.append(time.process_time() - begin)
        return min(took)

    assert seconds(200_000) < 9 * seconds(50_000) + 0.05


def test_a_deep_page() -> None:
    """Nothing is lost, however deep the page and however long its texts."""
    depth, length = 50_000, 11_000_000
    page = "<div>deep " * depth + "x" * length + "</div>" * depth
    text = html_text(Given(page.encode())).text
    assert text.count("deep") == depth
    assert text.endswith("x" * length)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<p>é</p>".encode(), "é"),
        (b"<p>\xe9</p>", "é"),
        (b"\xff\xfe" + "<p>é".encode("utf-16-le"), "é"),
        (b"\xfe\xff" + "<p>é".encode("utf-16-be"), "é"),
        (b"\xef\xbb\xbf<p>" + "é".encode(), "é"),
        (b'<meta charset="shift_jis"><p>\x83e\x83X', "テス"),
        (b'<meta http-equiv=Content-Type content="text/html; charset=iso-8859-1"><p>\x80', "€"),
        (b"<?xml version='1.0' encoding='koi8-r'?><p>\xc1", "а"),
        (b"<meta charset=utf-16><p>" + "é".encode(), "é"),
        (b"<meta charset=zip><p>\xe9", "é"),
        (b"<meta charset=no-such><p>\xe9", "é"),
        (b"<meta charset=utf-8><p>a\xe9b", "a\ufffdb"),
    ],
)
def test_encodings(content: bytes, text: str) -> None:
    """Encodings are detected as browsers do."""
    assert html_text(Given(content)).text == text


# -- a process that can be killed

SLOW = b"<font>" * 100_000 + b"</p>" * 100_000  # each end tag searches all open tags for its start


def test_a_file_that_takes_too_long(parser: Parser, tmp_path: Path) -> None:
    """It is listed with the reason, and a new process reads the others."""
    for name in ("a.html", "c.html"):
        (tmp_path / name).write_text(f"<p>{name}", encoding="utf-8")
    (tmp_path / "b.html").write_bytes(SLOW)
    source = Source([str(tmp_path)], _parser=parser)
    first, slow, last = source
    assert slow == Skipped(f"{tmp_path.name}/b.html", "takes more than 0.5 seconds to read; convert it to text")
    assert [each.text for each in (first, last) if isinstance(each, Record)] == ["a.html", "c.html"]
    assert source.complete


@pytest.mark.slow
def test_a_file_that_takes_too_much_memory() -> None:
    parser = Parser(memory=300 * 10**6)
    try:
        with pytest.raises(Unreadable, match="needs more than 300 MB of memory to read|parser crashed"):
            parser.read("html", Given(b"<p>x</p>" * 8_000_000))
        assert parser.read("html", Given(b"<p>the next")) == Document("the next")
    finally:
        parser.close()


def test_a_parser_that_crashes() -> None:
    """The reason names the signal."""
    parser = Parser()
    parser.read("html", Given(b"<p>x"))
    process = parser._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)  # so that it is in the middle of the file
    killing = subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -SEGV {process.pid}; kill -CONT {process.pid}"])
    with pytest.raises(Unreadable, match=r"its parser crashed \(SIGSEGV\)"):
        parser.read("html", Given(b"<p>y" * 100_000))
    killing.wait()
    assert parser.read("html", Given(b"<p>z")).text == "z"
    assert parser._process is not process
    parser.close()


@pytest.mark.slow
def test_memory_of_a_page_is_freed() -> None:
    """One process can read any number of pages."""
    parser = Parser()
    page, grown = b"<p>" + b"words<br>" * 300_000, []
    try:
        for _ in range(8):
            parser.read("html", Given(page))
            process = parser._process
            assert process is not None
            held = next(
                line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "VmRSS" in line
            )
            grown.append(int(held.split()[1]) * 1024)
    finally:
        parser.close()
    assert max(grown) - grown[1] < 15 * len(page)  # of 43 if nothing is collected


def test_one_process_for_all_files(parser: Parser) -> None:
    """The first file that needs it starts it."""
    assert parser._process is None
    parser.read("html", Given(b"<p>x"))
    first = parser._process
    for content in (b"<p>y", b"", b"\0\n{"):
        parser.read("html", Given(content))
    with pytest.raises(Unreadable):
        parser.read("pdf", Given(b"%PDF-1.7"))
    assert parser._process is first


def test_it_ends_with_its_user() -> None:
    """The parser ends even if its parent is killed."""
    script = (
        "import os, signal\nfrom harrier_files.formats import Given\nfrom harrier_files.parser import Parser\n"
        "parser = Parser()\nparser.read('html', Given(b'x'))\n"
        "print(parser._process.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    child = Path(f"/proc/{int(done.stdout)}/stat")
    end = time.monotonic() + 30
    while child.exists() and child.read_text().split(")")[1].split()[0] != "Z":
        assert time.monotonic() < end
        time.sleep(0.05)


def test_text_that_grows(parser: Parser) -> None:
    """--max-size applies to the extracted text too."""
    with pytest.raises(Unreadable, match=r"has text of more than 100 B; split it, or raise --max-size"):
        parser.read("html", Given(b"<p>x</p>" * 100, 100))
    with pytest.raises(Unreadable, match="has text of more than 10 B"):
        pdf_text(Given(pdf("many words are in this line"), 10))


# -- sizes


def test_sizes() -> None:
    assert [parse_size(said) for said in ("100MB", "1.5 gb", "4096", "2k", "7B")] == [
        10**8,
        1_500_000_000,
        4096,
        2000,
        7,
    ]
    assert [shown_size(size) for size in (10**8, 1_500_000_000, 4096, 7)] == ["100 MB", "1.5 GB", "4.096 kB", "7 B"]
    for wrong in ("", "0", "-1", "many", "1 TB", "1e9"):
        with pytest.raises(SettingError, match="--max-size must be a size such as 100MB, 1.5GB or 4096, got"):
            parse_size(wrong)


def test_inputs_that_are_too_large(call: Run, tmp_path: Path) -> None:
    """Only the large file or line of JSONL or CSV is rejected."""
    docs = tmp_path / "docs"
    docs.mkdir()
    long = "word " * 1_000
    (docs / "long.txt").write_text(long, encoding="utf-8")
    (docs / "long.html").write_text(f"<p>{long}", encoding="utf-8")
    (docs / "just.txt").write_text("x" * 999 + "\n", encoding="utf-8")
    rows = ["one", long, "two", f"{long}\n{long}"]
    (docs / "rows.jsonl").write_text("".join(f"{json.dumps({'text': each})}\n" for each in rows), encoding="utf-8")
    (docs / "rows.csv").write_text(f'text,n\none,1\n"{long}",2\nthree,3\n', encoding="utf-8")
    (docs / "torn.csv").write_text(f'text\none\n"two\n{long}"\nthree\n', encoding="utf-8")
    place = ["--to", f"qdrant:{tmp_path}/qdrant"]
    told = call("ingest", "docs", *place, "--max-size", "1kB", code=1)
    listed = dict(line.removeprefix("rejected: docs/").split(": ", 1) for line in told.stderr.splitlines())
    file = "is larger than 1 kB; split it, or raise --max-size"
    line = "has a line of more than 1 kB; split it, or raise --max-size"
    assert listed == {
        "long.html": file,
        "long.txt": file,
        "rows.csv:3": line,
        "rows.jsonl:2": line,
        "rows.jsonl:4": line,
        "torn.csv": "has a row of more than 1 kB from line 3 on",
    }
    assert "; 6 rejected" in told.stdout
    assert told.stdout.startswith("6 records")
    assert "rejected" not in call("ingest", "docs", *place).stderr
    assert "--max-size must be a size" in call("ingest", "docs", *place, "--max-size", "big", code=2).stderr


def test_an_endless_line_is_not_kept_in_memory() -> None:
    """Little more than the limit is read at once, of lines and of files."""
    size = 40_000_000

    class Endless(io.RawIOBase):
        def __init__(self, begin: bytes, end: bytes) -> None:
            self._left = b""
            self._parts = iter([begin, *[b"x" * 65_536] * (size // 65_536), end])

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            part = self._left or next(self._parts, b"")
            given, self._left = part[: len(buffer)], part[len(buffer) :]
            buffer[: len(given)] = given
            return len(given)

    def opened(begin: bytes, end: bytes) -> io.BufferedReader:
        return io.BufferedReader(Endless(begin, end), 1 << 16)

    gc.collect()
    tracemalloc.start()
    try:
        found = list(jsonl_rows(opened(b'{"text": "a"}\n', b'\n{"text": "b"}\n'), [], 100_000))
        assert [number for number, row in found if isinstance(row, dict)] == [1, 3]
        found = list(csv_rows(opened(b"text\na\n", b"\nb\n"), ["text"], 100_000))
        assert [(number, row) for number, row in found if isinstance(row, dict)] == [
            (2, {"text": "a"}),
            (4, {"text": "b"}),
        ]
        with pytest.raises(Unreadable, match="is larger than 100 kB"):
            read_at_most(opened(b"x", b""), 100_000)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < size / 4


def test_a_long_text_of_a_row(tmp_path: Path) -> None:
    """The limit applies to formats without lines too."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    pq.write_table(pa.table({"id": ["a", "b"], "text": ["x" * 1_000, "short"]}), tmp_path / "rows.parquet")
    source = Source([str(tmp_path)], Columns("id"), most=100)
    long, short = source
    assert long == Skipped(
        f"{tmp_path.name}/rows.parquet:1", "has a text of more than 100 B; split it, or raise --max-size"
    )
    assert short.id == "b"


# -- PDF


def test_spaces_in_a_pdf() -> None:
    """Spaces come from letter distances, as set by LaTeX, and hyphenated words are joined."""
    read = pdf_text(Given(pdf("[(It) -278 (is) -333 (right)] TJ", "(exam-) Tj 0 -14 Td (ple)")))
    assert read.text.startswith("It is right\n\n")
    assert read.metadata == {"pages": 2}


def test_a_long_title() -> None:
    """A long title does not multiply in the metadata of all chunks."""
    read = html_text(Given(f"<title>{'t' * 100_000}</title><p>text</p>".encode()))
    assert len(read.metadata["title"]) == 1_000
