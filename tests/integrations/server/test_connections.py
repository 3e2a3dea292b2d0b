"""Connections: offers of another protocol, limits of headers, and more clients than there is room for."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
import uvicorn
from harrier_server import serving as server_process
from harrier_server.connections import Connection, connections
from serving import Within
from starlette.responses import Response

from harrier_core import Encoder

ServeWithin = Callable[..., Within]

BODY = json.dumps({"model": "tiny-query", "input": "a text"}).encode()
H2C = (  # what the JDK's HttpClient adds to its first request
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAA\r\n"
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


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000,
        b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 15_000,
        b"GET /health/live?" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n",
        head(H2C) + COUNTED[0][:-2] + b"X: " + b"a" * 70_000,
    ],
    ids=["one", "many", "line", "offer"],
)
def test_headers_that_are_too_long(server: Within, request_: bytes) -> None:
    """They are refused whether they end or not."""
    for ended in (b"", b"\r\n\r\n"):
        with connected(server) as connection:
            connection.sendall(request_ + ended)
            answer = told(connection)
        assert answer.startswith(b"HTTP/1.1 431 ")
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert (error["code"], error["type"]) == ("headers_too_large", "invalid_request_error")


@pytest.mark.parametrize("begun", [b"5;", b"0\r\nX: "], ids=["extension", "trailer"])
def test_chunks_with_much_beside_the_body(server: Within, begun: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(head(CHUNKED[0]) + begun)
        with suppress(ConnectionError):
            while connection.send(b"a" * 10_000):
                pass
    assert httpx.get(f"{server.url}/health/live").status_code == 200


def test_long_headers(server: Within) -> None:
    with connected(server) as connection:
        for _ in range(3):
            connection.sendall(head(b"X: %b\r\n" % (b"a" * 60_000)) + b"".join(COUNTED))
            assert answered(connection)[0] == 200


def test_a_client_that_sends_no_headers(serve_within: ServeWithin, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has less time than for a body."""
    monkeypatch.setattr(Connection, "beginning", 0.2)
    server = serve_within()
    with connected(server) as connection, connected(server) as later:
        later.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET")
        assert answered(later)[0] == 200
        assert told(later) == told(connection) == b""


@pytest.fixture
def crowded(serve_within: ServeWithin, monkeypatch: pytest.MonkeyPatch) -> Within:
    """Return a server with room for four connections."""
    monkeypatch.setattr(server_process, "CONNECTIONS", 4)
    return serve_within()


def test_idle_connections_make_room(crowded: Within) -> None:
    """An established client is answered before and after any number of clients that send nothing."""
    with ExitStack() as closing:
        established = closing.enter_context(connected(crowded))
        idle = []
        for _ in range(20):
            established.sendall(head(b"") + b"".join(COUNTED))
            assert answered(established)[0] == 200
            idle.append(closing.enter_context(connected(crowded)))
            assert httpx.post(f"{crowded.url}/v1/embeddings", content=BODY).status_code == 200
        assert told(idle[0]) == b""


def test_the_address_with_most_idle_connections_makes_room(crowded: Within) -> None:
    with ExitStack() as closing:
        other = closing.enter_context(socket.create_connection(("127.0.0.1", crowded.port), 30, ("127.0.0.2", 0)))
        for _ in range(20):
            each = closing.enter_context(connected(crowded))
            each.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answered(each)
        other.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answered(other)[0] == 200


def test_too_many_requests_at_once(crowded: Within) -> None:
    """New clients are refused with a reason, apart from probes; clients with a connection are not."""
    with ExitStack() as closing:
        busy = [closing.enter_context(connected(crowded)) for _ in range(4)]
        for each in busy:
            each.sendall(head(b"") + COUNTED[0] + BODY[:5])
        while crowded.state.turns.waiting != 20:
            time.sleep(0.01)
        for path in ("/v1/models", "/metrics", "/"):
            refused = httpx.get(crowded.url + path)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json()["error"]["code"] == "unavailable"
        for path in ("/health", "/health/live", "/health/ready"):
            assert httpx.get(crowded.url + path).status_code == 200
        waiting = [closing.enter_context(connected(crowded)) for _ in range(200)]  # and with those beside them
        for each in busy:
            each.sendall(BODY[5:])
            assert answered(each)[0] == 200
        assert httpx.post(f"{crowded.url}/v1/embeddings", content=BODY).status_code == 200
        assert told(waiting[0]) == b""


async def contexts(requests: bytes, number: int) -> list[object]:
    """Return what each request on a connection sees of a context variable that the one before it sets."""
    variable: ContextVar[str | None] = ContextVar("variable", default=None)
    seen: list[object] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(variable.get())
        variable.set("of an earlier request")
        while (await receive()).get("more_body"):
            await asyncio.sleep(0)
        await Response(b"answered")(scope, receive, send)

    config = uvicorn.Config(app, port=0, http=connections(60, 10), ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for each in requests.split(b"|"):
        writer.write(each)
        for _ in range(number):
            await reader.readuntil(b"answered")
    writer.close()
    server.should_exit = True
    await serving
    return seen


@pytest.mark.parametrize("loop", [None, "uvloop"], ids=["asyncio", "uvloop"])
def test_requests_have_contexts_of_their_own(loop: str | None) -> None:
    """A trace and a caller are those of one request, also after a long body, and if requests are pipelined."""
    factory = None if loop is None else pytest.importorskip(loop).new_event_loop
    large = head(b"Content-Length: 4000000\r\n\r\n") + b"x" * 4_000_000
    small = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(contexts(large + b"|" + small, 1)) == [None, None]
        assert runner.run(contexts(small * 3, 3)) == [None] * 3
