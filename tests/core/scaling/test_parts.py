"""An ingest in parts gives the same result as one ingest, wherever the parts run."""

from __future__ import annotations

import itertools
import pickle
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fleets import CHUNKING, Noting, content, index_of, records
from hypothesis import given
from hypothesis import strategies as st
from ingesting import Hashing

from harrier_core import Index, IngestReport, Pruning, Record, SettingError, Skipped, WrongSpace
from harrier_core import seen as seen_module
from harrier_core.chunking import chunks, chunks_at
from harrier_core.records import id_hash
from harrier_core.scaling import IngestPart, PartReport, Tries, carefully, cut, finish, secret_of
from harrier_core.scaling.tally import Tally
from harrier_core.seen import Seen
from harrier_core.testing import MemoryStore

_numbers = itertools.count()


@pytest.fixture
def table() -> str:
    return f"part{next(_numbers)}"


RECORDS = st.lists(
    st.one_of(
        st.builds(Record, st.sampled_from("abcdefg"), st.sampled_from(["one", "two words", "three " * 20])),
        st.builds(Record, st.just("h"), st.just(" ")),  # rejected
        st.builds(Skipped, st.sampled_from("ab"), st.just("cannot be read")),
    ),
    max_size=30,
)


def memory_index() -> Index:
    return Index(MemoryStore(), Hashing(), chunking=CHUNKING)


def stored(index: Index) -> dict[tuple[str, int], tuple[bytes, bytes]]:
    found = index.read()
    return {(each.chunk.record_id, each.chunk.number): (each.chunk.hash, each.vector.tobytes()) for each in found}


@given(RECORDS, st.lists(st.integers(0, 30), max_size=4), st.booleans())
def test_any_division(given_records: list[Any], cuts: list[int], prune: bool) -> None:
    """Parts in any division and order store and report the same as one ingest."""
    whole, divided = memory_index(), memory_index()
    for index in (whole, divided):
        index.ingest(records(5))
    ends = [0, *sorted(min(each, len(given_records)) for each in cuts), len(given_records)]
    part = IngestPart(divided)
    pruning = Pruning({"n": {"$gte": 0}}) if prune else False
    report = whole.ingest(given_records, prune=pruning)
    parts = [part(given_records[begin:end]) for begin, end in itertools.pairwise(ends)]
    merged = finish(divided, parts, prune=pruning, rows=len(given_records))
    assert stored(divided) == stored(whole)
    assert merged.records == report.records
    assert merged.rejected == report.rejected
    sound = Counter(each.id for each in given_records if isinstance(each, Record) and each.text.strip())
    assert {id_ for id_, times in sound.items() if times > 1} <= set(merged.repeated) <= set(report.repeated)
    assert set(merged.differing) <= set(merged.repeated)


def test_duplicate_ids(postgres: str, table: str, tmp_path: Path) -> None:
    """Duplicate ids with different texts or metadata are conflicts; equal records are repeated."""
    one = [Record("same", "says one thing", {"n": 1}), Record("text", "says one thing"), Record("own", "is alone")]
    two = [Record("same", "says one thing", {"n": 1}), Record("text", "says another thing"), Record("twice", "a")]
    three = [Record("metadata", "says it", {"n": 1}), Record("twice", "b")]
    four = [Record("metadata", "says it", {"n": 2}), Record("rejected", "is fine")]
    five = [Record("rejected", " "), Record("inside", "a"), Record("inside", "b")]
    with index_of(postgres, table, Noting(tmp_path / "notes")) as index:
        part = IngestPart(index)
        report = finish(index, [part(each) for each in (one, two, three, four, five)])
    assert sorted(report.repeated) == ["inside", "metadata", "same", "text", "twice"]
    assert sorted(report.differing) == ["metadata", "text", "twice"]
    assert "3 of them differing in several parts" in report.changes


class Once(MemoryStore):
    """Count operations that must happen once."""

    built = 0

    def build_indexes(self) -> None:
        self.built += 1


