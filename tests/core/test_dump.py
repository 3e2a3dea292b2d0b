"""Parquet files of an index: written completely, read back, and refused if they are anything else."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from harrier_qdrant import QdrantStore
from ingesting import CHUNKING, Hashing, before
from pyarrow import parquet as pq

from harrier_core import (
    Chunk,
    Contents,
    Hnsw,
    Index,
    Record,
    SettingError,
    StoreMissing,
    StoreUnavailable,
    StoreUnsuitable,
    Write,
    WrongSpace,
)
from harrier_core.layout import StoreLayout
from harrier_core.migration import copy, dumps, plan
from harrier_core.migration.dumps import Dump
from harrier_core.store import Stored
from harrier_core.testing import MemoryStore
from harrier_core.testing.contract import AWKWARD

RECORDS = [*before(), *AWKWARD]


def content(store: Any) -> list[Any]:
    rows = ((each.chunk, each.vector.tobytes()) for each in Contents(store).read())
    found = [(c.record_id, c.number, c.text, dict(c.metadata), c.start, c.end, c.hash, v) for c, v in rows]
    return sorted(found, key=lambda row: row[:2])


@pytest.fixture
def source() -> MemoryStore:
    store = MemoryStore(keywords=True)
    Index(store, Hashing(), chunking=CHUNKING).ingest(RECORDS)
    return store


@pytest.fixture
def file(tmp_path: Path, source: MemoryStore) -> Path:
    """Return a dump to be read or changed."""
    copy(source, tmp_path / "docs.parquet")
    return tmp_path / "docs.parquet"


def changed(file: Path, **columns: Any) -> Path:
    """Write the file with other columns in one row group, as another program does."""
    table = pq.read_table(file)
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    pq.write_table(table, file)
    return file


def test_round_trip(source: MemoryStore, file: Path) -> None:
    """Everything is bit-identical, a second ingest encodes nothing, and words are kept."""
    target = MemoryStore()
    report = copy(file, target)
    assert report.sound
    assert report.compared == report.identical == 100
    assert content(target) == content(source)
    encoder = Hashing()
    ingested = Index(target, encoder, chunking=CHUNKING).ingest(RECORDS, prune=True)
    assert (ingested.written, ingested.deleted, encoder.encoded) == (0, 0, [])
    assert target.keywords_problem() is None
    again = copy(str(file), target)
    assert (again.copied, again.unchanged) == (0, report.copied)


def test_other_programs_can_read_it(source: MemoryStore, file: Path) -> None:
    """There is one row per chunk in plain columns, with a description of the vectors."""
    table = pq.read_table(file)
    assert table.schema.names == ["id", "number", "text", "metadata", "start", "end", "hash", "vector"]
    assert table.schema.field("vector").type == pa.list_(pa.field("element", pa.float32()), 16)
    rows = table.to_pylist()
    assert len(rows) == Contents(source).count()
    [row] = [each for each in rows if each["id"] == "r007" and each["number"] == 3]
    assert row["text"] == "The old record number 7 says in sentence 3 what it has to say."
    assert json.loads(row["metadata"]) == {"n": 7}
    assert np.linalg.norm(row["vector"]) == pytest.approx(1)
    said = json.loads(table.schema.metadata[b"harrier"])
    assert said["space"]["dimensions"] == 16
    assert said["layout"] == {"precision": "float32", "hnsw": None, "indexes": None, "keywords": True}


def test_precision(source: MemoryStore, tmp_path: Path) -> None:
    """It is the index's or the requested one, and a store created from the file has it too."""
    half = f"{tmp_path}/half.parquet?precision=float16"
    report = copy(source, half)
    assert (report.sound, report.identical) == (True, 0)
    assert 0.9999 < report.least_cosine < 1
    path = tmp_path / "half.parquet"
    assert pq.read_schema(path).field("vector").type.value_type == pa.float16()
    assert Dump(path).layout.precision == "float16"
    with QdrantStore.embedded(tmp_path / "q") as edge:
        assert copy(path, edge).identical == 100  # though Edge brings vectors to unit length
        assert edge.layout().precision == "float16"
        copy(edge, tmp_path / "again.parquet")
    one, other = (
        pq.read_table(each).sort_by([("id", "ascending"), ("number", "ascending")])
        for each in (path, tmp_path / "again.parquet")
    )
    assert one["vector"].equals(other["vector"])
    for wrong in ("float8", "", "float16&more=1"):
        with pytest.raises(SettingError, match=r"optionally with \?precision=float16 or float32"):
            copy(source, f"{tmp_path}/x.parquet?precision={wrong}")


def test_layout_is_kept(tmp_path: Path) -> None:
    """The file keeps the layout for stores that support it."""
    layout = StoreLayout("float16", Hnsw(8, 100), {"n": "integer", "a b": "keyword"}, keywords=True)
    with QdrantStore.embedded(tmp_path / "one") as one, QdrantStore.embedded(tmp_path / "two") as two:
        one.adopt(layout)
        Index(one, Hashing(), chunking=CHUNKING).ingest(RECORDS[:5])
        copy(one, tmp_path / "docs.parquet")
        report = copy(tmp_path / "docs.parquet", two)
        assert report.lost == []
        assert two.layout() == layout


