"""Words of chunks: added, renewed, missing or wrong; how they are counted and searched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from harrier_qdrant import QdrantStore
from harrier_qdrant.edge_backend import EdgeBackend
from harrier_qdrant.server_backend import ServerBackend
from ingesting import Hashing
from packaging.version import Version
from qdrant_client import QdrantClient, models
from qdrant_stub import Fault, Stub

from harrier_core import Index, Record
from harrier_core.contents import Contents
from harrier_core.errors import StoreUnsuitable
from harrier_core.lexical import VERSION, document_terms
from harrier_core.store import Worded
from harrier_core.testing.wording import made

SPARSE = "text-sparse-new"
RECORDS = made(40, 5)

NewStore = Callable[..., QdrantStore]

pytestmark = pytest.mark.skipif(
    Version(version("qdrant-client")) < Version("1.20"), reason="this qdrant-client's local mode cannot add vectors"
)


@pytest.fixture(params=["REST", "gRPC", "memory", "Edge"])
def place(request: pytest.FixtureRequest, stub: Stub, tmp_path: Path) -> Iterator[NewStore]:
    """Return a function that creates stores of one collection."""
    if request.param == "Edge":
        stores: list[QdrantStore] = []

        def new_store(**settings: Any) -> QdrantStore:
            stores.append(QdrantStore.embedded(tmp_path / "qdrant", collection="docs", **settings))
            return stores[-1]

        yield new_store
        for store in stores:
            store.close()
        return
    grpc = request.param == "gRPC"
    with closing(QdrantClient(":memory:") if request.param == "memory" else stub.client(prefer_grpc=grpc)) as client:
        yield lambda **settings: QdrantStore(client, collection="docs", retry_for=2, **settings)


def found(index: Index, query: str, k: int = 10) -> list[tuple[str, float]]:
    """Return the matches of a keyword search."""
    return [(match.id, round(match.score, 3)) for match in index.search(query, k, mode="keyword")]


def wrong(index: Index) -> list[str]:
    """Return the records whose words do not match their texts."""
    opened = index.store.open(Hashing.space)
    assert isinstance(opened, Worded)
    return sorted(chunk.record_id for chunk in opened.wrong_keywords())


def test_a_collection_keeps_its_setting(place: NewStore) -> None:
    """An existing collection keeps its keyword setting, however a store of it is created."""
    index = Index(place(), Hashing())
    index.ingest(RECORDS[:3])
    assert place(keywords=True).describe().keywords is False
    with pytest.raises(StoreUnsuitable, match=r"add_keywords\(\)"):
        Index(place(keywords=True), Hashing()).search("bread", mode="keyword")
    index.add_keywords()
    assert place().describe().keywords is True
    assert found(Index(place(), Hashing()), RECORDS[0].text, 1)[0][0] == index.search(RECORDS[0].text, 1)[0].id


def test_equal_scores_at_the_cut(place: NewStore) -> None:
    """Among equal scores at the limit, the first ids are returned."""
    index = Index(place(keywords=True), Hashing())
    index.ingest(Record(f"r{number:02}", "bread and butter", {"n": number}) for number in reversed(range(60)))
    for _ in range(5):
        assert [match.record_id for match in index.search("bread", 3, mode="keyword")] == ["r00", "r01", "r02"]
    matches = index.search("bread", 3, where={"n": {"$gte": 50}}, mode="keyword")
    assert [match.record_id for match in matches] == ["r50", "r51", "r52"]


def test_points_of_other_programs(place: NewStore) -> None:
    """Foreign points are not found and only affect term rarity; without words, they do not even count."""
    store = place()
    index = Index(store, Hashing())
    index.ingest(RECORDS)
    plant(store._backend, 7, {"page_content": "zeppelin"}, None)
    index.add_keywords()
    assert found(index, "zeppelin") == []
    assert wrong(index) == []
    before = found(index, "bread", 30)
    plant(store._backend, 8, {"page_content": "zeppelin bread"}, "zeppelin bread")
    assert found(index, "zeppelin", 1) == []
    assert len(found(index, "bread", 30)) == len(before)
    assert index.verify(sample=0).checked == len(RECORDS)


def plant(backend: Any, id_: int, payload: dict[str, Any], text: str | None) -> None:
    """Write a point as another program does, optionally with words."""
    terms = document_terms(text or "")
    own = list(terms.ids), list(terms.weights)
    if isinstance(backend, EdgeBackend):
        import numpy as np

        words = None if text is None else [own]
        backend._ask("upsert", "text-dense", [id_], np.ones((1, 16), np.float32), [payload], SPARSE, words)
        return
    vector: Any = {"text-dense": [1.0] * 16}
    if text is not None:
        vector[SPARSE] = models.SparseVector(indices=own[0], values=own[1])
    point = models.PointStruct(id=id_, vector=vector, payload=payload)
    backend._connection.run(lambda client: client.upsert("docs", [point], wait=True))


def test_wrong_words(place: NewStore) -> None:
    """Words of another text, other weights and missing words are detected."""
    store = place(keywords=True)
    index = Index(store, Hashing())
    index.ingest(RECORDS)
    assert wrong(index) == []
    chunks = {each.chunk.record_id: each.chunk for each in index.read(["r00003", "r00004", "r00005"])}
    other = document_terms("another text")
    own = document_terms(chunks["r00004"].text)
    tamper(store._backend, chunks["r00003"].id, other.ids, other.weights)
    tamper(store._backend, chunks["r00004"].id, own.ids, (own.weights[0] + 0.01, *own.weights[1:]))
    tamper(store._backend, chunks["r00005"].id, (), ())
    assert wrong(index) == ["r00003", "r00004", "r00005"]
    assert not index.verify(sample=0).sound


def tamper(backend: Any, id_: str, ids: tuple[int, ...], weights: tuple[float, ...]) -> None:
    """Change a point's words without the store."""
    if isinstance(backend, EdgeBackend):
        backend._ask("write_words", SPARSE, [id_], [(list(ids), list(weights))])
        return
    sparse = models.SparseVector(indices=list(ids), values=list(weights))
    points = [models.PointVectors(id=id_, vector={SPARSE: sparse})]
    backend._connection.run(lambda client: client.update_vectors("docs", points, wait=True))


