"""A server that fails in every way over REST and gRPC, and one with unexpected contents."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import numpy as np
import pytest
from harrier_qdrant import QdrantStore
from harrier_qdrant.connection import Connection
from harrier_qdrant.wire import Trouble
from qdrant_client import models
from qdrant_stub import Fault, Stub
from slowly import quick

from harrier_core import (
    Encoder,
    Hnsw,
    Index,
    Record,
    Search,
    SettingError,
    StoreError,
    StoreUnavailable,
    StoreUnsuitable,
    StoreWarning,
    WrongSpace,
)
from harrier_core.records import Chunk
from harrier_core.store import Write
from harrier_core.testing import build_model

RECORDS = [Record(f"r{number}", f"text number {number}", {"n": number}) for number in range(600)]


@pytest.fixture(params=quick(["REST", "gRPC"], "REST"))
def way(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def timeout() -> float:
    """Return a request timeout in seconds that suits a busy machine."""
    return 20


@pytest.fixture
def index(stub: Stub, way: str, encoder: Encoder, timeout: float) -> Iterator[Index]:
    client = stub.client(prefer_grpc=way == "gRPC", timeout=timeout)
    with Index(QdrantStore(client, collection="docs", retry_for=30, timeout=timeout), encoder) as index:
        yield index
    client.close()


@pytest.fixture(autouse=True)
def whole_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ingest as with a fast model, which encodes a window in no time."""
    monkeypatch.setattr("harrier_core.pacing._FIRST", 10**9)


PASSING: dict[str, Fault] = {
    "500": Fault(500),
    "503": Fault(503),
    "busy": Fault(429),
    "busy for whole seconds": Fault(429, headers={"Retry-After": "1"}),
    "busy for half a second": Fault(429, headers={"Retry-After": "0.5"}),
    "busy until a date": Fault(429, headers={"Retry-After": formatdate(time.time() + 1, usegmt=True)}),
    "dropped": Fault(drop=True),
    "the answer lost": Fault(drop=True, carried_out=True),
    "carried out and failed": Fault(500, carried_out=True),
    "taken and not carried out": Fault(update_status="acknowledged"),
    "not carried out in time": Fault(update_status="wait_timeout"),
}


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [2])
def test_too_slow(stub: Stub, index: Index) -> None:
    """A slow request is repeated, and points that were written anyway are not duplicated."""
    stub.plan = lambda name, number: (
        Fault(500, delay=3, carried_out=True) if number == 1 and name in ("upsert", "query_batch") else None
    )
    assert index.ingest(RECORDS[:20]).written == 20
    assert index.search("text number 7", k=1)[0].record_id == "r7"
    assert min(stub.counts["upsert"], stub.counts["query_batch"]) >= 2
    assert index.count() == 20


@pytest.mark.parametrize("fault", PASSING)
def test_transient_failures_are_retried(stub: Stub, index: Index, fault: str) -> None:
    """Every kind of request is retried, and nothing is lost, duplicated or encoded twice."""
    status_only = PASSING[fault].update_status is not None
    stub.plan = lambda name, number: (
        PASSING[fault]
        if number == 1 and (name == "upsert" or (not status_only and name in ("scroll", "create")))
        else None
    )
    assert index.ingest(RECORDS).written == 600
    assert stub.counts["upsert"] == 4  # of three
    stub.counts.clear()
    stub.plan = lambda name, number: PASSING[fault] if number == 1 and name in ("delete", "query_batch") else None
    if status_only:
        stub.plan = lambda name, number: PASSING[fault] if number == 1 and name == "delete" else None
    report = index.ingest([replace(RECORDS[0], text="changed"), *RECORDS[1:599]], prune=True)
    assert (report.written, report.unchanged, report.deleted) == (1, 598, 1)
    assert index.search("changed", k=1)[0].record_id == "r0"
    assert index.count() == 599


def test_several_requests_are_in_flight(stub: Stub, index: Index) -> None:
    """The next request is sent before the previous one is answered."""
    index.ingest(RECORDS[:1])
    together = threading.Barrier(3)

    def plan(name: str, _: int) -> None:
        if name == "upsert":
            together.wait(30)

    stub.plan = plan
    assert index.ingest(RECORDS).written == 599


