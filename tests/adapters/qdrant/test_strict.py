"""A server in strict mode, as on Qdrant Cloud: it refuses a filter on a field without an index."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harrier_qdrant import QdrantStore
from ingesting import Hashing
from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.vector_stores.harrier import HarrierVectorStore
from qdrant_stub import Fault, Stub

from harrier_core import Index, Record, StoreError
from harrier_core.indexes import IndexKind

RECORDS = [Record(f"r{number}", f"text number {number}", {"n": number, "lang": "en"}) for number in range(5)]


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


def test_no_index_is_made_in_vain(stub: Stub) -> None:
    """Without strict mode, only the index that makes ingests faster is made; the others are once it is switched on."""
    stub.strict = False
    for paths in ({"record_id"}, {"record_id", "hash", "fields", "number"}):
        with Index(QdrantStore(stub.url, grpc_port=stub.grpc_port), Hashing()) as index:
            index.ingest(RECORDS)
            assert stub.indexes("documents").keys() == paths
        stub.strict = True


def test_killed_while_it_creates(stub: Stub) -> None:
    """The next writer creates the indexes that a killed one did not, and those of fields as well."""
    indexes: dict[str, IndexKind] = {"lang": "keyword"}
    QdrantStore(stub.url, indexes=indexes).open(Hashing.space, create=True)
    made = stub.indexes("documents")
    assert made.keys() == {"record_id", "metadata.lang", "hash", "fields", "number"}
    for number in range(len(made)):
        for path in list(made)[number:]:
            del made[path]
        with Index(QdrantStore(stub.url, indexes=indexes), Hashing()) as index:
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


def test_llama_index(stub: Stub) -> None:
    """With indexes of the keys that its nodes have in addition, nodes can be filtered and deleted."""
    indexes: dict[str, IndexKind] = {"lang": "keyword", "_lists": "keyword", "ref_doc_id": "keyword", "n": "integer"}
    index = Index(QdrantStore(stub.url, indexes=indexes), Hashing())
    store = HarrierVectorStore(index)
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="document")}
    nodes: list[BaseNode] = [
        TextNode(id_=each.id, text=each.text, metadata=dict(each.metadata), relationships=source, embedding=vector)
        for each, vector in zip(
            RECORDS, Hashing().encode_documents([each.text for each in RECORDS]).tolist(), strict=True
        )
    ]
    store.add(nodes)
    [vector] = Hashing().encode_queries(["text"]).tolist()
    for own in (MetadataFilter(key="lang", value="en"), MetadataFilter(key="n", value=3, operator=FilterOperator.GT)):
        asked = VectorStoreQuery(query_embedding=vector, similarity_top_k=9, filters=MetadataFilters(filters=[own]))
        assert len(store.query(asked).ids or []) == (5 if own.key == "lang" else 1)
    store.delete("document")
    assert index.count() == 0
    index.close()


def test_keywords(stub: Stub) -> None:
    """Words can be added to a collection, and searched."""
    with Index(QdrantStore(stub.url), Hashing()) as index:
        index.ingest(RECORDS)
        index.add_keywords()
        [match] = index.search("3", k=1, mode="keyword")
        assert match.record_id == "r3"
        assert len(index.search("3", k=5, mode="hybrid")) == 5
        assert index.verify().sound
