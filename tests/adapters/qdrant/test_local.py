"""Clients in local mode, and other objects that newcomers pass to a store."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harrier_qdrant import QdrantStore
from langchain_core.documents import Document
from langchain_harrier import HarrierEmbeddings, HarrierVectorStore
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.common import client_warnings
from qdrant_stub import Stub

from harrier_core import (
    Encoder,
    Index,
    Record,
    SettingError,
    StoreMissing,
    StoreUnavailable,
    StoreUnsuitable,
    WrongSpace,
)
from harrier_core.records import chunk_id
from harrier_core.testing import build_model

RECORDS = [Record(f"r{number}", f"text number {number}", {"n": number}) for number in range(600)]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_model(tmp_path_factory.mktemp("words"), vectors="words"))


@pytest.fixture(scope="module")
def encoder(words: str) -> Iterator[Encoder]:
    with Encoder(words) as encoder:
        yield encoder


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    with closing(QdrantClient(":memory:")) as client:
        yield client


def test_search_before_the_first_ingest(client: QdrantClient, encoder: Encoder) -> None:
    """It raises the same error as on a server, and creates no collection."""
    index = Index(QdrantStore(client, collection="docs"), encoder)
    with pytest.raises(StoreMissing, match="there is no collection 'docs' at :memory:; ingest something into it first"):
        index.search("text")
    assert not client.collection_exists("docs")


def test_no_warnings(client: QdrantClient, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit uses no feature that local mode would ignore with a warning."""
    monkeypatch.setattr(client_warnings, "SEEN_MESSAGES", set())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = Index(QdrantStore(client, indexes={"n": "integer"}, quantization="int8"), encoder)
        index.ingest(RECORDS)
        assert len(index.search("text", k=7, where={"n": {"$lt": 5}})) == 5


def test_many_threads(client: QdrantClient, encoder: Encoder) -> None:
    """Several stores share a local client, which handles one request at a time."""
    index = Index(QdrantStore(client), encoder)
    index.ingest(RECORDS[:50])

    def ingest(worker: int) -> int:
        own = Index(QdrantStore(client), encoder)
        return own.ingest(Record(f"{worker} {number}", f"text number {number}") for number in range(500)).written

    def search(_: int) -> int:
        return len(index.search("text number", k=20))

    with ThreadPoolExecutor(6) as pool:
        written, found = pool.map(ingest, range(3)), pool.map(search, range(60))
        assert list(written) == [500] * 3
        assert set(found) == {20}
    assert index.count() == 1_550
    assert index.verify().sound


def test_spaces_and_errors(client: QdrantClient, encoder: Encoder, tmp_path: Path) -> None:
    """Spaces and errors are reported as with a server."""
    index = Index(QdrantStore(client, collection="docs"), encoder)
    index.ingest(RECORDS[:5])
    with (
        Encoder(build_model(tmp_path, vectors="words", seed=3)) as other,
        pytest.raises(WrongSpace, match="collection 'docs' at :memory: holds vectors of another space"),
    ):
        Index(QdrantStore(client, collection="docs"), other).search("text")
    client.delete_collection("docs")
    with pytest.raises(StoreMissing, match="there is no collection 'docs' at :memory:"):
        index.count()
    with pytest.raises(StoreMissing, match="there is no collection 'closed' at :memory:"):
        Index(QdrantStore(client, collection="closed"), encoder).search("text")
    dot = {"text-dense": models.VectorParams(size=4, distance=models.Distance.DOT)}
    metadata = {"harrier_space": encoder.space.to_json(), "harrier_layout": 1}
    client.create_collection("dot", dot, metadata=metadata)
    with pytest.raises(StoreUnsuitable, match="uses the distance Dot"):
        Index(QdrantStore(client, collection="dot"), encoder).ingest(RECORDS)
    client.close()
    with pytest.raises(StoreUnavailable, match="the QdrantClient of this store is closed; pass"):
        index.search("text")


def test_a_point_removed_during_an_update(client: QdrantClient, encoder: Encoder) -> None:
    """A record removed while its metadata changes is planned again, as with a server."""
    index = Index(QdrantStore(client, collection="docs"), encoder)
    index.ingest(RECORDS[:3])
    batch: Any = client.batch_update_points

    def removing(*args: Any, **options: Any) -> Any:
        client.batch_update_points = batch  # type: ignore[method-assign]
        client.delete("docs", models.PointIdsList(points=[chunk_id("r1", 0)]))
        return batch(*args, **options)

    client.batch_update_points = removing  # type: ignore[method-assign]
    report = index.ingest(Record(record.id, record.text, {"n": -1}) for record in RECORDS[:3])
    assert report.rejected == []
    assert [stored.chunk.metadata for stored in index.read()] == [{"n": -1}] * 3


def test_in_a_folder(encoder: Encoder, tmp_path: Path) -> None:
    """Data persists for the next client; a second client at the same time gets the client's own error."""
    for expected in ((40, 0), (0, 40)):
        with closing(QdrantClient(path=str(tmp_path))) as client:
            index = Index(QdrantStore(client, collection="docs"), encoder)
            report = index.ingest(RECORDS[:40])
            assert (report.written, report.unchanged) == expected
            assert str(tmp_path) in repr(index.store)