def test_it_gives_up_eventually(stub: Stub, way: str, encoder: Encoder) -> None:
    """The error has the last reason, and a run after the server returns completes the work."""
    stub.plan = lambda name, number: Fault(503, "overloaded") if name == "upsert" and number > 1 else None
    client = stub.client(prefer_grpc=way == "gRPC")
    with Index(QdrantStore(client, retry_for=0.5), encoder) as index:
        with pytest.raises(StoreUnavailable, match="cannot be reached, or is too busy: overloaded"):
            index.ingest(RECORDS)
        stub.plan = lambda name, number: None
        assert index.ingest(RECORDS).written + index.ingest(RECORDS).unchanged >= 600
        assert index.count() == 600
    client.close()


def test_a_poisoned_point(stub: Stub, index: Index) -> None:
    """It is found and reported, its neighbours are stored, and other errors are not retried."""
    real = stub.local.upsert

    def refusing(name: str, points: Any) -> Any:
        ids = points.ids if isinstance(points, models.Batch) else [point.id for point in points]
        poisoned = {Chunk.of(RECORDS[at], 0, 0, RECORDS[at].text).id for at in (7, 300)}
        if poisoned & set(ids):
            raise ValueError("Wrong input: a point is not as it should be")
        return real(name, points)

    stub.local.upsert = refusing  # type: ignore[method-assign, assignment]
    report = index.ingest(RECORDS)
    assert dict(report.rejected) == {
        f"r{at}": "is refused by Qdrant: Wrong input: a point is not as it should be" for at in (7, 300)
    }
    assert (report.written, index.count()) == (598, 598)
    stub.local.upsert = real  # type: ignore[method-assign]
    assert index.ingest(RECORDS).written == 2


def test_too_large_for_the_server(stub: Stub, index: Index) -> None:
    """A request is halved until the server accepts it."""
    real = stub.local.upsert
    sizes: list[int] = []

    def refusing(name: str, points: Any) -> Any:
        size = len(points.ids) if isinstance(points, models.Batch) else len(points)
        if size > 50:
            raise ValueError("Payload is larger than allowed (limit: 33554432 bytes)")
        sizes.append(size)
        return real(name, points)

    stub.local.upsert = refusing  # type: ignore[method-assign, assignment]
    assert index.ingest(RECORDS).written == 600
    assert sum(sizes) == 600


def test_nan_vectors(index: Index, encoder: Encoder) -> None:
    """NaN vectors are not sent, and the other records are."""
    index.ingest(RECORDS[:1])
    store = index.store.open(encoder.space)
    chunks = [Chunk.of(record, 0, 0, record.text) for record in RECORDS[1:4]]
    vectors = encoder.encode_documents([chunk.text for chunk in chunks])
    vectors[1, 3] = np.nan
    ids = [chunk.record_id for chunk in chunks]
    written = store.write(Write(dict.fromkeys(ids, 1), chunks, vectors, [], {id_: {} for id_ in ids}))
    assert written.rejected == {"r2": "got a vector that is not finite"}
    assert (list(written.changed), index.count()) == ([], 3)


def test_a_url(stub: Stub, encoder: Encoder) -> None:
    """gRPC is used if it is available, and REST otherwise."""
    with Index(QdrantStore(stub.url, collection="docs", grpc_port=stub.grpc_port), encoder) as index:
        assert index.ingest(RECORDS).written == 600
    assert any("user-agent" in each and "grpc" in each["user-agent"] for each in stub.headers)
    own: list[dict[str, Any]] = [{}, {"grpc_port": 1}]
    for settings in own:  # nothing listens on that port
        stub.headers.clear()
        with Index(QdrantStore(stub.url, collection="docs", **settings), encoder) as index:
            assert index.ingest(RECORDS).unchanged == 600
        assert all("grpc" not in each.get("user-agent", "") for each in stub.headers)


