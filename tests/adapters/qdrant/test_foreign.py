"""Points that no Index wrote: a store ignores them, and `verify` lists them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from harrier_qdrant import QdrantStore
from langchain_harrier import HarrierEmbeddings
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models
from qdrant_stub import Stub

from harrier_core import Encoder, Index, Record
from harrier_core.records import chunk_id
from harrier_core.testing import build_model

TEXTS = [f"bread number {number} rises because of yeast" for number in range(40)]
RECORDS = [Record(f"r{number}", text, {"n": number}) for number, text in enumerate(TEXTS)]
FOREIGN = "bread bread bread"  # nearer to the query than all records


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_model(tmp_path_factory.mktemp("words"), vectors="words"))


@pytest.fixture(scope="module")
def encoder(words: str) -> Iterator[Encoder]:
    with Encoder(words) as encoder:
        yield encoder


def by_langchain(client: QdrantClient, words: str, number: int, **settings: Any) -> list[str]:
    """Return the ids of points that langchain-qdrant writes."""
    store = QdrantVectorStore(client, "docs", HarrierEmbeddings(model=words), vector_name="text-dense", **settings)
    ids = store.add_texts([f"{FOREIGN} {number}" for number in range(number)], [{"n": -1}] * number)
    return [str(each) for each in ids]


EDGE = """
import json, sys
import qdrant_edge as edge
shard = edge.EdgeShard.load(sys.argv[1])
points = [edge.Point(id_, vector, payload) for id_, vector, payload in json.load(sys.stdin)]
shard.update(edge.UpdateOperation.upsert_points(points))
shard.close()
"""


def into_edge(folder: Path, points: list[tuple[Any, Any, Any]]) -> None:
    command = [sys.executable, "-c", EDGE, str(folder / "docs" / "edge")]
    subprocess.run(command, input=json.dumps(points), text=True, check=True)


@pytest.fixture(params=["REST", "gRPC", "memory", "Edge"])
def shared(
    request: pytest.FixtureRequest, encoder: Encoder, words: str, tmp_path: Path
) -> Iterator[tuple[Index, Callable[[int], list[str]]]]:
    """Return an index with records, and a program that writes points into its collection."""
    if request.param == "Edge":
        folder = tmp_path / "qdrant"
        with Index(QdrantStore.embedded(folder, collection="docs"), encoder) as index:
            index.ingest(RECORDS)

        def write(number: int) -> list[str]:
            with closing(QdrantClient(":memory:")) as client:
                dense = models.VectorParams(size=encoder.dimensions, distance=models.Distance.COSINE)
                client.create_collection("docs", {"text-dense": dense})
                ids = by_langchain(client, words, number)
                points, _ = client.scroll("docs", limit=number, with_vectors=True)
            into_edge(folder, [(each.id, each.vector, each.payload) for each in points])
            return ids

        store = QdrantStore.embedded(folder, collection="docs")
        with Index(store, encoder) as index:
            yield index, write
        return
    stub = Stub()
    client = QdrantClient(":memory:") if request.param == "memory" else stub.client(prefer_grpc=request.param == "gRPC")
    with Index(QdrantStore(client, collection="docs"), encoder) as index:
        index.ingest(RECORDS)
        yield index, lambda number: by_langchain(client, words, number)
    client.close()
    stub.close()


@pytest.mark.parametrize("number", [1, 25])
def test_points_of_langchain(shared: tuple[Index, Callable[[int], list[str]]], number: int) -> None:
    """They are neither found, counted nor pruned, and a search for k still finds k."""
    index, write = shared
    ids = write(number)
    found = [match.record_id for match in index.search("bread", k=20)]
    assert len(set(found)) == 20
    assert set(found) <= {record.id for record in RECORDS}
    assert len(index.search("bread", k=1_000)) == index.count() == 40
    assert len(index.search("bread", k=20, where={"$not": {"n": 3}})) == 20
    assert len(index.search("bread", k=20, where={"n": {"$ne": "a text"}})) == 20
    assert len(index.search_diverse("bread", k=10, among=15)) == 10
    assert {stored.chunk.record_id for stored in index.read()} == {record.id for record in RECORDS}
    assert len(list(index.read(where={"n": {"$lt": 7}}))) == 7
    assert index.ingest(RECORDS).unchanged == 40
    report = index.ingest(RECORDS[:30], prune=True)
    assert (report.unchanged, report.deleted, index.count()) == (30, 10, 30)
    verified = index.verify()
    assert verified.checked == 30
    assert {UUID(id_) for id_, _ in verified.problems} == {UUID(id_) for id_ in ids}
    assert all("was not written by an Index: it has no 'record_id'" in why for _, why in verified.problems)


def point(**payload: Any) -> dict[str, Any]:
    """Return a payload that differs from a chunk's only in these fields."""
    whole = {"page_content": "x", "metadata": {}, "record_id": "alien", "number": 0, "start": 0, "end": 1, "hash": "00"}
    return {key: value for key, value in {**whole, **payload}.items() if value is not ...}


