"""Shutdown of a server: completed and aborted requests."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from harrier_server import serving as serving_process
from serving import Serving, Within

from harrier_core import Encoder, Index, Match, Record
from harrier_core.query import Search
from harrier_core.testing import MemoryStore

ServeWithin = Callable[..., Within]
TEXTS = [f"text {number} " + "word " * 300 for number in range(2_000)]
LONG = {"model": "tiny-document", "input": TEXTS}


def asked(server: Within) -> httpx.Response:
    """Request something that takes about a minute."""
    return httpx.post(f"{server.url}/v1/embeddings", json=LONG, timeout=60)


def test_long_requests_are_aborted(serve_within: ServeWithin, caplog: pytest.LogCaptureFixture) -> None:
    """Their clients are informed, and the log has one line for all."""
    server = serve_within(drain=0.3)
    with ThreadPoolExecutor(3) as pool, socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n[")
        under_way = [pool.submit(asked, server) for _ in range(2)]
        while server.state.turns.waiting != 2 * sum(map(len, TEXTS)) + 1:  # both have arrived, and a byte of the other
            time.sleep(0.01)
        server.end()
        answers = [each.result() for each in under_way]
        assert slow.recv(1_000).startswith(b"HTTP/1.1 503 ")
    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["error"]["message"] == "the server shut down before it answered this request"
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
        (logging.WARNING, "requests that had no answer after 0.3 seconds were cut off: 3")
    ]


def test_short_requests_are_completed(serve_within: ServeWithin, caplog: pytest.LogCaptureFixture) -> None:
    """Requests whose body was still arriving are completed too."""
    server = serve_within(drain=20)
    body = json.dumps({"model": "tiny-query", "input": "a text"}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(body) + body[:10])
        while server.state.turns.waiting != 10:
            time.sleep(0.01)
        server.tell_to_end()
        while not server.state.under_way.ending:
            time.sleep(0.01)
        connection.sendall(body[10:])
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 ")
    server.end()
    assert not caplog.records


def test_an_ingest_that_takes_too_long(
    serve_within: ServeWithin, encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    """It stops reading, stores what it has read, and says so in its last line."""
    index = Index(MemoryStore(), encoder)
    server, over = serve_within(drain=0.3, indexes={"notes": index}), threading.Event()

    def lines() -> Iterator[bytes]:
        for number in range(2_000):
            yield json.dumps({"id": f"r{number}", "text": f"text {number}"}).encode() + b"\n"
        while not over.wait(0.01):
            yield b"\n"

    with ThreadPoolExecutor(1) as pool:
        url = f"{server.url}/v1/ingest"
        ingesting = pool.submit(httpx.post, url, params={"index": "notes"}, content=lines(), timeout=60)
        while not index.store.space() or not index.count():
            time.sleep(0.01)
        server.end()
        over.set()
        answer = ingesting.result()
    last = json.loads(answer.text.splitlines()[-1])
    assert (answer.status_code, last["status"]) == (200, "incomplete")
    assert last["error"]["message"] == "the server shut down before it answered this request"
    assert 0 < last["records"] == last["written"] == index.count()
    assert [each.getMessage() for each in caplog.records] == [
        "requests that had no answer after 0.3 seconds were cut off: 1"
    ]


# `harrier serve` with short time limits, and threads that wait: one until its store is closed, others forever.
PROGRAM = """
import os, sys, threading
import harrier_cli.serving
from harrier_cli.app import main
from harrier_core import Encoder, Index, Record, StoreUnavailable
from harrier_core.testing import MemoryStore
from harrier_server import Limits, serving

*defaults, _ = Limits.__init__.__defaults__
Limits.__init__.__defaults__ = (*defaults, 0.3)
serving.TAKING = 0.3
kind = sys.argv.pop()
closed, never = threading.Event(), threading.Event()
events = [closed, never]

def wait(*_, until=never):
    os.write(2, b"waiting\\n")
    until.wait()

def opened(place, encoder):
    index = Index(Waiting(), encoder)
    if kind == "load":
        Encoder.encode_documents = wait
    else:
        index.ingest([Record("a", "a text")])
    return index

class Waiting(MemoryStore):
    def search(self, search):
        wait(until=events.pop())
        raise StoreUnavailable("closed")

    def close(self):
        closed.set()
        print("the store is closed", file=sys.stderr)

harrier_cli.serving.Index = opened
main()
"""


@pytest.mark.parametrize("kind", ["load", "store"])
def test_threads_that_wait(folder: Path, kind: str) -> None:
    """The process ends without them, once its stores are closed."""
    serving = Serving("--index", "notes=here", kind, model=folder, program=("-c", PROGRAM))
    assert serving.process.stderr is not None
    try:
        with ThreadPoolExecutor(2) as pool:
            asked: list[Future[httpx.Response]] = []
            if kind == "store":
                serving.wait()
                url, body = f"{serving.url}/v1/search", {"query": "a text"}
                asked = [pool.submit(httpx.post, url, json=body, timeout=60) for _ in range(2)]
            for _ in range(len(asked) or 1):
                assert serving.process.stderr.readline() == "waiting\n"
            code, said = serving.end()
            assert [each.result().status_code for each in asked] == [503] * len(asked)
    finally:
        serving.kill()
    assert code == 0
    assert "the store is closed\n" in said
    assert re.search(r"(?m)^left without waiting for: harrier-(work|index)_\d+$", said)
    assert "Traceback" not in said


def test_a_thread_that_waits_within_a_program(
    serve_within: ServeWithin, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`serve` returns; the thread ends whenever it does."""
    monkeypatch.setattr(serving_process, "TAKING", 0.3)
    begun, may_end = threading.Event(), threading.Event()

    class Waiting(MemoryStore):
        def search(self, search: Search) -> list[list[Match]]:
            begun.set()
            may_end.wait()
            return super().search(search)

    index = Index(Waiting(), encoder)
    index.ingest([Record("a", "a text")])
    server = serve_within(drain=0.3, indexes={"notes": index})
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.post, f"{server.url}/v1/search", json={"query": "a text"}, timeout=60)
        begun.wait()
        server.end()
        assert asked.result().status_code == 503
    may_end.set()
