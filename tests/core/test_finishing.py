"""Portions of an ingest: about a second of encoding, whole records, long ones in parts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ingesting import Hashing
from langchain_core.stores import InMemoryByteStore

from harrier_core import Chunking, DeviceFull, Encoded, Encoder, Index, IngestReport, InputError, Record
from harrier_core.decoder import Decoder
from harrier_core.errors import NotText, Problem
from harrier_core.ingest import Ingest
from harrier_core.pacing import Pace, parts
from harrier_core.planning import Portions, plan
from harrier_core.records import Chunk
from harrier_core.store import Write, Written
from harrier_core.testing import MemoryStore

# -- pure


def planned(sizes: Sequence[int], known: Sequence[int] = ()) -> Any:
    records = [Record(f"r{number}", "x" * size) for number, size in enumerate(sizes)]
    chunks = {each.id: [Chunk.of(each, 0, 0, each.text)] for each in records}
    return plan(chunks, {f"r{number}": {0: chunks[f"r{number}"][0].hash[:16] + b"-" * 16} for number in known})


def test_portions_of_a_plan() -> None:
    """Each has at least one whole record, in order; records that need no encoding have size zero."""
    portions = Portions(planned([5, 5, 30, 1, 1, 9, 9], known=[3, 4, 5]))
    taken: list[Any] = []
    while portions:
        taken.append(portions.take(10))
    assert [list(each.chunks) for each in taken] == [["r0", "r1"], ["r2"], ["r3", "r4", "r5", "r6"]]
    assert [[chunk.record_id for chunk in each.encoded] for each in taken] == [["r0", "r1"], ["r2"], ["r6"]]
    assert [chunk.record_id for chunk in taken[2].described] == ["r3", "r4", "r5"]
    assert taken[2].known.keys() == {"r3", "r4", "r5", "r6"}


@given(sizes=st.lists(st.integers(1, 50), max_size=20), most=st.integers(1, 60))
def test_portions_cover_the_plan(sizes: list[int], most: int) -> None:
    whole, portions = planned(sizes), Portions(planned(sizes))
    taken: list[Chunk] = []
    while portions:
        each = portions.take(most)
        assert len(each.encoded) == 1 or sum(map(len, each.texts)) <= most
        taken += each.encoded
    assert taken == list(whole.encoded)


@given(sizes=st.lists(st.integers(1, 50), max_size=20), most=st.integers(1, 60))
def test_parts(sizes: list[int], most: int) -> None:
    found = list(parts(sizes, most))
    assert [position for part in found for position in part] == list(range(len(sizes)))
    assert all(len(part) == 1 or sum(sizes[each] for each in part) <= most for part in found)


def test_the_pace_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is measured over the last portions, without the first, which includes loading."""
    clock = [100.0]
    monkeypatch.setattr("harrier_core.pacing.perf_counter", lambda: clock[0])
    pace = Pace(seconds=2.0)
    first = pace.most
    clock[0] = 160.0
    pace.encoded(8_000, 100.0)
    assert pace.most == first
    clock[0] = 161.0
    pace.encoded(10_000, 100.0)  # was submitted before, and waited for the one before it
    assert pace.most == 20_000
    for _ in range(20):
        clock[0] += 1.0
        pace.encoded(50_000, clock[0] - 1.0)
    assert 99_000 < pace.most <= 100_000
    for _ in range(50):
        clock[0] += 1.0
        pace.encoded(1, clock[0] - 1.0)
    assert pace.most == 2_000
    pace.encoded(0, clock[0])
    assert pace.most == 2_000
    for _ in range(20):  # of 50 that end at once, the first says how long all of them took
        clock[0] += 1.0
        for _ in range(50):
            pace.encoded(1_000, clock[0] - 1.0)
    assert 99_000 < pace.most <= 100_000


# -- with a model that takes its time


class Slow(Hashing):
    """An embedder with one thread and a fixed time per character."""

    def __init__(self, characters_a_second: float) -> None:
        super().__init__()
        self._rate = characters_a_second
        self._lock = threading.Lock()
        self.calls: list[int] = []

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        given = list(texts)
        answer: Future[Encoded] = Future()
        threading.Thread(target=self._answer, args=(given, answer)).start()
        return answer

    def _answer(self, texts: list[str], answer: Future[Encoded]) -> None:
        with self._lock:
            if answer.set_running_or_notify_cancel():
                self.calls.append(sum(map(len, texts)))
                time.sleep(sum(map(len, texts)) / self._rate)
                answer.set_result(super().submit_documents(texts).result())


class Counting(MemoryStore):
    """A store that records the number of records in each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[int] = []

    def write(self, write: Write) -> Written:
        self.writes.append(len(write.sizes))
        return super().write(write)


def test_a_slow_model_is_written_often() -> None:
    """A window is stored in many writes, sized by the model's speed."""
    records = [Record(f"r{number}", f"{number} " + "x" * 900) for number in range(300)]
    store = Counting()
    encoder = Slow(200_000)
    report = Index(store, encoder).ingest(records)
    assert (report.written, report.encoded, report.pending) == (300, 300, 0)
    assert report.tokens == sum(encoder.count_tokens([each.text for each in records]))
    assert sum(store.writes) == 300
    assert len(store.writes) > 3
    assert max(encoder.calls) > 2 * encoder.calls[0]  # faster than it was thought to be


