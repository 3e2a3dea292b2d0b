"""A server in strict mode, as on Qdrant Cloud: it refuses a filter on a field without an index."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harrier_qdrant import QdrantStore
from ingesting import Hashing
from qdrant_stub import Fault, Stub

from harrier_core import Index, Record, StoreError

RECORDS = [Record(f"r{number}", f"text number {number}", {"n": number, "lang": "en"}) for number in range(5)]
OWN = {"record_id", "hash", "fields", "number"}


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub(strict=True)
    yield stub
    stub.close()


def test_create_is_answered_twice(stub: Stub) -> None:
    """If the answer to the creation is lost, the collection gets its indexes nevertheless."""
    stub.plan = lambda name, number: Fault(500, carried_out=True) if (name, number) == ("create", 1) else None
    with Index(QdrantStore(stub.url, grpc_port=stub.grpc_port, indexes={"n": "integer"}), Hashing()) as index:
        assert index.ingest(RECORDS).written == 5
        assert stub.counts["create"] == 2
        assert len(index.search("text", k=9, where={"n": {"$lt": 3}})) == 3


def test_killed_while_it_creates(stub: Stub) -> None:
    """The next writer creates the indexes that a killed one did not, and those of fields as well."""
    settings = {"indexes": {"lang": "keyword"}}
    QdrantStore(stub.url, **settings).open(Hashing.space, create=True)
    made = stub.indexes("documents")
    assert made.keys() == {"record_id", "metadata.lang", "hash", "fields", "number"}
    for number in range(len(made)):
        for path in list(made)[number:]:
            del made[path]
        with Index(QdrantStore(stub.url, **settings), Hashing()) as index:
            index.ingest(RECORDS)
            assert len(index.search("text", k=9, where={"lang": "en"})) == 5
            index.clear()


def test_fields_of_metadata(stub: Stub) -> None:
    """The error for a field without an index says how to create one for an existing collection."""
    with Index(QdrantStore(stub.url), Hashing()) as index:
        index.ingest(RECORDS)
        with pytest.raises(
            StoreError, match=r'"metadata.lang".*pass indexes=\{.*\} to the store and call build_indexes'
        ):
            index.search("text", where={"lang": "en"})
    with Index(QdrantStore(stub.url, indexes={"lang": "keyword", "n": "integer"}), Hashing()) as index:
        index.build_indexes()
        for where in ({"lang": "en"}, {"lang": {"$like": "e%"}}, {"n": {"$exists": True}}, {"n": {"$ne": None}}):
            assert len(index.search("text", k=9, where=where)) == 5
        assert index.delete(where={"n": 2}) == 1


def test_keywords(stub: Stub) -> None:
    """Words can be added to a collection, and searched."""
    with Index(QdrantStore(stub.url), Hashing()) as index:
        index.ingest(RECORDS)
        index.add_keywords()
        [match] = index.search("3", k=1, mode="keyword")
        assert match.record_id == "r3"
        assert len(index.search("3", k=5, mode="hybrid")) == 5
        assert index.verify().sound