ALMOST: list[tuple[dict[str, Any], str]] = [
    (point(number=...), "no 'number'"),
    (point(number="1"), "a 'number' that is str"),
    (point(hash="sha256:abc"), "a 'hash' that is not hexadecimal"),
    (point(hash=7), "a 'hash' that is int"),
    (point(), "an id that is not that of chunk 0 of its record"),
    (point(record_id=["alien"]), "a 'record_id' that is list"),
    ({}, "no 'record_id'"),
]


@pytest.mark.parametrize("kind", ["memory", "Edge"])
def test_points_that_look_like_chunks(encoder: Encoder, tmp_path: Path, kind: str) -> None:
    """Points with some of the fields, a numeric id, or no vector of that name are ignored."""
    with closing(QdrantClient(":memory:")) as client:

        def opened() -> QdrantStore:
            return (
                QdrantStore.embedded(tmp_path, collection="docs")
                if kind == "Edge"
                else QdrantStore(client, collection="docs")
            )

        with Index(opened(), encoder) as index:
            index.ingest(RECORDS)
        vector = {"text-dense": encoder.encode_queries(["bread"])[0].tolist()}
        ids: list[int | str] = [*range(1, len(ALMOST)), str(uuid4())]
        points = [(id_, vector, payload) for id_, (payload, _) in zip(ids, ALMOST, strict=True)]
        if kind == "Edge":
            into_edge(tmp_path, points)
        else:
            client.upsert("docs", [models.PointStruct(id=i, vector=v, payload=p) for i, v, p in points])
        with Index(opened(), encoder) as index:
            assert {match.record_id for match in index.search("bread", k=40)} == {record.id for record in RECORDS}
            assert len(list(index.read())) == 40
            assert index.ingest(RECORDS, prune=True).deleted == 0
            problems = dict(index.verify().problems)
        assert problems.keys() == {str(id_) for id_ in ids}
        for id_, (_, why) in zip(ids, ALMOST, strict=True):
            assert f"was not written by an Index: it has {why}" in problems[str(id_)]


def test_chunks_that_were_damaged(encoder: Encoder) -> None:
    """Their records are not found, `verify` gives the reason, and a change writes them again."""
    with closing(QdrantClient(":memory:")) as client, Index(QdrantStore(client, collection="docs"), encoder) as index:
        index.ingest(RECORDS[:5])
        ids = [chunk_id(f"r{number}", 0) for number in range(4)]
        client.delete_payload("docs", ["page_content"], [ids[0]])
        client.set_payload("docs", {"metadata": [1]}, [ids[1]])
        client.set_payload("docs", {"start": None}, [ids[2]])
        client.delete_vectors("docs", ["text-dense"], [ids[3]])
        assert [match.record_id for match in index.search("bread", k=5)] == ["r4"]
        assert [stored.chunk.record_id for stored in index.read()] == ["r4"]
        problems = [why.removeprefix("was not written by an Index: it has ") for _, why in index.verify().problems]
        assert sorted(why.partition(";")[0] for why in problems) == [
            "a 'metadata' that is list",
            "no 'page_content'",
            "no 'start'",
            "no vector 'text-dense'",
        ]
        changed = [Record(record.id, f"{record.text} indeed") for record in RECORDS[:5]]
        assert index.ingest(changed).written == 5
        assert index.verify().sound
        assert len(index.search("bread", k=5)) == 5


def test_a_copy_of_a_point(encoder: Encoder) -> None:
    """A copy under another id is not found, and does not prevent a change of the record."""
    with closing(QdrantClient(":memory:")) as client, Index(QdrantStore(client, collection="docs"), encoder) as index:
        index.ingest(RECORDS[:5])
        [[one], _] = client.scroll("docs", limit=1, with_vectors=True)
        assert one.payload
        copy: Any = one.vector
        client.upsert("docs", [models.PointStruct(id=7, vector=copy, payload=one.payload)])
        assert len(index.search("bread", k=9)) == index.count() - 1 == 5
        changed = index.ingest(Record(record.id, f"{record.text} indeed") for record in RECORDS[:5])
        assert (changed.written, changed.rejected) == (5, [])
        assert [id_ for id_, _ in index.verify().problems] == ["7"]
        assert index.delete([str(one.payload["record_id"])]) >= 1
        assert index.verify().sound


def test_pages_of_foreign_points(encoder: Encoder, tmp_path: Path) -> None:
    """A page of a scroll in Edge may end at a numeric id."""
    with Index(QdrantStore.embedded(tmp_path, collection="docs"), encoder) as index:
        index.ingest(RECORDS)
    vectors = np.eye(encoder.dimensions, dtype=np.float32).tolist()
    into_edge(tmp_path, [(1 + at, {"text-dense": vectors[at % 7]}, {"n": at}) for at in range(1_200)])
    with Index(QdrantStore.embedded(tmp_path, collection="docs"), encoder) as index:
        assert len(list(index.read())) == 40
        assert len(index.verify().problems) == 1_200
        assert len(index.search("bread", k=40)) == 40