def test_a_fast_model_is_written_by_window() -> None:
    records = [Record(f"r{number:05}", f"a text of some length {number}") for number in range(20_000)]
    store = Counting()
    assert Index(store, Hashing()).ingest(records).written == 20_000
    assert max(store.writes) > 500
    assert len(store.writes) < 60


def test_progress_of_a_slow_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a window, waiting chunks decrease and tokens increase."""
    monkeypatch.setattr("harrier_core.ingest._TELL", 0.05)
    seen: list[IngestReport] = []
    records = [Record(f"r{number}", f"{number} " + "word " * 200) for number in range(100)]
    report = Index(MemoryStore(), Slow(100_000)).ingest(records, on_progress=seen.append)
    assert len(seen) > 5
    waiting = [each.pending for each in seen]
    assert waiting[0] > waiting[len(waiting) // 2] > waiting[-1] == report.pending == 0
    tokens = [each.tokens for each in seen]
    assert tokens == sorted(tokens)
    assert tokens[-1] == report.tokens > 0


class Blocked(Slow):
    """An embedder whose passes end when that is allowed."""

    def __init__(self) -> None:
        super().__init__(10**9)
        self.allowed = threading.Event()

    def _answer(self, texts: list[str], answer: Future[Encoded]) -> None:
        self.allowed.wait(60)
        super()._answer(texts, answer)


def test_a_stopped_ingest_removes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It raises CancelledError even if it is stopped while it waits for its last window."""
    monkeypatch.setattr("harrier_core.ingest._TELL", 0.05)
    store, encoder = MemoryStore(), Blocked()
    Index(store, Hashing()).ingest([Record("old", "old")])

    def stop(_: IngestReport) -> None:
        ingest.stop()
        encoder.allowed.set()

    ingest = Ingest(encoder, on_progress=stop)
    records = [Record(f"r{number}", f"{number} " + "x" * 3_000) for number in range(500)]
    opened = store.open(encoder.space)
    with pytest.raises(CancelledError, match="the ingest was stopped"):
        ingest.run(opened, records, prune=True, build_indexes=True)
    assert "old" in set(opened.record_ids())


# -- records that take long


BOOK = Record("book", " ".join(f"word{number}" for number in range(12_000)))
OF_BOOK = Chunking(tokens=100)


class Dying(Slow):
    """An embedder that fails after a number of calls, like a killed process."""

    left = 10**9

    def _answer(self, texts: list[str], answer: Future[Encoded]) -> None:
        self.left -= 1
        if self.left < 0:
            answer.set_exception(OSError("killed"))
        else:
            super()._answer(texts, answer)


def test_a_long_record_continues() -> None:
    """It is written as a whole, and nothing is encoded twice."""
    memory, store = InMemoryByteStore(), MemoryStore()
    encoder = Dying(10**7)
    encoder.left = 6
    index = Index(store, encoder, chunking=OF_BOOK)
    with pytest.raises(OSError, match="killed"):
        index.ingest([BOOK], memory=memory)
    assert index.count() == 0
    before = set(encoder.encoded)
    assert before
    encoder.left = 10**9
    encoder.encoded.clear()
    report = index.ingest([BOOK], memory=memory)
    assert report.written == index.count() == 120
    assert before.isdisjoint(encoder.encoded)
    assert report.pending == 0
    plain = Index(MemoryStore(), Hashing(), chunking=OF_BOOK)
    plain.ingest([BOOK])
    both = [{each.chunk.number: each.vector.tolist() for each in one.read()} for one in (index, plain)]
    assert both[0] == both[1]


def test_a_long_record_without_a_memory() -> None:
    index = Index(MemoryStore(), Hashing(), chunking=OF_BOOK)
    assert index.ingest([BOOK]).written == 120


class Refusing(Slow):
    """An embedder that refuses texts with a certain word."""

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        given = list(texts)
        wrong = [Problem(at, NotText, "is refused") for at, text in enumerate(given) if "word9000" in text]
        if wrong:
            raise NotText(wrong)
        return super().submit_documents(given)


def test_a_part_of_a_long_record_that_cannot_be_encoded() -> None:
    """The record is rejected once, and others are written."""
    index = Index(MemoryStore(), Refusing(10**7), chunking=OF_BOOK)
    report = index.ingest([Record("a", "bread"), BOOK, Record("b", "rivers")])
    assert report.rejected == [("book", "is refused")]
    assert (report.written, report.pending) == (2, 0)
    assert issubclass(NotText, InputError)


# -- with a device whose memory others take


def test_no_record_is_rejected_because_others_took_the_memory(
    built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ingest fails, and the next one writes the rest."""
    records = [Record(f"r{number}", f"a text of some length {number}") for number in range(20)]

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    with Encoder(built()) as encoder:
        index = Index(MemoryStore(), encoder)
        index.ingest(records[:5])
        with monkeypatch.context() as taken:
            taken.setattr(Decoder, "launch", full)
            with pytest.raises(DeviceFull, match="the memory of cpu is full"):
                index.ingest(records)
        report = index.ingest(records)
    assert (report.written, report.unchanged, report.rejected) == (15, 5, [])
