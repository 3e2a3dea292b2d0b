"""Files that have not changed since their ingest are not read again, and no change is missed."""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harrier_files import FileMemory, Source
from harrier_files.files import LocalFile
from harrier_files.memory import Forgetful
from ingesting import Hashing

from harrier_core import Chunking, Index, IngestReport, Skipped
from harrier_core.key_values import KeyValues
from harrier_core.testing import MemoryStore


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of opened files."""
    names: list[str] = []
    usual = LocalFile.open

    @contextmanager
    def opening(file: LocalFile) -> Iterator[Any]:
        names.append(file.inside)
        with usual(file) as content:
            yield content

    monkeypatch.setattr(LocalFile, "open", opening)
    return names


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# Bread\n\nBread rises.")
    (folder / "b.txt").write_text("word " * 60)
    (folder / "page.html").write_text("<title>Rivers</title><p>Rivers run.")
    (folder / "rows.csv").write_text("text\none\ntwo\n")
    (folder / "old.txt.gz").write_bytes(gzip.compress(b"packed"))
    (folder / "README").write_text("no suffix")
    (folder / "blank.txt").write_text(" \n")
    for each in folder.iterdir():
        age(each)
    return folder


def age(file: Path) -> None:
    """Make a file look as if it was changed some time ago."""
    os.utime(file, (1_700_000_000.5, 1_700_000_000.5))


@pytest.fixture
def memory(tmp_path: Path) -> FileMemory:
    return FileMemory(tmp_path / "memory.sqlite")


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files look as if they were written some time ago."""
    monkeypatch.setattr("harrier_files.files._TICK", 0.0)


@pytest.fixture
def index() -> Index:
    return Index(MemoryStore(), Hashing(), chunking=Chunking(tokens=16))


def ingest(index: Index, source: Source, memory: KeyValues) -> IngestReport:
    with source.deferred() as records:
        return index.ingest(records, memory=memory, prune=source.pruning)


def stored(index: Index) -> dict[str, str]:
    found = sorted(index.read(), key=lambda each: (each.chunk.record_id, each.chunk.number))
    texts: dict[str, str] = {}
    for each in found:
        texts[each.chunk.record_id] = f"{texts.get(each.chunk.record_id, '')}|{each.chunk.text}"
    return texts


def test_a_second_run(docs: Path, index: Index, memory: FileMemory, opened: list[str]) -> None:
    """Documents are not opened; rows, archives and files without a suffix are."""
    source = Source(docs)
    first = ingest(index, source, memory)
    assert sorted(opened) == ["README", "a.md", "b.txt", "blank.txt", "old.txt.gz", "page.html", "rows.csv"]
    before, read = stored(index), source.bytes_read
    opened.clear()
    second = ingest(index, source, memory)
    assert sorted(opened) == ["README", "blank.txt", "old.txt.gz", "rows.csv"]
    assert (second.records, second.written, second.deleted, second.blank) == (first.records, 0, 0, first.blank)
    assert second.unchanged == first.written
    assert stored(index) == before
    assert source.bytes_read == read == source.size()


def test_reread(docs: Path, index: Index, memory: FileMemory, opened: list[str]) -> None:
    """With an empty memory every file is opened, and remembered for the next run."""
    ingest(index, Source(docs), memory)
    opened.clear()
    again = ingest(index, Source(docs), Forgetful(memory))
    assert sorted(opened) == ["README", "a.md", "b.txt", "blank.txt", "old.txt.gz", "page.html", "rows.csv"]
    assert again.written == 0
    (docs / "a.md").write_text("# Bread\n\nBread is baked.")
    age(docs / "a.md")
    ingest(index, Source(docs), Forgetful(memory))
    opened.clear()
    ingest(index, Source(docs), memory)
    assert sorted(opened) == ["README", "blank.txt", "old.txt.gz", "rows.csv"]


def test_changed_files(docs: Path, index: Index, memory: FileMemory, opened: list[str]) -> None:
    """A changed file is read even with equal size and time, and a removed one is pruned."""
    ingest(index, Source(docs), memory)
    (docs / "a.md").write_text("# Bread\n\nBread sinks.")
    age(docs / "a.md")
    (docs / "page.html").unlink()
    opened.clear()
    report = ingest(index, Source(docs), memory)
    assert "a.md" in opened
    assert "b.txt" not in opened
    assert report.written == report.deleted == 1
    assert "sinks" in stored(index)["docs/a.md"]


@pytest.mark.parametrize("settings", [{"name": "other"}, {"encoding": "cp1252"}, {"format": "text"}, {"most": 10**6}])
def test_other_settings(
    docs: Path, index: Index, memory: FileMemory, opened: list[str], settings: dict[str, Any]
) -> None:
    """A setting that may change the records causes files to be read again."""
    ingest(index, Source(docs), memory)
    opened.clear()
    ingest(index, Source(docs, **settings), memory)
    assert {"a.md", "b.txt", "page.html"} <= set(opened)


def test_an_index_that_lost_it(docs: Path, index: Index, memory: FileMemory, opened: list[str]) -> None:
    ingest(index, Source(docs), memory)
    before = stored(index)
    index.delete(["docs/page.html"])
    opened.clear()
    ingest(index, Source(docs), memory)
    assert "page.html" in opened
    assert "a.md" not in opened
    assert stored(index) == before


def test_a_file_that_disappears(docs: Path, index: Index, memory: FileMemory) -> None:
    """The file existed when the folder was listed, and the stored text differs."""
    ingest(index, Source(docs), memory)
    index.delete(["docs/a.md"])
    source = Source(docs)
    with source.deferred() as records:
        listed = list(records)
        (docs / "a.md").unlink()
        report = index.ingest(listed, memory=memory)
    assert report.rejected == [("docs/a.md", "cannot be read: No such file or directory")]


def test_iteration_without_deferring(docs: Path) -> None:
    """Iterating over a source yields records."""
    ids = [each.id for each in Source(docs)]
    assert len(ids) == 8
    assert "docs/a.md" in ids


def test_a_name_that_is_not_utf_8(docs: Path, index: Index, memory: FileMemory) -> None:
    """It is rejected, and its neighbours are ingested."""
    Path(os.fsdecode(os.fsencode(docs) + b"/caf\xe9.txt")).write_text("a text")
    for _ in range(2):
        report = ingest(index, Source(docs), memory)
        [(_, reason)] = report.rejected
        assert "surrogate" in reason
    assert "docs/a.md" in stored(index)


def test_an_archive_under_the_name_of_a_document(docs: Path, index: Index, memory: FileMemory) -> None:
    """It is refused as a whole, deferred or not."""
    with zipfile.ZipFile(docs / "report.pdf", "w") as archive:
        archive.writestr("one.txt", "one")
        archive.writestr("two.txt", "two")
    reason = "is a zip archive despite its name; rename it to .zip"
    assert [each.reason for each in Source(docs) if isinstance(each, Skipped) and not each.blank] == [reason]
    assert ingest(index, Source(docs), memory).rejected == [("docs/report.pdf", reason)]
    (docs / "report.pdf").rename(docs / "report.zip")
    assert ingest(index, Source(docs), memory).rejected == []
    assert {"docs/report.zip/one.txt", "docs/report.zip/two.txt"} <= stored(index).keys()
