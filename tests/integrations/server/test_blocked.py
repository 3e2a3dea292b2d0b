"""A server with an index whose store answers nothing, next to one that is well."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from serving import ACCEPT, CALL, Within

from harrier_core import Encoder, Index, Record
from harrier_core.testing import MemoryStore

ServeWithin = Callable[..., Within]

RECORDS = [Record(f"r{number}", f"Bread rises because of yeast {number}.") for number in range(60)]
_MANY = 40  # more than asyncio has threads on any machine


class Blocked(MemoryStore):
    """A store whose searches, writes and descriptions wait while it is held, and opening it, too, if it is shut."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.go.set()
        self.searched = self.written = 0
        self.shut = False

    def open(self, *args: Any, **kwargs: Any) -> Any:
        assert not self.shut or self.go.wait(120)
        return super().open(*args, **kwargs)

    def write(self, *args: Any, **kwargs: Any) -> Any:
        self.written += 1
        assert self.go.wait(120)
        return super().write(*args, **kwargs)

    def search(self, *args: Any, **kwargs: Any) -> Any:
        self.searched += 1
        assert self.go.wait(120)
        return super().search(*args, **kwargs)

    def describe(self) -> Any:
        assert self.go.wait(120)
        return super().describe()


@pytest.fixture
def store() -> Iterator[Blocked]:
    store = Blocked()
    yield store
    store.go.set()


@pytest.fixture
def served(serve_within: ServeWithin, encoder: Encoder, store: Blocked, monkeypatch: pytest.MonkeyPatch) -> Within:
    monkeypatch.setattr("harrier_server.indexes._PATIENCE", 0.5)
    monkeypatch.setattr("harrier_server.threads.WAITING", 2 * _MANY)
    indexes = {"well": Index(MemoryStore(), encoder), "sick": Index(store, encoder)}
    for each in indexes.values():
        each.ingest(RECORDS)
    return serve_within(indexes=indexes)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4 * _MANY) as pool:
        yield pool


def search(server: Within, index: str) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/search", json={"index": index, "query": "yeast"}, timeout=120)


def recall(server: Within, index: str, timeout: float = 120) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/recall", json={"index": index, "sample": 50}, timeout=timeout)


def test_a_blocked_store_stalls_no_other_index(served: Within, store: Blocked, pool: ThreadPoolExecutor) -> None:
    store.go.clear()
    held = [pool.submit(search, served, "sick") for _ in range(_MANY)]
    while store.searched < 4:
        time.sleep(0.01)
    assert search(served, "well").status_code == 200
    assert httpx.post(f"{served.url}/well/mcp", json=CALL, headers=ACCEPT).json()["result"]["structuredContent"]
    assert httpx.get(f"{served.url}/v1/near?index=well&id=r1").status_code == 200
    assert recall(served, "well").json()["recall"] == 1
    listed = {each["id"]: each["status"] for each in httpx.get(f"{served.url}/v1/indexes").json()["data"]}
    assert listed == {"well": "ready", "sick": "unavailable"}
    line = '{"id": "new", "text": "Rivers carry sand."}'
    assert '"status":"done"' in httpx.post(f"{served.url}/v1/ingest?index=well", content=line).text
    store.go.set()
    assert {each.result().status_code for each in held} == {200}


def test_too_many_searches_of_a_blocked_store(served: Within, store: Blocked, pool: ThreadPoolExecutor) -> None:
    """Those that would have to wait too long are refused, and may be tried again."""
    store.go.clear()
    asked = [pool.submit(search, served, "sick") for _ in range(4 * _MANY)]
    refused = next(each.result() for each in _ended(asked))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    store.go.set()
    statuses = [each.result().status_code for each in asked]
    assert statuses.count(200) >= 2 * _MANY
    assert search(served, "sick").status_code == 200


def _ended(asked: list[Future[httpx.Response]]) -> Iterator[Future[httpx.Response]]:
    while True:
        yield from (each for each in asked if each.done())
        time.sleep(0.01)


def test_comparisons_do_not_hold_up_searches(served: Within, store: Blocked, pool: ThreadPoolExecutor) -> None:
    """Few of them run at once, and one whose caller has left ends soon."""
    store.go.clear()
    before = store.searched
    left = [pool.submit(recall, served, "sick", 1.0) for _ in range(_MANY)]
    for each in left:
        with pytest.raises(httpx.ReadTimeout):
            each.result()
    assert store.searched - before <= 2
    store.go.set()
    assert search(served, "sick").status_code == 200
    time.sleep(0.5)
    assert store.searched - before <= 2 * 2 + 1  # each ends before its next search
    assert recall(served, "sick").json()["recall"] == 1


def begin_ingest(server: Within, body: bytes = b"") -> socket.socket:
    """Send an ingest whose body is incomplete."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    head = b"POST /v1/ingest?index=sick HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    connection.sendall(head % (len(body) + 9) + body)
    return connection


def test_ingests_into_a_blocked_store(serve_within: ServeWithin, encoder: Encoder, store: Blocked) -> None:
    """They hold nothing that others need, whether their clients leave or not."""
    server = serve_within(indexes={"sick": Index(store, encoder)}, arrival=1)
    store.shut = True
    store.go.clear()
    for _ in range(32):
        begin_ingest(server).close()
    query = {"model": "tiny-query", "input": "yeast"}
    assert httpx.post(f"{server.url}/v1/embeddings", json=query).status_code == 200
    assert server.state.turns.waiting == 0
    refused = httpx.post(f"{server.url}/v1/ingest?index=sick", content=b"", timeout=120)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")


@pytest.mark.parametrize("pause", [0, 1])
def test_an_ingest_that_is_left_to_a_blocked_store(
    serve_within: ServeWithin, encoder: Encoder, store: Blocked, caplog: pytest.LogCaptureFixture, pause: float
) -> None:
    """It is given up after a while, and what it held is free again, also if its client stalled before it left."""
    server = serve_within(indexes={"sick": Index(store, encoder)}, arrival=0.5)
    lines = b"".join(b'{"id": "r%d", "text": "Rivers carry sand."}\n' % number for number in range(3_000))
    with begin_ingest(server, lines):
        while not server.state.turns.waiting:
            time.sleep(0.01)
        store.go.clear()
        while not store.written:
            time.sleep(0.01)
        time.sleep(pause)
    until = time.monotonic() + 30
    while server.state.turns.waiting:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert not caplog.records
    store.go.set()
    assert httpx.post(f"{server.url}/v1/ingest?index=sick", content=lines, timeout=120).text.count('"done"') == 1


def test_a_client_that_leaves_with_a_pipelined_request(served: Within, store: Blocked) -> None:
    """The request that runs ends, and counts no longer."""
    body = b'{"index": "sick", "query": "yeast"}'
    head = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    store.go.clear()
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(head % len(body) + body + b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not store.searched:
            time.sleep(0.01)
        assert served.state.turns.waiting == 5
    until = time.monotonic() + 30
    while served.state.turns.waiting:
        assert time.monotonic() < until
        time.sleep(0.01)
    store.go.set()
    assert search(served, "sick").status_code == 200