def test_memory_by_name(encoder: Encoder) -> None:
    """A store of ":memory:" has its own client, and loses everything when it is closed."""
    with Index(QdrantStore(":memory:"), encoder) as index:
        index.ingest(RECORDS[:5])
        assert index.count() == 5
        with Index(QdrantStore(":memory:"), encoder) as other, pytest.raises(StoreMissing):
            other.count()
    with pytest.raises(StoreUnavailable, match="this store is closed"):
        index.count()


def test_from_documents(client: QdrantClient, words: str) -> None:
    """The first lines of a LangChain tutorial work."""
    documents = [Document(page_content="Bread rises because of yeast."), Document(page_content="Rivers carry sand.")]
    store = HarrierVectorStore.from_documents(documents, HarrierEmbeddings(model=words), store=QdrantStore(client))
    [found] = store.similarity_search("why does bread rise", k=1)
    assert found.page_content == documents[0].page_content


def test_host_and_port(encoder: Encoder) -> None:
    """Without a scheme, http is used, and a key is then not sent."""
    stub = Stub(with_grpc=False)
    address = stub.url.removeprefix("http://")
    with Index(QdrantStore(address, collection="docs"), encoder) as index:
        assert index.ingest(RECORDS[:3]).written == 3
    assert repr(index.store) == f"QdrantStore('docs' at {stub.url})"
    with Index(QdrantStore(address, collection="docs", api_key="s3cr3t"), encoder) as index:  # loopback
        assert index.count() == 3
    assert repr(QdrantStore("[::1]:6333")) == "QdrantStore('documents' at http://[::1]:6333)"
    with pytest.raises(SettingError, match="with an API key, the server's address must begin with https:// or http://"):
        QdrantStore("db.example.com:6333", api_key="s3cr3t")
    stub.close()


WRONG: list[Any] = [
    "index",
    "./index",
    "/tmp/index",
    "C:\\index",
    "localhost",
    "localhost:port",
    "qdrant:index",
    "qdrant://localhost:6334/docs",
    "http://[::1",
    "http://host:port",
    "",
    Path("index"),
    None,
    7,
]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_invalid_servers(wrong: Any) -> None:
    """One sentence lists all valid forms."""
    with pytest.raises(SettingError) as caught:
        QdrantStore(wrong)
    said = str(caught.value)
    assert "a Qdrant server must be given as a URL, http://host:6333 or https://host:6333, or as a QdrantClient" in said
    assert "QdrantStore.embedded(folder)" in said
    assert isinstance(wrong, str) or type(wrong).__name__ in said


def test_an_async_client() -> None:
    """It is refused at once: an Index has async methods over a synchronous client."""
    client: Any = AsyncQdrantClient(":memory:")
    with pytest.raises(
        SettingError, match="must be a QdrantClient, got AsyncQdrantClient; for asyncio, use asearch and aingest"
    ):
        QdrantStore(client)


@pytest.mark.parametrize("settings", [{"prefer_grpc": True}, {}], ids=["gRPC", "REST"])
def test_a_client_that_its_owner_closed(encoder: Encoder, settings: dict[str, Any]) -> None:
    """The error says so, instead of an error of the client's libraries."""
    stub = Stub()
    client = stub.client(**settings)
    index = Index(QdrantStore(client, collection="docs"), encoder)
    index.ingest(RECORDS[:3])
    client.close()
    for use in (lambda: index.search("text"), lambda: index.ingest(RECORDS)):
        with pytest.raises(StoreUnavailable, match="the QdrantClient of this store is closed; pass"):
            use()
    stub.close()


LAST = """
import threading, time
from concurrent.futures import thread as pools
import numpy as np
from ingesting import DIMENSIONS, Hashing
from harrier_core.records import Chunk, Record
from harrier_core.store import Write
from harrier_qdrant import QdrantStore
store = QdrantStore(":memory:")
opened = store.open(Hashing().space, create=True)
def write():
    while not pools._shutdown:  # of all pools: the main thread has ended
        time.sleep(0.01)
    chunks = [Chunk.of(Record(f"r{number}", "x"), 0, 0, "x") for number in range(600)]
    known = {chunk.record_id: {} for chunk in chunks}
    vectors = np.ones((600, DIMENSIONS), np.float32)
    opened.write(Write(dict.fromkeys(known, 1), chunks, vectors, [], known))
    print(opened.count(), flush=True)
threading.Thread(target=write).start()
"""


def test_written_after_the_main_thread() -> None:
    """A thread that outlives the main thread can finish its write."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", LAST]
    done = subprocess.run(command, timeout=60, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == "600\n", done.stderr


FORKED = """
import os, sys
from harrier_qdrant.connection import lock_of
from qdrant_client import QdrantClient
client = QdrantClient(":memory:")
with lock_of(client):  # as another thread of this process may hold it
    child = os.fork()
    if child == 0:
        with lock_of(client):
            os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_fork_during_a_request() -> None:
    """The child does not wait for a thread that exists only in its parent."""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], timeout=60, check=False).returncode == 0
