"""Clients that keep a server waiting are cut off after a limited time, and then hold nothing."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
from serving import Within

from harrier_core import Encoder, Index, Record
from harrier_core.testing import MemoryStore

ServeWithin = Callable[..., Within]
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
QUERY = {"model": "tiny-query", "input": "a text"}


@pytest.fixture
def server(serve_within: ServeWithin) -> Within:
    """Return a server that waits for half a second."""
    return serve_within(arrival=0.5)


def connected(server: Within) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.settimeout(30)
    return connection


def told(connection: socket.socket) -> bytes:
    """Return everything received until the server closes the connection."""
    parts = []
    while part := connection.recv(2**16):
        parts.append(part)
    return b"".join(parts)


def test_a_missing_body(server: Within) -> None:
    """Only received bytes count as waiting; after the timeout the server answers 408."""
    with connected(server) as connection:
        connection.sendall(HEAD % 10_000 + b"[" * 4_000)
        while server.state.turns.waiting != 4_000:
            time.sleep(0.01)
        assert httpx.post(f"{server.url}/v1/embeddings", json=QUERY).status_code == 200
        answer = told(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"the body did not arrive within 0.5 seconds; send fewer texts at once"' in answer
    assert server.state.turns.waiting == 0


def test_a_body_that_comes_byte_by_byte(server: Within) -> None:
    """The time limit applies to the whole body."""
    with connected(server) as connection:
        connection.sendall(HEAD % 10_000)
        connection.setblocking(False)
        answer = b""
        while not answer:
            time.sleep(0.05)
            connection.sendall(b"[")
            try:
                answer = connection.recv(2**16)
            except BlockingIOError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("begun", [b"", b"POST /v1/embeddings HTTP/1.1\r\nHost: loc"])
def test_a_request_that_does_not_begin(server: Within, begun: bytes) -> None:
    """The limit also applies to a second request on a connection."""
    with connected(server) as connection:
        connection.sendall(begun)
        assert told(connection) == b""
    with connected(server) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" + begun)
        assert told(connection).startswith(b"HTTP/1.1 200 ")


def test_an_answer_that_is_not_read(server: Within) -> None:
    """It is dropped with its connection."""
    body = json.dumps({"model": "tiny-document", "input": [f"text {number}" for number in range(2_000)]}).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(HEAD % len(body) + body)
        whole = len(httpx.post(f"{server.url}/v1/embeddings", content=body).content)
        time.sleep(1.5)
        taken = 0
        with suppress(ConnectionResetError):
            while part := connection.recv(2**20):
                taken += len(part)
    assert 0 < taken < whole


def test_a_body_that_is_too_long_is_read_on(serve_within: ServeWithin) -> None:
    """Up to twice the limit is read, so that the client gets the reason before a reset."""
    server = serve_within(body=5_000_000)
    for size in (5_000_001, 9_900_000):
        with connected(server) as connection:
            connection.sendall(HEAD % size)
            send(connection, size)
            assert told(connection).startswith(b"HTTP/1.1 413 ")
    with connected(server) as connection:
        connection.sendall(HEAD % 10**9)
        with pytest.raises(ConnectionError):
            send(connection, 10**9)


def send(connection: socket.socket, size: int) -> None:
    """Send a body of blanks, and read the answer afterwards."""
    for begin in range(0, size, 100_000):
        connection.sendall(b" " * min(100_000, size - begin))


def test_an_answer_that_is_not_taken(serve_within: ServeWithin) -> None:
    """It counts until it is sent: other large ones are refused meanwhile, and small ones are not."""
    server = serve_within(answers=2_000_000)
    large = json.dumps({"model": "tiny-document", "input": ["a"] * 2_000}).encode()
    url = f"{server.url}/v1/embeddings"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(HEAD % len(large) + large)
        while not server.state.answers.waiting:
            time.sleep(0.01)
        while server.state.turns.waiting:  # until the vectors are made
            time.sleep(0.01)
        refused = httpx.post(url, content=large)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "wait for their clients to take them" in refused.text
        assert httpx.post(url, json=QUERY).status_code == 200
        assert server.state.answers.waiting
    while server.state.answers.waiting:
        time.sleep(0.01)
    assert len(httpx.post(url, content=large).json()["data"]) == 2_000
    assert server.state.answers.waiting == 0


@pytest.mark.parametrize(
    ("unfinished", "later"),
    [(b"Content-Length: 5\r\n\r\n", b""), (b"\r\n", HEAD % 5), (b"\r\n", HEAD % 5 + b"[")],
    ids=["of its own request", "of a pipelined request", "begun"],
)
def test_an_answer_that_is_not_taken_after_an_unfinished_body(
    serve_within: ServeWithin, encoder: Encoder, unfinished: bytes, later: bytes
) -> None:
    """It is dropped with its connection as after a whole request, and counts no longer."""
    index = Index(MemoryStore(), encoder)
    index.ingest([Record("large", "a", {"text": "a" * 2**24})])
    server = serve_within(arrival=0.5, indexes={"docs": index})
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(b"GET /v1/records?index=docs&id=large HTTP/1.1\r\nHost: localhost\r\n" + unfinished)
        while not server.state.answers.waiting:
            time.sleep(0.01)
        connection.sendall(later)
        until = time.monotonic() + 20
        while server.state.answers.waiting:
            assert time.monotonic() < until
            time.sleep(0.01)