def test_two_servers_on_a_host(stub: Stub, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data for one server is not written to the other through the default gRPC port."""
    monkeypatch.setattr("qdrant_client.qdrant_remote.QdrantRemote.__init__", _on_port(stub.grpc_port))
    other = Stub(with_grpc=False)
    with Index(QdrantStore(other.url, collection="docs"), encoder) as index:
        assert index.ingest(RECORDS[:3]).written == 3
    assert other.local.count("docs").count == 3
    assert not stub.local.collection_exists("docs")
    other.close()


def _on_port(port: int) -> Callable[..., None]:
    from qdrant_client.qdrant_remote import QdrantRemote

    real = QdrantRemote.__init__

    def init(self: Any, *args: Any, **settings: Any) -> None:
        real(self, *args, **{**settings, "grpc_port": port})

    return init


def test_the_grpc_port() -> None:
    """It is the port of the same server, if known."""
    settings: dict[str, Any] = {"api_key": None, "retry_for": 1, "timeout": 1}
    ports = {"http://host:6333": 6334, "https://host": 6334, "host:6333": 6334, "http://host:7333": None}
    assert {url: Connection(url, **settings).grpc_port for url in ports} == ports
    assert Connection("http://host:7333", grpc_port=7334, **settings).grpc_port == 7334
    with pytest.raises(SettingError, match="grpc_port belongs to a URL"):
        QdrantStore(":memory:", grpc_port=6334)
    with pytest.raises(SettingError, match="grpc_port must be an integer from 1 to 65535, got 0"):
        QdrantStore("http://host", grpc_port=0)


def test_keys_stay_secret(stub: Stub, encoder: Encoder) -> None:
    """Keys appear in no repr or error, and are not sent unencrypted to another host without a warning."""
    secret = "s3cr3t-key"
    with pytest.warns(StoreWarning, match="the API key goes to http://db.example.com:6333 unencrypted") as caught:
        store = QdrantStore("http://user:pass@db.example.com:6333", api_key=secret)
    assert caught[0].filename == __file__
    assert "pass" not in repr(store)
    assert secret not in repr(store)
    with Index(QdrantStore(stub.url, collection="docs", api_key=secret), encoder) as index:  # loopback: no warning
        index.ingest(RECORDS[:1])
        assert any(each.get("api-key") == secret for each in stub.headers)
        stub.plan = lambda name, number: Fault(403, "forbidden: global access is required")
        with pytest.raises(StoreUnsuitable, match="refuses this API key: forbidden") as refused:
            index.search("text")
    assert secret not in str(refused.value)
    for wrong in (f"db.example.com:6333?key={secret}", "postgresql://host", f"http://user:{secret}/@host"):
        with pytest.raises(SettingError, match="a Qdrant server must be given as a URL") as setting:
            QdrantStore(wrong)
        assert secret not in str(setting.value)
    client = stub.client()
    with pytest.raises(SettingError, match="set the key on the client"):
        QdrantStore(client, api_key=secret)
    client.close()


def test_foreign_collections(stub: Stub, index: Index, encoder: Encoder, tmp_path: Any) -> None:
    """Another vector name, size, distance or space is refused, and the error says what to do."""
    dimensions, space = encoder.dimensions, {"harrier_space": encoder.space.to_json(), "harrier_layout": 1}
    cosine = models.VectorParams(size=dimensions, distance=models.Distance.COSINE)
    cases: list[tuple[Any, Any, str]] = [
        (cosine, space, "has no vector 'text-dense' .it has one without a name"),
        ({"other": cosine}, space, "has no vector 'text-dense' .it has 'other'.; pass vector="),
        (
            {"text-dense": models.VectorParams(size=4, distance=models.Distance.DOT)},
            space,
            "uses the distance Dot, not Cosine",
        ),
        ({"text-dense": cosine}, None, "does not identify its embedding space"),
        ({"text-dense": cosine}, {**space, "harrier_space": "{}"}, "is not an embedding space"),
        (
            {"text-dense": cosine},
            {**space, "harrier_layout": 2},
            "has layout 2, but this .* layout 1; update harrier-kit",
        ),
        ({"text-dense": cosine}, {**space, "harrier_layout": None}, "there is no 'harrier_layout' in its metadata"),
        (
            {"text-dense": models.VectorParams(size=4, distance=models.Distance.COSINE)},
            space,
            "has 4-dimensional vectors",
        ),
    ]
    for vectors, metadata, said in cases:
        stub.local.create_collection("docs", vectors, metadata=metadata)
        for use in (lambda: index.ingest(RECORDS), lambda: index.search("text")):
            with pytest.raises(StoreUnsuitable, match=said):
                use()
        assert stub.local.count("docs").count == 0
        stub.local.delete_collection("docs")
    index.ingest(RECORDS[:5])
    with Encoder(build_model(tmp_path, vectors="words", seed=3)) as other, stub_index(stub, other) as wrong:
        with pytest.raises(WrongSpace, match="the weights differ.*use another collection"):
            wrong.search("text")
        assert other.stats.texts == 0
    stub.local.delete_collection("docs")
    with pytest.raises(StoreUnsuitable, match="there is no collection 'docs' at the client's server"):
        index.search("text")


def stub_index(stub: Stub, encoder: Encoder) -> Index:
    return Index(QdrantStore(stub.client(), collection="docs"), encoder)


def test_an_old_server(encoder: Encoder) -> None:
    """A server without collection metadata is refused, and a new collection is removed again."""
    stub = Stub(with_grpc=False, metadata=False)
    with stub_index(stub, encoder) as index, pytest.raises(StoreUnsuitable, match="older than 1.16; update it"):
        index.ingest(RECORDS)
    assert stub.counts["delete_collection"] == 1
    stub.close()


def test_settings(stub: Stub, encoder: Encoder) -> None:
    """Settings reach the collection, and invalid ones are refused before anything is sent."""
    client = stub.client()
    sent: list[Any] = []
    made: Any = client.create_collection

    def create(name: str, **settings: Any) -> Any:
        sent.append(settings)
        return made(name, **settings)

    client.create_collection = create  # type: ignore[method-assign, assignment]
    settings: dict[str, Any] = {"precision": "float16", "quantization": "int8", "on_disk": True, "shards": 4}
    settings["hnsw"] = Hnsw(m=32, ef_construction=200)
    more: dict[str, Any] = {"replicas": 2, "write_consistency": 2, "vector": "dense", "indexes": {"year": "integer"}}
    with Index(QdrantStore(client, **settings, **more), encoder) as index:
        assert index.ingest(RECORDS[:3]).written == 3
        assert len(index.search("text", k=3, where={"n": {"$gte": 1}})) == 2
    [created] = sent
    params = created["vectors_config"]["dense"]
    assert (params.datatype, params.on_disk, params.distance) == ("float16", True, "Cosine")
    assert params.quantization_config.scalar.type == "int8"
    assert (params.hnsw_config.m, params.hnsw_config.ef_construct) == (32, 200)
    assert (created["shard_number"], created["replication_factor"], created["write_consistency_factor"]) == (4, 2, 2)
    assert stub.counts["index"] == 2  # and at the end of the ingest none is missing
    client.close()
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"precision": "float8"}, "precision must be 'float16' or 'float32'"),
        ({"quantization": "int4"}, "quantization must be None, 'int8' or 'binary'"),
        ({"indexes": {"year": "number"}}, "the index of field 'year' must be one of keyword, integer, float, bool"),
        (
            {"indexes": {'"': "keyword"}},
            "field '\"' cannot be indexed: a path in Qdrant cannot contain quotation marks",
        ),
        ({"hnsw": Hnsw(ef_construction=3)}, "ef_construction of this database's HNSW index must be at least 4, got 3"),
        ({"hnsw": {"m": 16}}, "hnsw must be Hnsw"),
        ({"collection": "a/b"}, "a collection's name must not contain slashes"),
        ({"collection": ""}, "a collection's name must not contain slashes"),
    ]
    for wrong, said in wrongs:
        with pytest.raises(SettingError, match=said):
            QdrantStore(stub.url, **wrong)
    with pytest.raises(TypeError, match="replcas"):
        QdrantStore(stub.url, replcas=2)  # type: ignore[call-arg]


def test_the_number_of_candidates(stub: Stub, index: Index, encoder: Encoder) -> None:
    """The given number is sent; an exact search sends none."""
    index.ingest(RECORDS[:3])
    opened, vectors = index.store.open(encoder.space), encoder.encode_queries(["text", "number"])
    for search, said in (
        (Search(vectors, 2), (None, False)),
        (Search(vectors, 2, ef=7), (7, False)),
        (Search(vectors, 2, ef=7, exact=True), (None, True)),
    ):
        stub.params.clear()
        opened.search(search)
        assert {(each.hnsw_ef, bool(each.exact)) for each in stub.params if each} == {said}
        assert len(stub.params) == 2
        assert all(each and each.quantization for each in stub.params)


def test_server_messages_are_shortened() -> None:
    """A server's message may quote its input, so it is shortened."""
    assert len(str(Trouble(400, "x" * 10_000).error("here"))) < 500
    assert isinstance(Trouble(400, "").error("here"), StoreError)


def test_a_closed_store(stub: Stub, encoder: Encoder) -> None:
    """A closed store raises an error, and stops waiting for its server."""
    client = stub.client()
    index = Index(QdrantStore(client, retry_for=60), encoder)
    index.ingest(RECORDS[:3])
    stub.plan = lambda name, number: Fault(503)
    threading.Timer(0.3, index.close).start()
    begin = time.monotonic()
    with pytest.raises(StoreUnavailable, match="was closed while it waited"):
        index.search("text")
    assert time.monotonic() - begin < 30
    with pytest.raises(StoreUnavailable, match="is closed; create a new one"):
        index.search("text")
    client.close()


def test_closed_while_it_writes(stub: Stub, index: Index, encoder: Encoder) -> None:
    """Closing during an upload does not deadlock."""
    index.ingest(RECORDS[:1])
    uploading = threading.Event()

    def plan(name: str, _: int) -> Fault | None:
        if name != "upsert":
            return None
        uploading.set()
        return Fault(503, delay=0.2)

    stub.plan = plan
    chunks = [Chunk.of(Record(f"m{number}", "x"), 0, 0, "x") for number in range(256 * 12)]
    vectors = np.ones((len(chunks), encoder.dimensions), np.float32)
    known: dict[str, dict[int, bytes]] = {chunk.record_id: {} for chunk in chunks}
    opened = index.store.open(encoder.space)
    with ThreadPoolExecutor() as pool:
        written = pool.submit(opened.write, Write(dict.fromkeys(known, 1), chunks, vectors, [], known))
        assert uploading.wait(30)
        closed = pool.submit(index.close)
        assert closed.result(30) is None
        with pytest.raises(StoreUnavailable, match="closed"):
            written.result(30)


def test_interrupted(stub: Stub, index: Index) -> None:
    """Ctrl-C during a search of an unreachable server also ends the parallel check."""
    index.ingest(RECORDS[:3])
    looked = threading.Event()

    def plan(name: str, _: int) -> Fault | None:
        if name != "get":
            looked.wait(30)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return Fault(503, headers={"Retry-After": "9"})
        looked.set()
        return Fault(503, headers={"Retry-After": "20"})

    stub.counts.clear()
    stub.plan = plan
    with pytest.raises(KeyboardInterrupt):
        index.search("text")
    index.store._backend._connection._looks.shutdown()  # type: ignore[attr-defined]  # as the process does at its end
    assert stub.counts["get"] == 1


@pytest.mark.parametrize("reason", ["failed", "interrupted"])
def test_a_failed_write_sends_nothing_more(stub: Stub, index: Index, encoder: Encoder, reason: str) -> None:
    """After a failed write, neither retries nor waiting parts are sent."""
    index.ingest(RECORDS[:1])
    retried = threading.Barrier(2)

    def plan(name: str, number: int) -> Fault | None:
        if name != "upsert":
            return None
        if number == 2:
            retried.wait(30)
            if reason == "failed":
                return Fault(403, "no more")
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        elif number == 3:
            retried.wait(30)
        return Fault(503, headers={"Retry-After": "20"})

    stub.counts.clear()
    stub.plan = plan
    chunks = [Chunk.of(Record(f"m{number}", "x"), 0, 0, "x") for number in range(256 * 12)]
    vectors = np.ones((len(chunks), encoder.dimensions), np.float32)
    known: dict[str, dict[int, bytes]] = {chunk.record_id: {} for chunk in chunks}
    opened = index.store.open(encoder.space)
    with pytest.raises(StoreUnsuitable if reason == "failed" else KeyboardInterrupt):
        opened.write(Write(dict.fromkeys(known, 1), chunks, vectors, [], known))
    sent = stub.counts["upsert"]
    assert sent < 12
    stub.plan = lambda name, number: None
    assert opened.count() == 1
    assert stub.counts["upsert"] == sent


def test_after_a_fork(index: Index) -> None:
    """Connections and threads belong to the parent, which continues to use them."""
    index.ingest(RECORDS[:600])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = b""
        try:
            index.ingest(Record(f"m{number}", "x") for number in range(600))
        except StoreUnavailable as error:
            said = str(error).encode()
            index.close()
        finally:
            os.write(writing, said)
            os._exit(0)
    os.waitpid(child, 0)
    assert b"was connected before this process was forked; open the store after the fork" in os.read(reading, 1_000)
    assert index.ingest(RECORDS).unchanged == 600


def test_described_and_removed_at_once(stub: Stub, index: Index) -> None:
    """A record removed during its metadata update is planned again."""
    index.ingest(RECORDS[:3])
    gone = Chunk.of(RECORDS[1], 0, 0, RECORDS[1].text).id

    def plan(name: str, number: int) -> Fault | None:
        if name != "batch" or number > 1:
            return None
        stub.local.delete("docs", [gone])
        return Fault(404, f"Not found: No point with id {gone} found")

    stub.plan = plan
    report = index.ingest(replace(record, metadata={"n": -1}) for record in RECORDS[:3])
    assert report.rejected == []
    assert [stored.chunk.metadata for stored in index.read()] == [{"n": -1}] * 3