def test_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is written and read in parts, and a record may span parts."""
    monkeypatch.setattr(dumps, "_GROUP", 2_000)
    monkeypatch.setattr(dumps, "MOST_CHUNKS", 7)
    store, space = MemoryStore(), Hashing.space
    opened = store.open(space, create=True)
    for number, size in enumerate((1, 30, 2, 100, 7, 7, 1)):
        record = Record(f"r{number}", "a text ")
        chunks = [Chunk.of(record, at, at, f"text {at}") for at in range(size)]
        opened.write(Write({record.id: size}, chunks, np.eye(size, 16, dtype=np.float32), [], {record.id: {}}))
    file = tmp_path / "docs.parquet"
    copy(store, file)
    assert pq.ParquetFile(file).num_row_groups > 1
    for path in (file, changed(file)):
        dump = Dump(path)
        dump.check()
        sizes = [{id_: len(own) for id_, own in window.hashes.items()} for window in dump.windows()]
        assert {id_: size for window in sizes for id_, size in window.items()}["r3"] == 100
        assert sum(len(window) for window in sizes) == 7
        target = MemoryStore()
        assert copy(path, target).sound
        assert content(target) == content(store)


def test_an_empty_index(tmp_path: Path) -> None:
    store = MemoryStore()
    store.open(Hashing.space, create=True)
    assert copy(store, tmp_path / "none.parquet").sound
    target = MemoryStore()
    assert copy(tmp_path / "none.parquet", target).records == 0
    assert target.space() == Hashing.space


def test_writes_are_atomic(file: Path, source: MemoryStore) -> None:
    """A failed copy keeps the old file and leaves nothing else; the next one replaces it."""

    class Failing(MemoryStore):
        def read(self, *asked: Any, **more: Any) -> Iterator[Stored]:  # noqa: ARG002
            raise OSError("the source is gone")

    failing = Failing()
    failing.open(Hashing.space, create=True)
    Index(failing, Hashing(), chunking=CHUNKING).ingest(RECORDS[:9])
    held = file.read_bytes()
    with pytest.raises(OSError, match="the source is gone"):
        copy(failing, file)
    assert file.read_bytes() == held
    assert [each.name for each in file.parent.iterdir()] == ["docs.parquet"]
    file.with_name(".docs.parquet.part").write_bytes(b"x" * 10**6)  # of one that was killed
    Index(source, Hashing()).delete(["r001"])
    assert copy(source, file).sound
    assert Dump(file).count() == Contents(source).count()
    assert [each.name for each in file.parent.iterdir()] == ["docs.parquet"]


def test_one_writer_at_a_time(file: Path, source: MemoryStore) -> None:
    part = file.with_name(".docs.parquet.part")
    with part.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable, match="another process is writing"):
            copy(source, file)
        assert part.exists()
    assert copy(source, file).sound


def test_other_files_are_refused(tmp_path: Path, source: MemoryStore) -> None:
    """Other files are neither read nor overwritten."""
    files = {
        "another.parquet": "was not written by a copy of an index",
        "cut.parquet": "cannot be read as Parquet",
        "text.parquet": "cannot be read as Parquet",
        "later.parquet": "has format 2, but this release reads format 1; update harrier-kit",
    }
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "another.parquet")
    (tmp_path / "text.parquet").write_text("no file of Parquet")
    copy(source, tmp_path / "cut.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "cut.parquet").read_bytes()[:-100])
    pq.write_table(
        pa.table({"id": ["a"]}).replace_schema_metadata({b"harrier": b'{"format": 2}'}), tmp_path / "later.parquet"
    )
    for name, message in files.items():
        held = (tmp_path / name).read_bytes()
        for call in (copy, plan):
            with pytest.raises(StoreUnsuitable, match=message):
                call(tmp_path / name, MemoryStore())
            with pytest.raises(StoreUnsuitable, match=message):
                call(source, tmp_path / name)
        assert (tmp_path / name).read_bytes() == held
    with pytest.raises(StoreMissing, match="there is no file"):
        copy(tmp_path / "none.parquet", MemoryStore())


def test_another_space(file: Path) -> None:
    other = MemoryStore()
    other.open(replace(Hashing.space, weights="others"), create=True)
    for call in (copy, plan):
        for pair in ((file, other), (other, file)):
            with pytest.raises(WrongSpace, match="the weights differ"):
                call(*pair)


def test_rows_that_were_changed(file: Path) -> None:
    """A text that does not match its hash is rejected, and sound rows are accepted."""
    rows = pq.read_table(file).to_pylist()
    rows[0]["text"] = "another text"
    rows[-1]["vector"] = [float("nan")] * 16
    changed(file, text=[row["text"] for row in rows], vector=[row["vector"] for row in rows])
    target = MemoryStore()
    report = copy(file, target)
    assert dict(report.rejected).keys() == {rows[0]["id"], rows[-1]["id"]}
    assert Contents(target).count() == len(rows) - sum(row["id"] in dict(report.rejected) for row in rows)


@pytest.mark.parametrize("order", ["descending", "scattered", "doubled", "gap"])
def test_rows_in_another_order(file: Path, order: str) -> None:
    """The chunks of a record must be adjacent; otherwise nothing is written."""
    table = pq.read_table(file)
    gap = table["number"].to_pylist().index(2) - 1
    rows = {
        "descending": table.sort_by([("id", "ascending"), ("number", "descending")]),
        "scattered": table.sort_by("hash"),
        "doubled": pa.concat_tables([table, table.slice(0, 1)]),
        "gap": pa.concat_tables([table.slice(0, gap), table.slice(gap + 1)]),
    }
    pq.write_table(rows[order], file)
    target = MemoryStore()
    with pytest.raises(StoreUnsuitable, match=r"must be adjacent and numbered from 0.*sort the file"):
        copy(file, target)
    assert target.space() is None