def test_operations_that_happen_once() -> None:
    """Parts build no index and remove nothing; the end does both."""
    store = Once()
    index = Index(store, Hashing(), chunking=CHUNKING)
    index.ingest(records(50), build_indexes=False)
    part = IngestPart(index)
    parts = [part(records(20, 10)), part(records(30, 20))]
    assert (store.built, len(set(index.record_ids()))) == (0, 50)
    before = index.count()
    report = finish(index, parts, prune=True)
    assert report.deleted == before - index.count() > 0
    assert set(index.record_ids()) == {each.id for each in records(30, 10)}
    assert store.built == 1
    finish(index, [], build_indexes=False)
    assert store.built == 1


def test_pruning_is_refused() -> None:
    """Pruning is refused if a part or rows are missing, or the ids are unknown."""
    index = memory_index()
    index.ingest(records(20))
    part = IngestPart(index)
    done = part(records(10))
    for parts, rows, why in (
        ([done, None], None, "parts are missing, 1 in all"),
        ([done], 11, "the parts were given 10 rows of 11"),
        ([done, part([Record(None, "a")])], 11, "records had no id"),  # type: ignore[arg-type]
        ([], 0, "there were no records"),
    ):
        with pytest.raises(SettingError, match=why):
            finish(index, parts, prune=True, rows=rows)
        assert len(set(index.record_ids())) == 20
    assert finish(index, [done, None]).records == 10


def test_parts_of_another_model() -> None:
    index = memory_index()
    done = IngestPart(index)(records(3))
    assert done.space is not None
    other = replace(done, space=replace(done.space, weights="others"))
    with pytest.raises(WrongSpace, match="use one model for all"):
        finish(index, [done, other])


def test_a_part_is_pickled(postgres: str, table: str, tmp_path: Path) -> None:
    """A part is pickled as its index's settings, and copies in one process share connections."""
    with index_of(postgres, table, Noting(tmp_path / "notes")) as index:
        first, second = (pickle.loads(pickle.dumps(IngestPart(index))) for _ in range(2))
        assert first.index is second.index
        assert first.index is not index
        report = pickle.loads(pickle.dumps(first(records(10))))
        assert second(records(10)).report.unchanged == report.report.written
        first.close()
        third = pickle.loads(pickle.dumps(IngestPart(index)))
        assert third.index is not second.index
        assert third(records(10)).report.encoded == 0
        third.close()
    with pytest.raises(SettingError, match="connections must be"):
        IngestPart(index, connections=0)


def test_chunks_are_transferred(postgres: str, table: str, tmp_path: Path) -> None:
    """A record cut elsewhere has the same chunks, and its tokens are not counted again."""
    given_records = list(records(40))
    with index_of(postgres, f"{table}a", Noting(tmp_path / "one")) as index:
        index.ingest(given_records)
        cuts = {each.id: cut(each, index) for each in given_records}
        assert max(map(len, cuts.values())) > 1
        for record in given_records:
            whole = chunks(record, 10**6, CHUNKING, index.encoder.count_tokens)
            assert [each.hash for each in chunks_at(record, cuts[record.id])] == [each.hash for each in whole]

    class Uncounting(Noting):
        def count_tokens(self, texts: Any) -> list[int]:
            given_texts = list(texts)
            assert given_texts == ["a"] or not given_texts or given_texts in self.asked
            return super().count_tokens(given_texts)

        asked: list[list[str]] = []  # noqa: RUF012

        def _done(self, texts: list[str]) -> Any:
            self.asked.append(texts)
            return super()._done(texts)

    with index_of(postgres, table, Uncounting(tmp_path / "two")) as index:
        part = IngestPart(index)
        finish(index, [part(given_records, cuts=cuts)])
    assert content(postgres, table) == content(postgres, f"{table}a")


class Died(BaseException):
    """An exception in place of the end of a process."""


