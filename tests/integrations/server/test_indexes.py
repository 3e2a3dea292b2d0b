"""Search and ingest over HTTP."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from harrier_pgvector import PgVectorStore
from serving import Serving, Within

from harrier_core import Contents, Encoder, Index, Record
from harrier_core.testing import MemoryStore, build_model

Serve = Callable[..., Serving]
ServeWithin = Callable[..., Within]
RECORDS = [
    Record("bread", "Bread rises because of yeast.", {"topic": "food", "year": 2021}),
    Record("river", "Rivers carry sand to the sea.", {"topic": "earth", "year": 2023}),
    Record("virus", "Vaccines train the immune system.", {"topic": "health"}),
]


def filled(folder: Path, encoder: Encoder) -> str:
    """Return the place of an index with three records."""
    place = f"pgvector:{folder}/index?table=docs"
    with Index(place, encoder) as index:
        index.ingest(RECORDS)
    return place


@pytest.fixture
def place(tmp_path: Path, encoder: Encoder) -> str:
    return filled(tmp_path, encoder)


@pytest.fixture
def server(serve: Serve, place: str) -> Serving:
    return serve("--index", f"notes={place}", "--allow-ingest")


@pytest.fixture(scope="module")
def read_only(folder: Path, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Return a server for all tests that write nothing."""
    serving = Serving("--index", f"notes={filled(tmp_path_factory.mktemp('notes'), encoder)}", model=folder)
    serving.wait()
    yield serving
    serving.kill()


def test_the_only_index_need_not_be_named(serve_within: ServeWithin, encoder: Encoder) -> None:
    """With several indexes the error lists them; local details are not shown."""
    index = Index(MemoryStore(), encoder)
    index.ingest([Record("notes/a", "Bread rises.", {"harrier_root": "/home/me/notes", "harrier_source": "notes"})])
    one, two = serve_within(indexes={"one": index}), serve_within(indexes={"one": index, "two": index})
    answer = httpx.post(f"{one.url}/v1/search", json={"query": "bread"}).json()
    assert answer["index"] == "one"
    assert answer["data"][0]["matches"][0]["metadata"] == {"harrier_source": "notes"}
    record = httpx.get(f"{one.url}/v1/records", params={"index": "one", "id": "notes/a"}).json()
    assert record["metadata"] == {"harrier_source": "notes"}
    assert "harrier_root" not in httpx.get(f"{one.url}/v1/indexes/one").text
    refused = httpx.post(f"{two.url}/v1/search", json={"query": "bread"})
    assert refused.status_code == 400
    assert "this server has one, two" in refused.json()["error"]["message"]


def test_folders_of_the_server_are_not_shown(read_only: Serving, folder: Path) -> None:
    """The model has the last part of its folder's path."""
    for route in ("/v1/models", "/v1/server"):
        told = httpx.get(f"{read_only.url}{route}").text
        assert str(folder) not in told
        assert f'"model":"{folder.name}"' in told


def search(server: Serving, **body: Any) -> Any:
    return httpx.post(f"{server.url}/v1/search", json={"index": "notes", **body})


def ingest(server: Serving, content: Any, index: str = "notes") -> list[dict[str, Any]]:
    answer = httpx.post(f"{server.url}/v1/ingest", params={"index": index}, content=content)
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.text.splitlines()]


def test_search(server: Serving, place: str, encoder: Encoder) -> None:
    """Results equal an Index's in this process, for one question or several."""
    with Index(place, encoder) as index:
        expected = index.search("why does bread rise", k=2)
    [found] = search(server, query="why does bread rise", k=2).json()["data"]
    assert [each["id"] for each in found["matches"]] == [match.id for match in expected]
    first = found["matches"][0]
    assert (first["record_id"], first["text"], first["metadata"]) == ("bread", RECORDS[0].text, RECORDS[0].metadata)
    assert first["score"] == first["cosine"] == pytest.approx(expected[0].score, abs=1e-6)
    many = search(server, query=["sand", "yeast"], k=1, where={"year": {"$gte": 2021}}).json()["data"]
    assert [each["matches"][0]["record_id"] for each in many] == ["river", "bread"]
    assert search(server, query="sand", where={"topic": "none"}).json()["data"][0]["matches"] == []


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"query": "a", "index": "other"}, 404, "there is no index 'other'; this server has notes"),
        ({"query": "a", "k": 0}, 400, "k must be from 1 to 1,000, got 0"),
        ({"query": "a", "k": 10_000}, 400, "k must be from 1 to 1,000"),
        ({"query": ["a"] * 3, "k": 1_000, "offset": 9_000}, 400, "must be at most 20,000"),
        ({"query": "a", "where": {"year": {"$no": 1}}}, 400, "$no"),
        ({"query": "a", "task": "no"}, 400, "unknown task 'no'"),
        ({"query": " "}, 400, "text 0 is empty or blank"),
        ({"query": "a", "mode": "keyword"}, 400, "add_keywords"),
        ({"query": "a", "mode": "sparse"}, 400, "Invalid enum value 'sparse'"),
        ({"query": "a", "limit": 3}, 400, "unknown field `limit`"),
    ],
)
def test_search_refused(read_only: Serving, body: dict[str, Any], status: int, message: str) -> None:
    answer = search(read_only, **body)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