def test_words_of_another_version(place: NewStore) -> None:
    """Newer words are neither read nor written; older ones are renewed."""
    store = place(keywords=True)
    index = Index(store, Hashing())
    index.ingest(RECORDS)
    right = found(index, "bread")
    chunk = next(iter(index.read(["r00003"]))).chunk
    tamper(store._backend, chunk.id, (1,), (1.0,))
    store._backend.words.mark(VERSION + 1)
    index = Index(place(), Hashing())
    newer = f"words of version {VERSION + 1}, but this release reads {VERSION}; update harrier"
    for use in (lambda: index.search("bread", mode="keyword"), lambda: index.ingest(made(41, 5)), lambda: wrong(index)):
        with pytest.raises(StoreUnsuitable, match=newer):
            use()
    assert index.search("bread")
    store._backend.words.mark(VERSION - 1)
    index = Index(place(), Hashing())
    with pytest.raises(StoreUnsuitable, match=r"add_keywords\(\)"):
        index.search("bread", mode="keyword")
    with pytest.raises(StoreUnsuitable, match=f"version {VERSION - 1}, but this release reads {VERSION}; renew them"):
        wrong(index)
    index.add_keywords()
    assert (wrong(index), found(index, "bread")) == ([], right)


@pytest.mark.parametrize("step", ["remove", "mark", "create", "write"])
def test_interrupted_anywhere(place: NewStore, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Incomplete words are not searched, and the next call completes them."""
    monkeypatch.setattr("harrier_qdrant.server_backend._PAGE", 40)
    monkeypatch.setattr("harrier_qdrant.edge_backend._PAGE", 10)
    store = place(keywords=True)
    index = Index(store, Hashing())
    index.ingest(RECORDS)
    right = found(index, "bread")
    words = store._backend.words
    words.mark(VERSION - 1)
    original, number = getattr(words, step), 0

    def interrupted(*arguments: Any) -> None:
        nonlocal number
        original(*arguments)
        number += 1
        if number == (2 if step == "write" else 1):
            raise KeyboardInterrupt

    monkeypatch.setattr(words, step, interrupted)
    again = Index(store, Hashing())
    with pytest.raises(KeyboardInterrupt):
        again.add_keywords()
    monkeypatch.undo()
    again = Index(place(), Hashing())
    with pytest.raises(StoreUnsuitable, match="add_keywords"):
        again.search("bread", mode="keyword")
    told: list[int] = []
    again.add_keywords(told.append)
    assert told[0] == (20 if step == "write" else 0 if step != "remove" else told[0])
    assert (told[-1], wrong(again), found(again, "bread")) == (len(RECORDS), [], right)


def test_a_writer_that_opened_the_collection_before(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks written while words are added get words in the end, also changed ones."""
    with closing(stub.client()) as client:
        index, adding = (Index(QdrantStore(client, collection="docs"), Hashing()) for _ in range(2))
        index.ingest(RECORDS)
        upsert = ServerBackend.upsert

        def late(self: ServerBackend, *arguments: Any, words: bool) -> Any:
            """Act after the collection was checked and before the points arrive."""
            monkeypatch.setattr(ServerBackend, "upsert", upsert)
            adding.add_keywords()
            assert not words
            return upsert(self, *arguments, words=words)

        monkeypatch.setattr(ServerBackend, "upsert", late)
        index.ingest([Record("r00001", "a zeppelin", {}), Record("new", "another zeppelin", {})])
        assert wrong(index) == []
        assert sorted(id_ for id_, _ in found(index, "zeppelin")) == sorted(
            match.id for match in index.search("zeppelin", 50) if "zeppelin" in match.text
        )

        # And the other way round: a text that changes after it was read gets its own words, not those of the old one.
        chunks = [each.chunk for each in index.read(["r00002"])]
        index.ingest([Record("r00002", "a submarine", {})])
        store = QdrantStore(client, collection="docs")
        store._backend.words.remove()
        store._backend.words.create()
        store._backend.words.write([*chunks, *(each.chunk for each in index.read(["r00003"]))])
        assert "r00002" in wrong(index)
        [point] = stub.local.retrieve("docs", [chunks[0].id], with_vectors=True)
        assert SPARSE not in dict(point.vector)  # type: ignore[arg-type]


def test_a_concurrent_writer(place: NewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a writer that runs throughout, all chunks have words in the end."""
    monkeypatch.setattr("harrier_qdrant.server_backend._PAGE", 40)
    monkeypatch.setattr("harrier_qdrant.edge_backend._PAGE", 10)
    store = place()
    index, written = Index(store, Hashing()), 0
    index.ingest(RECORDS)
    begun, over = threading.Event(), threading.Event()

    def write() -> None:
        nonlocal written
        while not over.is_set() or not written:
            index.ingest([replace(RECORDS[at % 40], text=f"zeppelin {at}") for at in range(written, written + 7)])
            written += 7
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        begun.wait(30)
        try:
            Index(place(), Hashing()).add_keywords()
        finally:
            over.set()
        writing.result()
    assert wrong(index) == []
    assert len(found(index, "zeppelin", 40)) == min(written, 40)


def test_chunks_that_vanish_while_words_are_added(place: NewStore) -> None:
    """Deleted chunks are skipped, and the others get words."""
    store = place()
    if isinstance(store._backend, EdgeBackend):
        pytest.skip("nobody else can remove chunks of an embedded collection meanwhile")
    index = Index(store, Hashing())
    index.ingest(RECORDS)
    chunks = [each.chunk for each in index.read()]
    store._backend.words.create()
    index.delete(["r00007"])
    store._backend.words.write(chunks)
    store._backend.words.mark(VERSION)
    assert wrong(index) == []


def test_where_words_cannot_be_added(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server or client that is too old raises an error that says what to do, and changes nothing."""
    with closing(stub.client()) as client:
        index = Index(QdrantStore(client, collection="docs", retry_for=1), Hashing())
        index.ingest(RECORDS[:3])
        stub.plan = lambda name, number: Fault(404, "Not Found") if name == "create_vector" else None
        match = "this Qdrant server cannot add words: version 1.18 or later is needed; .* into a new collection"
        with pytest.raises(StoreUnsuitable, match=match):
            index.add_keywords()
        for kind in QdrantClient.__mro__:
            if "create_vector_name" in vars(kind):
                monkeypatch.delattr(kind, "create_vector_name")
        with pytest.raises(StoreUnsuitable, match="this qdrant-client cannot add words"):
            index.add_keywords()
        assert index.store.describe().keywords is False
        assert len(index.search("bread", 3)) == 3


def test_a_vector_without_the_idf_modifier(stub: Stub) -> None:
    """A vector of that name without the IDF modifier is not used for words."""
    with closing(stub.client()) as client:
        index = Index(QdrantStore(client, collection="docs"), Hashing())
        index.ingest(RECORDS[:3])
        stub.local.create_vector_name("docs", SPARSE, models.SparseVectorNameConfig(sparse=models.SparseVectorConfig()))
        with pytest.raises(StoreUnsuitable, match="not sparse with the IDF modifier; remove that vector"):
            index.add_keywords()


@pytest.mark.parametrize("prefer_grpc", [False, True])
def test_one_round_trip(prefer_grpc: bool) -> None:
    """Dense and keyword queries go in one request; term rarity counts live points only."""
    for release, exact in (("1.20.1", True), ("1.19.0-dev", True), ("1.18.9", False), ("", False)):
        stub = Stub(version=release)
        with closing(stub), closing(stub.client(prefer_grpc=prefer_grpc)) as client:
            index = Index(QdrantStore(client, collection="docs", keywords=True), Hashing())
            index.ingest(RECORDS)
            index.search("bread", mode="keyword")
            before = stub.counts.copy()
            stub.params.clear()
            index.search_many(["bread", "river"], mode="hybrid")
            assert stub.counts - before == {"query_batch": 1, "get": 1}
            asked = [each.idf if each is not None else None for each in stub.params]
            assert [isinstance(each, models.IdfCorpusParams) for each in asked] == [exact] * 2 + [False] * 2
            assert not any(any(each.corpus.model_dump().values()) for each in asked[: 2 * exact])  # type: ignore[union-attr]


def test_a_server_without_a_version(stub: Stub) -> None:
    """It is searched as an old one."""
    stub.plan = lambda name, number: Fault(403, "Forbidden") if name == "version" else None
    with closing(stub.client()) as client:
        index = Index(QdrantStore(client, collection="docs", keywords=True), Hashing())
        index.ingest(RECORDS)
        assert len(found(index, "bread", 2)) == len(found(index, "bread", 2)) == 2
        assert stub.counts["version"] == 1


def test_local_mode_that_counts_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local mode's wrong counts are not used for ranking."""
    with closing(QdrantClient(":memory:")) as client:
        index = Index(QdrantStore(client, collection="docs", keywords=True), Hashing())
        index.ingest(RECORDS)
        monkeypatch.delattr(models, "IdfCorpusParams")
        with pytest.raises(StoreUnsuitable, match="update qdrant-client to 1.19 or later to search it by word"):
            index.search("bread", mode="keyword")


KILLED = """
import os, signal, sys
from harrier_qdrant import QdrantStore, edge_backend
from harrier_core.contents import Contents

edge_backend._PAGE = 50
at = int(sys.argv[2])
process = QdrantStore.embedded(sys.argv[1], collection="docs")
told = 0

def die(chunks):
    global told
    told += 1
    if told == at:
        engine = process._backend._process._process.pid
        if sys.argv[3] == "engine":
            os.kill(engine, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

Contents(process).add_keywords(die)
"""


@pytest.mark.parametrize(("at", "who"), [(1, "engine"), (4, "engine"), (4, "parent"), (7, "engine"), (8, "engine")])
def test_killed_while_words_are_added(tmp_path: Path, at: int, who: str) -> None:
    """After a kill of the process or its engine, the next call completes the words."""
    records = made(300, 6)
    with Index(QdrantStore.embedded(tmp_path / "docs", collection="docs"), Hashing()) as index:
        index.ingest(records)
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "docs"), str(at), who], check=False)
    assert process.returncode == -signal.SIGKILL
    new = QdrantStore.embedded(tmp_path / "new", collection="docs", keywords=True)
    with (
        Index(QdrantStore.embedded(tmp_path / "docs", collection="docs"), Hashing()) as index,
        Index(new, Hashing()) as other,
    ):
        other.ingest(records)
        told: list[int] = []
        with Contents(index.store) as contents:
            contents.add_keywords(told.append)
            assert index.store.describe().keywords is True
            assert not told or told[-1] == len(records)
            assert (at < 8) == bool(told)
            assert wrong(index) == []
            for query in ("bread", "AB-1234 мост", "東京"):
                assert found(index, query) == found(other, query)


def test_the_version_of_words_in_a_folder(tmp_path: Path) -> None:
    """It is kept in a separate file, and the file of the space stays unchanged."""
    with Index(QdrantStore.embedded(tmp_path, collection="docs"), Hashing()) as index:
        index.ingest(RECORDS[:3])
        space = tmp_path / "docs" / "harrier_space.json"
        before = space.stat()
        index.add_keywords()
        assert os.path.samestat(before, space.stat())
        assert before.st_mtime_ns == space.stat().st_mtime_ns
        own = tmp_path / "docs" / "harrier_words.json"
        assert json.loads(own.read_text()) == {"harrier_words": VERSION}
        assert own.stat().st_mode & 0o077 == 0
        own.write_text("{")
        assert index.store.describe().health.endswith("its harrier_words.json cannot be read")
