"""An open collection: requests per call, and behaviour when the collection is replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from harrier_qdrant import QdrantStore, edge_process, server_backend
from ingesting import Hashing
from qdrant_client import models
from qdrant_stub import Fault, Stub

from harrier_core import Encoder, Index, Record, StoreError, StoreUnavailable, StoreUnsuitable

BREAD = [Record(f"bread {number}", f"bread number {number}", {"topic": "food", "n": number}) for number in range(5)]
RIVER = [Record(f"river {number}", f"river number {number}", {"topic": "earth", "n": number}) for number in range(10)]
RECORDS = [*BREAD, *RIVER]


@pytest.fixture(params=["REST", "gRPC"])
def index(request: pytest.FixtureRequest, stub: Stub, encoder: Encoder) -> Iterator[Index]:
    """Return an open index with records on a server."""
    with (
        closing(stub.client(prefer_grpc=request.param == "gRPC")) as client,
        Index(QdrantStore(client, collection="docs", retry_for=2), encoder) as index,
    ):
        index.ingest(RECORDS)
        stub.counts.clear()
        yield index


CALLS: dict[str, tuple[Callable[[Index], Any], str]] = {
    "search": (lambda index: index.search("bread"), "query_batch"),
    "ten searches": (lambda index: index.search_many([f"bread number {n}" for n in range(10)]), "query_batch"),
    "a filtered search": (lambda index: index.search("bread", where={"n": {"$gte": 2}}), "query_batch"),
    "a count": (lambda index: index.count(), "count"),
    "a read": (lambda index: list(index.read(["bread 1"])), "scroll"),
    "the ids": (lambda index: list(index.record_ids()), "scroll"),
}


@pytest.mark.parametrize("call", CALLS)
def test_one_round_trip(stub: Stub, index: Index, call: str) -> None:
    """The collection is checked in parallel with the request; each waits here for the other to begin."""
    use, name = CALLS[call]
    together = threading.Barrier(2)

    def plan(_name: str, _number: int) -> None:
        together.wait(10)

    stub.plan = plan
    assert use(index)
    assert stub.counts == {"get": 1, name: 1}


def test_only_incomplete_queries_are_repeated(stub: Stub, index: Index) -> None:
    """Of two queries under a condition that needs filtering afterwards, one finds enough at once."""
    stub.params.clear()
    bread, river = index.search_many(["bread", "river"], k=3, where={"topic": {"$contains": "foo"}})
    assert {match.metadata["topic"] for match in [*bread, *river]} == {"food"}
    assert (len(bread), len(river)) == (3, 3)
    assert stub.counts == {"get": 2, "query_batch": 2}
    assert len(stub.params) == 2 + 1  # 4 and 16 points of the one; 4 of the other


def test_large_batches_are_divided(stub: Stub, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are divided by request and response size, and each query gets its answer."""
    queries = [f"{word} number {n}" for n in range(4) for word in ("bread", "river")]
    together = index.search_many(queries, k=2)
    monkeypatch.setattr(server_backend, "_MOST_FOUND", 9)  # of one more than k for each
    assert index.search_many(queries, k=2) == together
    assert stub.counts["query_batch"] == 1 + 3
    monkeypatch.undo()
    monkeypatch.setattr(server_backend, "_MOST_BYTES", 1)
    assert index.search_many(queries, k=2) == together
    assert stub.counts["query_batch"] == 1 + 3 + 8
    assert index.search_many([], k=2) == []
    assert stub.counts["query_batch"] == 1 + 3 + 8


def test_exact(stub: Stub, index: Index, encoder: Encoder) -> None:
    """An exact search compares all full vectors; other searches may use indexes."""
    vectors = encoder.encode_queries(["bread"])
    [[match]] = index.search_vectors(vectors, k=1, exact=True)
    assert stub.params[-1] == models.SearchParams(exact=True, quantization=models.QuantizationSearchParams(ignore=True))
    assert match.cosine == match.score > 0
    index.search_vectors(vectors, k=1)
    params = stub.params[-1]
    assert params is not None
    assert not params.exact


def test_other_errors_are_raised(stub: Stub, index: Index) -> None:
    """If the collection was not replaced, the query's own error is raised."""
    stub.plan = lambda name, number: Fault(400, "bad query") if name == "query_batch" else None
    with pytest.raises(StoreError, match="refused .400.: bad query"):
        index.search("bread")


# -- describe


def test_describe_a_server(stub: Stub, index: Index, encoder: Encoder) -> None:
    """For an unknown layout, the health says so, and no numbers are given."""
    facts = index.store.describe()
    assert (facts.space, facts.chunks, facts.indexed, facts.bytes) == (encoder.space, 15, False, None)
    stub.local.delete_collection("docs")
    dense = models.VectorParams(size=4, distance=models.Distance.COSINE)
    metadata = {"harrier_space": encoder.space.to_json(), "harrier_layout": 2}
    stub.local.create_collection("docs", {"text-dense": dense}, metadata=metadata)
    facts = index.store.describe()
    assert (facts.space, facts.chunks) == (None, None)
    assert "has layout 2, but this release reads layout 1; update harrier-kit" in facts.health
    with pytest.raises(StoreUnsuitable, match="update harrier-kit"):
        index.store.space()


def test_describe_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is given; a folder in use is unavailable, and a damaged one says so."""
    encoder = Hashing()
    store = QdrantStore.embedded(tmp_path, collection="docs")
    with Index(store, encoder) as index:
        index.ingest(RECORDS)
        facts = store.describe()
        assert (facts.space, facts.chunks, facts.health) == (encoder.space, 15, "fine")
        assert facts.bytes is not None
        assert facts.bytes > 1_000
    monkeypatch.setattr(edge_process, "_PATIENCE", 0.1)
    with (
        FileLock(tmp_path / ".harrier" / "docs" / "lock"),
        QdrantStore.embedded(tmp_path, collection="docs") as busy,
        pytest.raises(StoreUnavailable, match="is open in another process"),
    ):
        busy.describe()
    (tmp_path / "docs" / "edge" / "edge_config.json").write_text("half")
    with QdrantStore.embedded(tmp_path, collection="docs") as damaged:
        facts = damaged.describe()
        assert (facts.space, facts.chunks, bool(facts.bytes)) == (None, None, True)
        assert "is damaged: its edge/edge_config.json cannot be read" in facts.health


def test_describe_a_server_that_is_away(stub: Stub, encoder: Encoder) -> None:
    """An unreachable server is an error, whichever request notices it."""
    with closing(stub.client()) as client:
        store = QdrantStore(client, collection="docs", retry_for=0.1)
        store.open(encoder.space, create=True)
        for away in ("get", "count"):
            stub.plan = lambda name, number, away=away: Fault(503) if name == away else None  # type: ignore[misc]
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                store.describe()
