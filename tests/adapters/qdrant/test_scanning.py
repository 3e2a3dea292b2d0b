"""Searches under a condition that Qdrant cannot express and few chunks meet: no answer is large."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import date
from typing import Any

import pytest
from harrier_qdrant import QdrantStore, scanning, search_loop
from harrier_qdrant.backend import Query
from ingesting import Hashing
from qdrant_client import models
from qdrant_stub import Stub
from slowly import quick

from harrier_core import Index, Match, Record

RECORDS = [
    Record(
        f"r{number}",
        f"common number {number} {'odd' if number % 2 else 'even'}",
        {"when": date(2020, 1, 1 + number % 20)},
    )
    for number in range(120)
]
LATE: dict[str, Any] = {"when": {"$gte": date(2020, 1, 20)}}  # of six chunks
SEVERAL: dict[str, Any] = {"when": {"$contains": "2020-01-1"}}  # of 60
NEVER: dict[str, Any] = {"when": {"$gte": date(2030, 1, 1)}}


@pytest.fixture(params=quick(["REST", "gRPC", "Edge"], "gRPC", "Edge"), scope="module")
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    if request.param == "Edge":
        folder = tmp_path_factory.mktemp("edge") / "q"
        with Index(QdrantStore.embedded(folder, keywords=True), Hashing()) as index:
            index.ingest(RECORDS)
            yield index
        return
    grpc = request.param == "gRPC"
    with (
        closing(Stub(strict=True)) as stub,
        closing(stub.client(prefer_grpc=grpc)) as client,
        Index(QdrantStore(client, keywords=True), Hashing()) as index,
    ):
        index.ingest(RECORDS)
        yield index


class Seen:
    """The requests of an index's store: the limits of queries, and the fields of scrolls."""

    def __init__(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        backend: Any = index.store._backend  # type: ignore[attr-defined]
        search, scroll = backend.search, backend.scroll
        self.limits: list[int] = []
        self.fields: list[Sequence[str] | None] = []

        def searching(queries: Sequence[Query]) -> Any:
            self.limits += [each.limit for each in queries]
            return search(queries)

        def scrolling(where: Any, fields: Sequence[str] | None, **settings: Any) -> Any:
            self.fields.append(fields)
            return scroll(where, fields, **settings)

        monkeypatch.setattr(backend, "search", searching)
        monkeypatch.setattr(backend, "scroll", scrolling)


def ids(matches: Sequence[Match]) -> list[str]:
    return [each.id for each in matches]


def scores(matches: Sequence[Match]) -> list[float]:
    return [round(each.score, 4) for each in matches]


def uses(index: Index) -> dict[str, Callable[[dict[str, Any]], list[list[Match]]]]:
    queries = ["common number 3", "an even number", "odd"]
    return {
        "dense": lambda where: index.search_many(queries, k=4, where=where),
        "keyword": lambda where: index.search_many(queries, k=4, where=where, mode="keyword"),
        "hybrid": lambda where: index.search_many(queries, k=4, where=where, mode="hybrid"),
        "all": lambda where: index.search_many(queries, k=100, where=where),
    }


@pytest.mark.parametrize("name", ["dense", "keyword", "hybrid", "all"])
def test_no_answer_is_large(index: Index, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The matches are those of large answers, and texts come only with few chunks at a time."""
    search = uses(index)[name]
    expected = {at: search(where) for at, where in enumerate((LATE, SEVERAL, NEVER))}
    assert [len(each[0]) for each in expected.values()][::2] == [6 if name == "all" else 4, 0]
    monkeypatch.setattr(search_loop, "_LARGEST", 16)
    monkeypatch.setattr(search_loop, "_TIMES", 1)
    monkeypatch.setattr(search_loop, "_MOST_EQUAL", 12)
    monkeypatch.setattr(scanning, "_PART", 5)
    monkeypatch.setattr(scanning, "_QUERIES", 2)
    seen = Seen(index, monkeypatch)
    for at, where in enumerate((LATE, SEVERAL, NEVER)):
        for found, wanted in zip(search(where), expected[at], strict=True):
            assert scores(found) == scores(wanted)
            assert name == "keyword" or ids(found) == ids(wanted)  # of equal scores, a store may find any
    assert seen.fields
    assert all(fields is not None and "page_content" not in fields for fields in seen.fields)
    assert max(seen.limits) <= {"dense": 16, "keyword": 4 + 12, "hybrid": 50 + 12, "all": 100 + 12}[name]


def test_points_of_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of chunks, and chunks without a text, take no place of others."""
    monkeypatch.setattr(search_loop, "_LARGEST", 8)
    with closing(Stub()) as stub, closing(stub.client()) as client, Index(QdrantStore(client), Hashing()) as index:
        index.ingest(RECORDS)
        points = stub.local.scroll("documents", limit=200, with_vectors=True)[0]
        copies = [
            models.PointStruct(id=at, vector=each.vector, payload=each.payload)  # type: ignore[arg-type]
            for at, each in enumerate(points)
        ]
        stub.local.upsert("documents", copies)
        late = [each for each in points if each.payload and each.payload["metadata"]["when"] == "2020-01-20"]
        stub.local.delete_payload("documents", ["page_content"], [each.id for each in late[:2]])
        assert len(index.search("common number 3", k=4, where=LATE)) == 4
        assert len(index.search("common number 3", k=4)) == 4
        assert len(index.search("common number 3", k=9, where=LATE)) == 4