@pytest.mark.parametrize("size", [1, 2, 7, 200])
def test_a_record_that_crashes_is_found(size: int) -> None:
    """It is isolated with few crashes, and all other records are ingested."""
    for at in {0, size // 2, size - 1}:
        index = memory_index()
        part = IngestPart(index)
        deaths = 0

        def fatal(given_records: Sequence[Any], part: IngestPart = part) -> PartReport:
            nonlocal deaths
            if any(each.id == "bad" for each in given_records):
                deaths += 1
                raise Died
            return part(given_records)

        given_records = list(records(size))
        given_records[at] = Record("bad", "a text")
        tries, report = Tries(), None
        while report is None:
            try:
                report = carefully(fatal, given_records, "block", tries)
            except Died:
                continue
        assert deaths <= 2 * np.log2(size) + 2
        assert [name for name, _ in report.report.rejected] == ["bad"]
        assert report.rows == size
        merged = finish(index, [report], prune=True, rows=size)
        assert set(index.record_ids()) == {each.id for each in given_records} - {"bad"}
        assert merged.records == size


def test_ids_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids take eight bytes each, plus the merge: a hundred million need less than two gigabytes."""
    monkeypatch.setattr(seen_module, "_RECENT", 500)
    chance = np.random.default_rng(0)
    hashes = chance.integers(0, 2**64, 60_000, np.uint64)
    tracemalloc.start()
    seen = Seen()
    for begin in range(0, len(hashes), 1_000):
        for each in hashes[begin : begin + 1_000].tolist():
            seen.add(each)
        seen.settle()
    seen.unseen(map(str, range(1_000)))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(seen) == len(set(hashes.tolist()))
    assert held < 12 * len(hashes)
    assert peak < 24 * len(hashes)
    assert all(each in seen for each in hashes[::100].tolist())
    assert not any(each in seen for each in chance.integers(0, 2**64, 1_000, np.uint64).tolist())


def test_a_tally_takes_little_memory() -> None:
    """A tally takes twelve bytes per id, plus one bucket, or all of them at the end."""
    chance = np.random.default_rng(0)
    hashes = chance.integers(0, 2**64, 500_000, np.uint64)
    contents = chance.integers(1, 2**32, len(hashes), np.uint64).astype("<u4")
    tracemalloc.start()
    tally = Tally()
    for begin in range(0, len(hashes), 20_000):
        part = slice(begin, begin + 20_000)
        tally.add(hashes[part].astype(">u8").tobytes(), contents[part].tobytes())
    tally.add(hashes[:3].astype(">u8").tobytes(), np.array([contents[0], contents[1] ^ 1, 0], "<u4").tobytes())
    assert tally.doubles() == dict(zip(hashes[:2].tolist(), [False, True], strict=True))
    named = [f"name {number}" for number in range(100)]
    tally.add(b"".join(id_hash(each).to_bytes(8) for each in named[:50]), bytes(4 * 50))
    assert tally.unseen(named) == named[50:]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 22 * len(hashes)


def test_ids_are_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids form a set through any number of sorted runs."""
    monkeypatch.setattr(seen_module, "_RECENT", 10)
    chance = np.random.default_rng(1)
    seen, plain = Seen(), set[int]()
    for _ in range(2_000):
        each = int(chance.integers(0, 500))
        assert (each in seen) == (each in plain)
        seen.add(each)
        plain.add(each)
        seen.settle()
        assert len(seen) == len(plain)
    assert set(seen) == plain


def test_reports_are_summed() -> None:
    one = PartReport(IngestReport(records=1), 1, b"12345678", b"1234", ("a",))
    two = one + PartReport.given_up("b", "was wrong")
    assert (two.rows, two.report.records, two.report.rejected) == (2, 2, [("b", "was wrong")])
    assert two.ids == b"12345678" + id_hash("b").to_bytes(8)
    assert two.contents == b"1234\0\0\0\0"


@pytest.mark.parametrize(
    ("database", "secret"),
    [
        ("postgresql://me:hush@host/db", "a password"),
        ("postgresql://me@host/db?sslpassword=hush", "a password"),
        ("host=here password = hush", "a password"),
        ("postgresql://me@host/db", None),
        ("host=here user=me passfile=/etc/pass", None),
    ],
)
def test_secrets_are_found(database: str, secret: str | None, tmp_path: Path) -> None:
    """A secret is found in a part, whose index is a pickle in a pickle."""
    with index_of(database, "t", Noting(tmp_path / "notes")) as index:
        assert secret_of(pickle.dumps(IngestPart(index))) == secret


def test_keys_are_found() -> None:
    assert secret_of(pickle.dumps({"url": "http://host", "api_key": "hush"})) == "api_key"
    assert secret_of(pickle.dumps({"url": "http://host", "api_key": None, "max_tokens": 5, "token": ""})) is None
