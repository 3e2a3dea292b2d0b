"""Matches with neighbouring chunks: reads of the store, and joining of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingesting import Hashing

from harrier_core import Chunk, Chunking, Index, Match, Record
from harrier_core.passages import expanded
from harrier_core.store import Stored
from harrier_core.testing import MemoryStore

TEXT = "abc def ghi jkl mno pqr"


def chunk(number: int, start: int, end: int, text: str = TEXT, record_id: str = "r") -> Chunk:
    return Chunk.of(Record(record_id, text), number, start, text[start:end])


def match_of(*around: Chunk) -> Match:
    return Match(around[0], 0.5, around=around)


class Reading(MemoryStore):
    """A store that records reads of certain records."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[Sequence[str], Sequence[int] | None]] = []

    def read(
        self, record_ids: Sequence[str] | None = None, where: Any = None, numbers: Sequence[int] | None = None
    ) -> Iterator[Stored]:
        if record_ids is not None:
            self.reads.append((record_ids, numbers))
        return super().read(record_ids, where, numbers)


@pytest.fixture
def store() -> Reading:
    return Reading()


@pytest.fixture
def index(store: Reading) -> Index:
    """Return an index of two records with some forty chunks each, and a short one."""
    index = Index(store, Hashing(), chunking=Chunking(tokens=8))
    sentences = [" ".join(f"{name}{number} is what sentence {number} says." for number in range(90)) for name in "ab"]
    index.ingest([Record("a", sentences[0]), Record("b", sentences[1]), Record("short", "a short text")])
    assert index.count() > 60
    store.reads.clear()
    return index


# -- one text


def test_texts_that_overlap_or_leave_a_gap() -> None:
    """Overlaps occur once, and missing white space becomes a line break."""
    assert match_of(chunk(0, 0, 7), chunk(1, 4, 11), chunk(2, 11, 15)).passage == "abc def ghi jkl"
    assert match_of(chunk(0, 0, 3), chunk(1, 4, 7)).passage == "abc\ndef"
    assert match_of(chunk(0, 0, 11), chunk(1, 4, 7), chunk(2, 8, 15)).passage == "abc def ghi jkl"
    assert Match(chunk(0, 4, 7), 0.5).passage == "def"


WORDS = st.text(alphabet="ab é漢\n", min_size=1, max_size=60).filter(lambda text: bool(text.strip()))


@given(WORDS, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=8))
def test_a_passage_is_the_text_of_its_chunks(text: str, spans: list[tuple[int, int]]) -> None:
    """Each character of any chunk occurs once, in its place."""
    spans = sorted((min(span), max(span)) for span in spans)
    chunks = [chunk(number, start, end, text) for number, (start, end) in enumerate(spans) if start < len(text)]
    if not chunks:
        return
    expected, end = "", chunks[0].start
    for each in chunks:
        expected += ("\n" if each.start > end else "") + text[max(each.start, end) : each.end]
        end = max(end, each.end)
    assert match_of(*chunks).passage == expected


# -- reads


def test_one_read_for_all_matches(index: Index, store: Reading) -> None:
    """One read gets the neighbours of all matches of all queries."""
    texts = [each.chunk.text for each in MemoryStore.read(store, ["a"], None, [3, 20])]
    found = index.search_many([*texts, "a short text"], k=1, expand=1)
    assert [match.number for [match] in found] == [3, 20, 0]
    assert store.reads == [(["a", "short"], [0, 1, 2, 3, 4, 19, 20, 21])]
    assert [[each.number for each in match.around] for [match] in found] == [[2, 3, 4], [19, 20, 21], [0]]
    assert all(each.record_id == match.record_id for [match] in found for each in match.around)


@pytest.mark.parametrize("expand", ["record", 10_000, 2**70])
def test_whole_records(index: Index, store: Reading, expand: Any) -> None:
    """Whole records are read if all chunks, or too many numbers, are needed."""
    [match] = index.search("a short text", k=1, where=None, expand=expand)
    assert store.reads == [(["short"], None)]
    assert match.around == (match.chunk,)
    [[first, *_]] = index.search_many(["anything"], k=60, expand=expand)
    assert len(first.around) == len(list(store.read([first.record_id])))


@pytest.mark.parametrize("k", [1, 5])
def test_nothing_is_read_without_need(index: Index, store: Reading, k: int) -> None:
    """Without `expand` or without matches, nothing is read."""
    assert index.search("a short text", k=k)[0].around == ()
    assert index.search_many([], k=k, expand=1) == []
    assert index.search("a short text", k=k, min_score=2, expand=1) == []
    assert store.reads == []


def test_the_match_itself_is_among_its_neighbours(index: Index, store: Reading) -> None:
    """The match itself is included as the search returned it."""
    [found] = index.search("a short text", k=1)
    match = replace(found, chunk=replace(found.chunk, hash=b""))
    [[expanded_]] = expanded([[match]], 1, store.open(index.encoder.space))
    assert expanded_.around[0] is match.chunk


def test_a_record_that_was_changed_after_the_search(index: Index, store: Reading) -> None:
    """A record changed after the search gets no neighbours."""
    opened = store.open(index.encoder.space)
    [third] = opened.read(["a"], None, [3])
    match = Match(third.chunk, 0.5)
    index.ingest([Record("a", "Quite another beginning. " + "It goes on for long enough. " * 40)])
    [[now]] = expanded([[match]], 1, opened)
    assert now.around == (match.chunk,)
    index.delete(["a"])
    [[gone]] = expanded([[match]], "record", opened)
    assert (gone.around, gone.passage) == ((match.chunk,), match.text)
