"""Connections: offers of another protocol, limits of headers, and more clients than there is room for."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing

import httpx
import pytest
from harrier_server import serving as server_process
from serving import Within

from harrier_core import Encoder

ServeWithin = Callable[..., Within]

BODY = json.dumps({"model": "tiny-query", "input": "a text"}).encode()
H2C = (  # what the JDK's HttpClient adds to its first request
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAA\r\n"
)
COUNTED = b"Content-Length: %d\r\n\r\n" % len(BODY), BODY
CHUNKED = (
    b"Transfer-Encoding: chunked\r\n\r\n",
    b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:]),
)


@pytest.fixture(scope="module")
def server(encoder: Encoder) -> Iterator[Within]:
    server = Within(encoder)
    yield server
    server.end()


def connected(server: Within) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.settimeout(30)
    return connection


def head(more: bytes, path: bytes = b"/v1/embeddings") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: localhost\r\n%b" % (path, more)


def answered(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """Return the status and the body of an answer."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(2**16) or pytest.fail("the connection was closed")
    first, _, body = answer.partition(b"\r\n\r\n")
    size = int(first.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < size:
        body += connection.recv(2**16)
    return int(first.split()[1]), json.loads(body)


def told(connection: socket.socket) -> bytes:
    """Return everything received until the server closes the connection."""
    parts = []
    while part := connection.recv(2**16):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("framed", [COUNTED, CHUNKED], ids=["counted", "chunked"])
@pytest.mark.parametrize("split", [False, True], ids=["one segment", "two segments"])
def test_an_offer_of_http_2(server: Within, framed: tuple[bytes, bytes], split: bool) -> None:
    """It is declined: the request is answered with its body, and so are the next ones on the connection."""
    with connected(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for offer in (H2C, b"", H2C):
            first, body = head(offer) + framed[0], framed[1]
            if split:
                connection.sendall(first)
                time.sleep(0.1)
                connection.sendall(body)
            else:
                connection.sendall(first + body)
            status, answer = answered(connection)
            assert (status, answer.get("object")) == (200, "list")


def test_offers_in_pipelined_requests(server: Within) -> None:
    request = head(H2C) + b"".join(COUNTED)
    with connected(server) as connection:
        connection.sendall(request + request.replace(b"Host", b"Connection: close\r\nHost"))
        assert told(connection).count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize("request_", [b"CONNECT localhost:1 HTTP/1.1\r\n", b"CONNECT /v1/models HTTP/1.1\r\n"])
def test_a_tunnel(server: Within, request_: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(request_ + b"Host: localhost\r\n\r\nmore")
        assert told(connection).startswith(b"HTTP/1.1 400 ")
