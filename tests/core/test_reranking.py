"""Reranking of search results."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from ingesting import Hashing
from longest import Longest

from harrier_core import Diverse, Index, Match, Record, SettingError
from harrier_core.reranking import best_texts
from harrier_core.testing import MemoryStore

RECORDS = [Record(f"r{number}", f"text {number} of {'x' * number}") for number in range(60)]


@pytest.fixture
def index() -> Iterator[Index]:
    with Index(MemoryStore(keywords=True), Hashing()) as index:
        index.ingest(RECORDS)
        yield index


def test_the_best_of_many(index: Index) -> None:
    """Matches have the reranker's order and scores, and keep their cosine."""
    longest = Longest()
    found = index.search("text", 3, rerank=longest, among=60)
    assert [match.record_id for match in found] == ["r59", "r58", "r57"]
    assert [match.score for match in found] == [float(len(match.text)) for match in found]
    cosines = {match.record_id: match.cosine for match in index.search("text", 60)}
    assert all(match.cosine == cosines[match.record_id] for match in found)
    assert longest.asked == [("text", 60)]


def test_among_the_nearest(index: Index) -> None:
    """Fifty candidates are reranked by default, and at least k."""
    longest = Longest()
    near = [match.record_id for match in index.search("text", 60)]
    assert {match.record_id for match in index.search("text", 5, rerank=longest, among=5)} == set(near[:5])
    index.search("text", 5, rerank=longest)
    index.search("text", 9, rerank=longest, among=1)
    index.search_many(["one", "two"], 2, rerank=longest, among=7)
    assert longest.asked == [("text", 5), ("text", 50), ("text", 9), ("one", 7), ("two", 7)]


@pytest.mark.parametrize("mode", ["dense", "keyword", "hybrid"])
def test_pages_and_minimum_scores(index: Index, mode: Any) -> None:
    """They refer to the reranker's list."""
    options: dict[str, Any] = {"rerank": Longest(), "among": 40, "mode": mode}
    whole = index.search("text x", 12, **options)
    assert index.search("text x", 4, offset=8, **options) == whole[8:]
    assert index.search("text x", 12, min_score=whole[5].score, **options) == whole[:6]


def test_equal_scores(index: Index) -> None:
    """Equal scores keep the order of the search."""

    class Indifferent(Longest):
        def scores(self, query: str, texts: Sequence[str]) -> list[float]:
            return [0.0 for _ in super().scores(query, texts)]

    near = [match.record_id for match in index.search("text", 10)]
    assert [match.record_id for match in index.search("text", 10, rerank=Indifferent())] == near


def test_blank_texts() -> None:
    """Blank texts, which other retrievers may return, are left out."""
    assert best_texts("text", ["a", " ", "abc", ""], 5, Longest()) == [(2, 3.0), (0, 1.0)]
    assert best_texts("text", ["", " "], 5, Longest()) == []


def test_nothing_found(index: Index) -> None:
    """The reranker is not called."""
    longest = Longest()
    assert index.search("text", where={"no": 1}, rerank=longest) == []
    assert longest.asked == []


def test_diverse_as_a_reranker(index: Index) -> None:
    """`search_diverse` equals a search with `Diverse`."""
    chosen = index.search("text", 6, rerank=Diverse(0.3), among=20)
    assert index.search_diverse("text", 6, relevance=0.3) == chosen
    assert index.search("text", 2, rerank=Diverse(0.3), among=20, offset=4) == chosen[4:]


class Short(Longest):
    """A reranker that always returns one score."""

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        return super().scores(query, texts)[:1]


class Slow:
    """A reranker with an async method."""

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(len(query)) for _ in texts]


class Undefined(Longest):
    """A reranker that returns NaN."""

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float("nan") for _ in super().scores(query, texts)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rerank": Short()}, "Short.scores must return a number for each text, got 1 for 50"),
        ({"rerank": Undefined()}, "Undefined.scores must return numbers, got nan"),
        ({"rerank": Longest}, r"rerank must be an object with scores\(query, texts\), got the class Longest"),
        ({"rerank": Slow()}, "rerank.scores must return numbers, got a coroutine of Slow"),
        ({"rerank": 7}, r"rerank must be an object with scores\(query, texts\), got int"),
        ({"among": 7}, "among needs rerank, got among alone"),
        ({"rerank": Longest(), "among": 0}, "among must be an integer of at least 1, got 0"),
        ({"keyword_weight": 0.5}, "keyword_weight needs mode='hybrid', got mode='dense'"),
        ({"mode": "hybrid", "keyword_weight": -1}, "keyword_weight must be a number of at least 0, got -1"),
        ({"mode": "hybrid", "keyword_weight": True}, "keyword_weight must be a number of at least 0, got True"),
    ],
)
def test_invalid_rerankers(index: Index, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        index.search("text", **options)


def test_unknown_keywords(index: Index) -> None:
    unknown: dict[str, Any] = {"limit": 3}
    with pytest.raises(TypeError, match="a search got an unexpected keyword argument 'limit'"):
        index.search("text", **unknown)


def test_vectors_and_their_queries(index: Index) -> None:
    """With query texts, a search by vector is reranked like a search by text."""
    queries = ["text 7", "xxx of 30"]
    vectors = index.encoder.encode_queries(queries)
    ways: list[dict[str, Any]] = [
        {},
        {"mode": "hybrid", "keyword_weight": 2},
        {"rerank": Longest(), "among": 9},
        {"mode": "hybrid", "rerank": Longest()},
        {"rerank": Diverse(0.3), "with_vectors": True},
    ]
    for way in ways:
        expected = _ids(index.search_many(queries, 4, **way))
        assert _ids(index.search_vectors(vectors, 4, queries=queries, **way)) == expected
        assert _ids(asyncio.run(index.asearch_vectors(vectors, 4, queries=queries, **way))) == expected
    diverse = _ids(index.search_many(queries, 4, rerank=Diverse(0.3)))
    assert _ids(index.search_vectors(vectors, 4, rerank=Diverse(0.3))) == diverse
    for way, message in (
        ({"mode": "keyword", "queries": queries}, "use search or search_words"),
        ({"mode": "hybrid"}, "mode='hybrid' needs the words of the queries; pass queries to search_vectors"),
        ({"rerank": Longest()}, "rerank needs the texts of the queries; pass queries to search_vectors"),
        ({"mode": "hybrid", "queries": ["one"]}, "queries must have one text for each vector, got 1 for 2"),
    ):
        with pytest.raises(SettingError, match=message):
            index.search_vectors(vectors, **way)


def test_matches_with_their_vectors(index: Index) -> None:
    """Every search can return vectors on request."""
    for mode in ("dense", "keyword", "hybrid"):
        way: dict[str, Any] = {"mode": mode, "rerank": Longest()}
        assert all(match.vector is not None for match in index.search("text", 3, with_vectors=True, **way))
        assert all(match.vector is None for match in index.search("text", 3, **way))


def _ids(found: Sequence[Sequence[Match]]) -> list[list[str]]:
    return [[match.id for match in each] for each in found]