def test_ingest(server: Serving) -> None:
    """Reports arrive while lines are sent; a second run changes nothing, and bad lines are reported."""
    lines = [
        json.dumps({"id": f"r{number}", "text": f"text {number}", "metadata": {"n": number}}) for number in range(300)
    ]

    def sent() -> Iterator[bytes]:
        for line in lines:
            yield line.encode() + b"\n"

    *_, last = ingest(server, sent())
    assert (last["status"], last["records"], last["written"], last["rejected"]) == ("done", 300, 300, [])
    *_, again = ingest(server, "\n".join(lines))
    assert (again["status"], again["unchanged"], again["encoded"]) == ("done", 300, 0)
    [found] = search(server, query="text 7", k=1, where={"n": 7}).json()["data"]
    assert found["matches"][0]["record_id"] == "r7"
    bad = ["no JSON", '{"id": "a"}', '{"id": "b", "text": " "}', '{"id": "c", "text": "a", "more": 1}', "", lines[0]]
    *_, last = ingest(server, "\n".join(bad))
    rejected = dict(last["rejected"])
    assert rejected.keys() == {"line 1", "line 2", "b", "line 4"}
    assert "is not a JSON object" in rejected["line 1"]
    assert "no JSON" not in json.dumps(last)
    listed = httpx.get(f"{server.url}/v1/indexes").json()["data"]
    assert listed == [
        {"id": "notes", "object": "index", "status": "ready", "chunks": 303, "records": 303, "keywords": False}
    ]


@pytest.mark.slow
def test_an_interrupted_ingest(server: Serving) -> None:
    """Received records are stored, and the log has no error."""
    line = b'{"id": "a", "text": "text a"}\n'
    head = "POST /v1/ingest?index=notes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + line)
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 ")  # it reads from now on
        time.sleep(1)
    until = time.monotonic() + 30
    while not (found := search(server, query="text a", k=9).json()["data"][0]["matches"]) or len(found) < 4:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert "a" in [each["record_id"] for each in found]
    assert "Traceback" not in server.end()[1]


def test_ingest_refused(serve: Serve, place: str) -> None:
    """It needs --allow-ingest and an existing index."""
    server = serve("--index", f"notes={place}")
    answer = httpx.post(f"{server.url}/v1/ingest", params={"index": "notes"}, content=b"")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "ingest_not_allowed")
    server.end()
    server = serve("--allow-ingest")
    answer = httpx.post(f"{server.url}/v1/ingest", params={"index": "notes"}, content=b"")
    assert answer.status_code == 404


def test_an_index_of_another_model(serve_within: ServeWithin, encoder: Encoder, tmp_path: Path) -> None:
    """It is refused before the response begins, and nothing is written."""
    line = b'{"id": "new", "text": "a text"}\n'
    store = MemoryStore()
    with Encoder(build_model(tmp_path / "other", "qwen3", vectors="words", seed=7)) as other:
        Index(store, other).ingest(RECORDS)
        server = serve_within(indexes={"theirs": Index(store, encoder), "ours": Index(MemoryStore(), encoder)})
        space = {"Harrier-Space": other.space.digest}
    url = f"{server.url}/v1/ingest"
    for index, headers in (("theirs", {}), ("ours", space)):
        answer = httpx.post(url, params={"index": index}, content=line, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "wrong_space")
    assert Contents(store).count() == len(RECORDS)
    assert server.state.indexes["ours"].store.space() is None
    body = {"index": "theirs", "query": "a text"}
    assert httpx.post(f"{server.url}/v1/search", json=body).status_code == 409


def test_an_unreachable_index(serve_within: ServeWithin, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is listed as such, delays no other, and is checked once for all callers."""
    monkeypatch.setattr("harrier_server.indexes._PATIENCE", 2.0)
    with ThreadPoolExecutor(20) as pool, socket.create_server(("127.0.0.1", 0)) as silent:
        silent_too = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/none"
        stores = PgVectorStore(silent_too), PgVectorStore("postgresql://127.0.0.1:9/none", retry_for=0), MemoryStore()
        waiting, failing, ready = (Index(store, encoder) for store in stores)
        ready.ingest(RECORDS)
        server = serve_within(indexes={"waiting": waiting, "failing": failing, "ready": ready})
        served = server.state.indexes["waiting"]
        describe = Mock(wraps=served.describe)
        monkeypatch.setattr(served, "describe", describe)
        asked = [pool.submit(httpx.get, f"{server.url}/v1/indexes") for _ in range(20)]
        for listing in asked:
            listed = {each["id"]: each["status"] for each in listing.result().json()["data"]}
            assert listed == {"waiting": "unavailable", "failing": "unavailable", "ready": "ready"}
        assert describe.call_count == 1
    assert httpx.post(f"{server.url}/v1/search", json={"index": "failing", "query": "a"}).status_code == 503
