"""An Index under fixed conditions never shows more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingesting import Hashing

from harrier_core import Chunk, Chunking, FilterError, Index, Record
from harrier_core.fields import fields_of
from harrier_core.testing import MemoryStore
from harrier_core.view import View, Whole

OURS: dict[str, Any] = {"tenant": "a"}
RECORDS = [
    Record(f"{tenant}{number}", f"text {number} of tenant {tenant}", {"tenant": tenant, "number": number})
    for tenant in "ab"
    for number in range(20)
]


@pytest.fixture(scope="module")
def index() -> Index:
    index = Index(MemoryStore(keywords=True), Hashing())
    index.ingest(RECORDS)
    return index


WIDENING: list[dict[str, Any]] = [
    {},
    {"tenant": "b"},
    {"tenant": {"$in": ["a", "b"]}},
    {"$or": [{"tenant": "a"}, {"tenant": "b"}]},
    {"$not": {"tenant": "a"}},
    {"$or": [{"tenant": {"$exists": True}}, {"nothing": 1}]},
    {"$and": []},
    {"tenant": {"$ne": "a"}},
]


@pytest.mark.parametrize("where", WIDENING)
def test_no_condition_widens_the_fixed_ones(index: Index, where: dict[str, Any]) -> None:
    """Every kind of search and condition stays within the fixed ones."""
    view = View(index, OURS)
    vector = index.encoder.encode_queries(["text"])
    found = [
        view.search("text of tenant b", 100, where),
        view.search("text of tenant b", 100, where, mode="keyword"),
        view.search("text of tenant b", 100, where, mode="hybrid"),
        asyncio.run(view.asearch("text of tenant b", 100, where)),
        *asyncio.run(view.asearch_many(["text of tenant b"], 100, where)),
        *view.search_vectors(vector, 100, where),
    ]
    assert {match.metadata["tenant"] for each in found for match in each} <= {"a"}
    assert len(view.search("text", 100, {"number": {"$lt": 5}})) == 5


def test_hidden_records_and_neighbours(index: Index) -> None:
    view = View(index, OURS)
    assert view.record("b3") is None
    assert view.near("b3", 0) is None
    assert view.record("a3") is not None
    near = view.near("a3", 0, 100)
    assert near is not None
    assert {match.record_id for match in near} == {f"a{number}" for number in range(20)} - {"a3"}
    assert {match.metadata["tenant"] for match in view.sample()} == {"a"}
    assert len(View(index).sample(30)) == 30
    assert View(Index(MemoryStore(), Hashing())).sample() == []


def test_invalid_conditions(index: Index) -> None:
    """The fixed condition is checked at once, and a caller's separately."""
    with pytest.raises(FilterError, match="unknown operator"):
        View(index, {"tenant": {"eq": "a"}})
    with pytest.raises(FilterError, match="a filter must be a dict"):
        View(index, OURS).search("text", 1, ["tenant"])  # type: ignore[arg-type]
    assert View(index, {}).fixed is None


def test_a_record_is_complete() -> None:
    """Chunks are at their positions in the text, with gaps and overlaps."""
    text = "  First paragraph of some length.\n\n\n\nSecond paragraph, which is longer than it.   \n\nThird one. " * 4
    for overlap in (0, 4):
        index = Index(MemoryStore(), Hashing(), chunking=Chunking(tokens=8, overlap=overlap))
        index.ingest([Record("r", text, {"lang": "en"}, lambda start, _: {"page": start // 90})])
        whole = View(index).record("r")
        assert whole is not None
        assert len(whole.chunks) > 5
        assert whole.metadata == {"lang": "en"}
        assert whole.described(whole.chunks[-1]) == {"page": whole.chunks[-1].start // 90}
        for chunk, at in zip(whole.chunks, whole.at, strict=True):
            assert whole.text[at : at + len(chunk.text)] == chunk.text == text[chunk.start : chunk.end]
            assert at == chunk.start
        assert whole.text.split() == text.split()


def test_hidden_chunks() -> None:
    chunks = (Chunk("r", 0, "one", {}, 0, 3), Chunk("r", 7, "eight", {}, 5_000, 5_005))
    assert Whole("r", chunks).text == "one\neight"
    assert Whole("r", chunks).at == (0, 4)


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 30)), min_size=1))
def test_positions_of_chunks(spans: list[tuple[int, int]]) -> None:
    """They are right with any gaps and overlaps."""
    text = "".join(chr(97 + number % 26) for number in range(10_000))
    begin, chunks = 0, []
    for number, (step, length) in enumerate(spans):
        begin += step if number % 3 else -min(begin, step % 5)
        chunks.append(Chunk("r", number, text[begin : begin + length], {}, begin, begin + length))
    ordered = tuple(sorted(chunks, key=lambda chunk: (chunk.start, chunk.end)))
    whole = Whole("r", ordered)
    for chunk, at in zip(ordered, whole.at, strict=True):
        assert whole.text[at : at + len(chunk.text)] == chunk.text


def test_fields() -> None:
    """Fields have the names used in conditions, with their types and values."""
    found = fields_of(
        [
            {"lang": "fr", "year": 2020, "tags": ["a", "b"], "author": {"name": "Ada"}, "none": None},
            {"lang": "fr", "year": 2021.5, "tags": [], "draft": True},
            {"lang": "en", "year": "unknown"},
        ]
    )
    assert [each.name for each in found] == ["lang", "year", "author.name", "draft", "tags"]
    lang, year, author, draft, tags = found
    assert (lang.kinds, lang.share, lang.values) == (("text",), 1.0, (("fr", 2), ("en", 1)))
    assert (year.kinds, year.range) == (("number", "text"), (2020, 2021.5))
    assert author.values == (("Ada", 1),)
    assert (draft.kinds, draft.range) == (("bool",), None)
    assert tags.values == (("a", 1), ("b", 1))
    assert fields_of([]) == []
