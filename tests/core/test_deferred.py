"""Deferred records are read only when they may have changed, whatever the memory and the store contain."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingesting import Hashing
from langchain_core.stores import InMemoryByteStore

from harrier_core import Chunking, Index, Record, Skipped
from harrier_core.records import Deferred
from harrier_core.testing import MemoryStore

CUT = Chunking(tokens=8)


class Files:
    """Texts by name, which count how often they are read."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self.read: list[str] = []

    def deferred(self, stamp: Callable[[str], bytes] = str.encode) -> list[Deferred]:
        return [Deferred(name, stamp(text), partial(self._read, name)) for name, text in self.texts.items()]

    def _read(self, name: str) -> Record | Skipped:
        self.read.append(name)
        text = self.texts[name]
        return Record(name, text, {"name": name}) if text else Skipped(name, "has no text in it", gone=True)


LONG = " ".join(f"word{number}" for number in range(40))


@pytest.fixture
def files() -> Files:
    return Files({"a": "bread rises", "b": LONG, "c": "rivers run"})


@pytest.fixture
def memory() -> InMemoryByteStore:
    return InMemoryByteStore()


@pytest.fixture
def index() -> Index:
    return Index(MemoryStore(), Hashing(), chunking=CUT)


def stored(index: Index) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in sorted(index.read(), key=lambda each: (each.chunk.record_id, each.chunk.number)):
        found.setdefault(each.chunk.record_id, []).append(each.chunk.text)
    return found


def test_a_second_run_reads_nothing(index: Index, files: Files, memory: InMemoryByteStore) -> None:
    first = index.ingest(files.deferred(), memory=memory)
    assert (files.read, first.records, first.unchanged) == (["a", "b", "c"], 3, 0)
    before = stored(index)
    second = index.ingest(files.deferred(), memory=memory, prune=True)
    assert files.read == ["a", "b", "c"]
    assert (second.records, second.written, second.deleted) == (3, 0, 0)
    assert second.unchanged == first.written
    assert second.repeated == []
    assert stored(index) == before


def test_without_a_memory_everything_is_read(index: Index, files: Files) -> None:
    index.ingest(files.deferred())
    assert index.ingest(files.deferred()).written == 0
    assert files.read == ["a", "b", "c"] * 2


def test_a_changed_file_is_read(index: Index, files: Files, memory: InMemoryByteStore) -> None:
    index.ingest(files.deferred(), memory=memory)
    files.texts["c"] = "rivers run to the sea"
    files.read.clear()
    report = index.ingest(files.deferred(), memory=memory)
    assert (files.read, report.written, report.records) == (["c"], 1, 3)
    assert stored(index)["c"] == ["rivers run to the sea"]


@pytest.mark.parametrize("lost", [["b"], ["a", "b", "c"]])
def test_the_store_takes_precedence(index: Index, files: Files, memory: InMemoryByteStore, lost: list[str]) -> None:
    """Records that the store lost or that others wrote are read and written again."""
    index.ingest(files.deferred(), memory=memory)
    before = stored(index)
    index.delete(lost)
    index.ingest([Record("a", "somebody else's")])
    files.read.clear()
    index.ingest(files.deferred(), memory=memory)
    assert files.read == sorted({"a", *lost})
    assert stored(index) == before
    files.read.clear()
    assert index.ingest(files.deferred(), memory=memory).written == 0
    assert files.read == []


def test_another_index_with_the_same_memory(files: Files, memory: InMemoryByteStore) -> None:
    Index(MemoryStore(), Hashing(), chunking=CUT).ingest(files.deferred(), memory=memory)
    other = Index(MemoryStore(), Hashing(), chunking=CUT)
    assert other.ingest(files.deferred(), memory=memory).records == 3
    assert stored(other).keys() == {"a", "b", "c"}


def test_other_chunk_settings_read_everything(index: Index, files: Files, memory: InMemoryByteStore) -> None:
    index.ingest(files.deferred(), memory=memory)
    files.read.clear()
    index.using(index.encoder).ingest(files.deferred(), memory=memory)
    assert files.read == []
    other = Index(index.store, index.encoder, chunking=Chunking(tokens=16))
    other.ingest(files.deferred(), memory=memory)
    assert files.read == ["a", "b", "c"]
    assert len(stored(other)["b"]) < 5


def test_a_plan_reads_and_remembers_nothing(index: Index, files: Files, memory: InMemoryByteStore) -> None:
    index.plan(files.deferred(), memory=memory)
    assert memory.store == {}
    index.ingest(files.deferred(), memory=memory)
    files.read.clear()
    assert index.plan(files.deferred(), memory=memory).unchanged == index.count()
    assert files.read == []


def test_records_without_text_and_with_another_id(index: Index, memory: InMemoryByteStore) -> None:
    """They are never remembered."""
    files = Files({"blank": "", "a": "bread"})
    wrong = Deferred("x", b"1", lambda: Record("y", "another"))
    for _ in range(2):
        report = index.ingest([*files.deferred(), wrong], memory=memory, prune=True)
        assert [each for each, _ in report.rejected] == ["blank"]
        assert stored(index).keys() == {"a", "y"}
    assert files.read == ["blank", "a", "blank"]


def test_repeated_ids(index: Index, files: Files, memory: InMemoryByteStore) -> None:
    """The last record counts, whether it was read or not."""
    index.ingest(files.deferred(), memory=memory)
    report = index.ingest([*files.deferred(), Record("a", "later")], memory=memory)
    assert (report.repeated, stored(index)["a"]) == (["a"], ["later"])
    report = index.ingest([Record("a", "earlier"), *files.deferred()], memory=memory)
    assert (report.repeated, stored(index)["a"]) == (["a"], ["bread rises"])


def test_a_broken_memory(index: Index, files: Files, memory: InMemoryByteStore) -> None:
    index.ingest(files.deferred(), memory=memory)
    memory.mset([(key, value[:-1]) for key, value in memory.store.items() if value])
    assert index.ingest(files.deferred(), memory=memory).written == 0
    assert files.read == ["a", "b", "c"] * 2


EDITS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "one", "two", LONG])), max_size=4)


@given(runs=st.lists(st.tuples(EDITS, EDITS, st.booleans()), max_size=5))
def test_the_result_equals_reading_everything(runs: list[tuple[Any, Any, bool]]) -> None:
    """With a memory and other writers, each run ends like a run without a memory."""
    files, memory = Files({}), InMemoryByteStore()
    with_memory, without = (Index(MemoryStore(), Hashing(), chunking=CUT) for _ in range(2))
    for edits, others, prune in runs:
        files.texts.update(edits)
        for index, own in ((with_memory, memory), (without, None)):
            index.ingest([Record(name, f"other {text}") for name, text in dict(others).items()])
            index.ingest(files.deferred(), memory=own, prune=prune and any(files.texts.values()))
        assert stored(with_memory) == stored(without)
