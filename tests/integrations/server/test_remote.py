"""RemoteEncoder behaves as an Encoder in this process."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import re
import select
import signal
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from harrier_pgvector import PgVectorStore
from serving import Serving, Within

from harrier_core import (
    BadVectors,
    Chunking,
    EmptyText,
    Encoder,
    EncoderClosed,
    Index,
    NotText,
    OutOfMemory,
    Record,
    RemoteEncoder,
    ServerRefused,
    ServerUnavailable,
    SettingError,
    SpaceChanged,
    Task,
    TaskError,
    TextTooLong,
)
from harrier_core.http import use_loop
from harrier_core.testing import MemoryStore, build_model

Serve = Callable[..., Serving]
ServeWithin = Callable[..., Within]
TEXTS = ["Bread rises because of yeast.", "Rivers carry sand.", "Über 漢字 and 🦅"]


@pytest.fixture
def remote(server: Serving) -> Iterator[RemoteEncoder]:
    with RemoteEncoder(server.url, retry_for=5) as remote:
        yield remote


def test_the_same_vectors(remote: RemoteEncoder, encoder: Encoder) -> None:
    """Vectors are the same in both roles and every task, sync and async, in one or several requests."""
    assert (remote.encode_documents(TEXTS) == encoder.encode_documents(TEXTS)).all()
    for task in (None, *encoder.tasks):
        assert (remote.encode_queries(TEXTS, task=task) == encoder.encode_queries(TEXTS, task=task)).all()
    many = [f"text {number} {'word ' * (number % 40)}" for number in range(700)]
    expected = encoder.encode_documents(many)
    assert abs(remote.encode_documents(many) - expected).max() < 1e-6  # in other batches than here
    assert abs(asyncio.run(remote.aencode_documents(many)) - expected).max() < 1e-6
    assert (asyncio.run(remote.aencode_queries(TEXTS)) == encoder.encode_queries(TEXTS)).all()
    assert remote.encode_documents([]).shape == (0, encoder.dimensions)


def test_properties(remote: RemoteEncoder, encoder: Encoder) -> None:
    assert remote.space == encoder.space
    assert remote.space.digest == encoder.space.digest
    assert (remote.name, remote.dimensions, remote.max_tokens) == ("tiny", encoder.dimensions, encoder.max_tokens)
    assert remote.tasks == encoder.tasks
    for task in (None, "sts_query", Task("Find a recipe")):
        assert remote.prompt("a query", task=task) == encoder.prompt("a query", task=task)
    texts = [*TEXTS, "word " * 5_000, "<eos>", "<|im_end|>"]
    assert remote.count_tokens(texts) == encoder.count_tokens(texts)
    submitted = remote.submit_documents(TEXTS).result()
    assert submitted.tokens == encoder.count_tokens(TEXTS)


def test_construction_connects_to_nothing(remote: RemoteEncoder, server: Serving) -> None:
    """It holds settings, and can be pickled."""
    again: RemoteEncoder = pickle.loads(pickle.dumps(remote))
    assert (again.encode_documents(TEXTS) == remote.encode_documents(TEXTS)).all()
    again.close()
    with pytest.raises(EncoderClosed):
        again.encode_documents(TEXTS)
    RemoteEncoder("http://127.0.0.1:9")
    secret = RemoteEncoder(f"{server.url}/v1/", api_key="a-key-of-some-length")
    assert "a-key" not in repr(secret)
    assert secret.url == server.url
    secret.close()


@pytest.mark.parametrize(
    ("texts", "kind", "positions"),
    [
        (["a", " ", "b", ""], EmptyText, [1, 3]),
        (["a", None], NotText, [1]),
        (["a", "word " * 3_000, "b"], TextTooLong, [1]),
        ([*["a"] * 300, "word " * 3_000, *["b"] * 300, "word " * 3_000], TextTooLong, [300, 601]),
    ],
)
def test_bad_texts(remote: RemoteEncoder, texts: list[Any], kind: Any, positions: list[int]) -> None:
    """Positions refer to the caller's list, across requests."""
    with pytest.raises(kind) as caught:
        remote.encode_documents(texts)
    assert [each.position for each in caught.value.problems] == positions


def test_an_unknown_task(remote: RemoteEncoder) -> None:
    with pytest.raises(TaskError, match="unknown task 'no'"):
        remote.encode_queries(["a"], task="no")
    with pytest.raises(ServerRefused, match="does not accept instructions in requests"):
        remote.encode_queries(["a"], task=Task("Find a recipe"))


def test_an_index_over_it(remote: RemoteEncoder, encoder: Encoder) -> None:
    """Chunks, results and the space equal those with the local model."""
    records = [Record(f"r{number}", f"Part {number}. " * 200) for number in range(5)]
    store = MemoryStore()
    index = Index(store, remote, chunking=Chunking(tokens=100))
    assert index.ingest(records).rejected == []
    local = Index(store, encoder, chunking=Chunking(tokens=100))
    assert local.ingest(records).written == 0
    assert index.verify().sound
    assert [each.id for each in index.search("Part 3")] == [each.id for each in local.search("Part 3")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "127.0.0.1:8000"}, "url must be the address of a server, such as http://127.0.0.1:8000"),
        ({"url": None}, "url must be the address of a server"),
        ({"url": "http://"}, "url must be the address of a server"),
        ({"url": "http://a:b"}, "url must be the address of a server"),
        ({"url": "http://me:secret@127.0.0.1:9"}, "url must not contain a user or password; pass api_key$"),
        ({"api_key": "secret secret"}, "api_key must be printable ASCII characters without spaces$"),
        ({"api_key": "schlüssel"}, "api_key must be printable ASCII characters without spaces$"),
        ({"api_key": ""}, "api_key must be printable ASCII characters without spaces$"),
        ({"timeout": -1}, "timeout must be a number of at least 0, got -1"),
        ({"retry_for": True}, "retry_for must be a number of at least 0, got True"),
    ],
)
def test_invalid_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        RemoteEncoder(**{"url": "http://127.0.0.1:9", **options})


def test_an_unreachable_server() -> None:
    with (
        RemoteEncoder("http://127.0.0.1:9", retry_for=0.5) as remote,
        pytest.raises(ServerUnavailable, match="the server at http://127.0.0.1:9 cannot be reached"),
    ):
        remote.encode_documents(TEXTS)


class _Forward(BaseHTTPRequestHandler):
    """A proxy that refuses everything."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_no_proxy_for_loopback(server: Serving, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Texts and keys for this machine stay on it, and errors through a proxy name it without its password."""

    class Forward(_Forward):
        asked: list[str] = []  # noqa: RUF012

    with answering(Forward) as url:
        monkeypatch.setenv(variable, url.replace("//", "//me:secret@"))
        for host in ("127.0.0.1", "localhost"):
            with RemoteEncoder(f"http://{host}:{server.port}", retry_for=5) as remote:
                remote.encode_documents(["a"])
        for host in ("127.1.2.3", "[::1]"):
            remote = RemoteEncoder(f"http://{host}:9", retry_for=0)
            with remote, pytest.raises(ServerUnavailable) as caught:
                remote.encode_documents(["a"])
            assert "proxy" not in str(caught.value)
        assert Forward.asked == []
        through = f"the server at http://harrier.test, through the proxy {url.removeprefix('http://')}"
        with RemoteEncoder("http://harrier.test", retry_for=0) as remote:
            with pytest.raises(ServerRefused, match=f"^{through}, refused: HTTP status 403$"):
                remote.encode_documents(["a"])
            assert Forward.asked == ["http://harrier.test/v1/models"]
    with (
        RemoteEncoder("http://harrier.test", retry_for=0) as remote,
        pytest.raises(ServerUnavailable, match=f"^{through}, cannot be reached"),
    ):
        remote.encode_documents(["a"])


class _Answering(BaseHTTPRequestHandler):
    """A server that describes a model, and answers requests as a test says."""

    described: bytes
    digest: str
    status: int
    answer: bytes
    asked: threading.Event
    held: threading.Event
    described_at: threading.Event
    in_time = False
    encoding = ""

    def do_GET(self) -> None:
        type(self).in_time = self.described_at.wait(5)
        self._send(200, self.described)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.set()
        self.held.wait(60)
        self._send(self.status, self.answer)

    def _send(self, status: int, answer: bytes) -> None:
        self.send_response(status)
        self.send_header("Harrier-Space", self.digest)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Content-Encoding", self.encoding)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def other(encoder: Encoder) -> Iterator[tuple[RemoteEncoder, type[_Answering]]]:
    """Return a RemoteEncoder of a server that answers as a test says."""
    space = encoder.space
    limits = {"max_tokens": 99, "max_bytes": 100_000, "max_texts": 100}
    said = {"name": "tiny", "space": json.loads(space.to_json()), "tasks": {}, "template": None, **limits}

    class Answering(_Answering):
        described = json.dumps({"data": [{"harrier": said}]}).encode()
        digest = space.digest
        status = 200
        asked, held, described_at = threading.Event(), threading.Event(), threading.Event()

    Answering.held.set()
    Answering.described_at.set()
    with answering(Answering) as url:
        with RemoteEncoder(url, retry_for=2) as remote:
            yield remote, Answering
        Answering.held.set()


class _Paced(_Answering):
    """A server that encodes a number of characters per second: one request after the other, or all at once."""

    speed: float
    turns: AbstractContextManager[Any]
    row: bytes

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        with self.turns:
            for text in texts:
                if select.select([self.connection], [], [], 0)[0]:  # the client has gone
                    return
                time.sleep(len(text) / self.speed)
        data = [{"index": at, "embedding": b64encode(self.row).decode()} for at in range(len(texts))]
        said = {"data": data, "harrier": {"tokens": [1] * len(texts), "truncated": []}}
        with suppress(OSError):  # the client has gone
            self._send(200, json.dumps(said).encode())


@pytest.fixture
def paced(
    other: tuple[RemoteEncoder, type[_Answering]], encoder: Encoder
) -> Callable[..., AbstractContextManager[str]]:
    """Return a function that makes the address of a paced server."""
    said = json.loads(other[1].described)
    said["data"][0]["harrier"] |= {"max_bytes": 2**24, "max_texts": 256}

    row = encoder.encode_documents(["a"]).tobytes()

    def make(speed: float, turns: AbstractContextManager[Any]) -> AbstractContextManager[str]:
        own = {"described": json.dumps(said).encode(), "speed": speed, "turns": turns, "row": row}
        return answering(type("Paced", (_Paced, other[1]), own))

    return make


@pytest.mark.slow
def test_a_slow_server(paced: Callable[..., AbstractContextManager[str]]) -> None:
    """The last of the requests that are sent at once is answered in time, though the server takes them in turn."""
    texts = ["word " * 200] * 1_600
    with paced(400_000, threading.Lock()) as url, RemoteEncoder(url, timeout=2, retry_for=0) as remote:
        for count in (30, 60):
            remote.encode_documents(texts[:count])  # the speed is learnt
        assert len(remote.encode_documents(texts)) == len(texts)


def test_requests_that_take_too_long(paced: Callable[..., AbstractContextManager[str]]) -> None:
    """They are sent again in halves."""
    with paced(2_500, nullcontext()) as url, RemoteEncoder(url, timeout=1.5, retry_for=0) as remote:
        assert len(remote.encode_documents(["word " * 100] * 15)) == 15


@pytest.mark.parametrize("status", [408, 504])
def test_requests_that_take_too_long_for_a_proxy(
    paced: Callable[..., AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """They are sent again in halves, but a single text is sent again as it is."""
    sizes: list[int] = []

    def send(self: _Answering, _: int, answer: bytes) -> None:
        sizes.append(len(json.loads(answer).get("data", ())))
        late = sizes[-1] > 4 or sizes.count(1) == 1
        _Answering._send(self, status if late else 200, answer)

    with paced(10**9, nullcontext()) as url, RemoteEncoder(url, retry_for=1) as remote:
        remote.encode_documents([])  # it is described
        monkeypatch.setattr(_Paced, "_send", send)
        assert len(remote.encode_documents(["word"] * 16)) == 16
        assert sizes.count(16) == 1
        assert len(remote.encode_documents(["word"])) == 1
    assert sizes.count(1) == 2


def test_a_text_that_is_never_answered(paced: Callable[..., AbstractContextManager[str]]) -> None:
    """An error ends its call, alone and among others."""
    with paced(1, nullcontext()) as url, RemoteEncoder(url, timeout=0.3, retry_for=0) as remote:
        for texts in (["a text"], ["a text", "another text", "a third text"]):
            with pytest.raises(ServerUnavailable):
                remote.encode_documents(texts)


def test_a_timeout_after_another_failure() -> None:
    """It is followed by another attempt, although it lasts longer than attempts are repeated for."""

    class Slow(_Busy):
        asked, times, after = [], 1, "0"

        @property
        def seconds(self) -> float:  # type: ignore[override]
            return 1.5 if len(self.asked) == 2 else 0.0

    with (
        answering(Slow) as url,
        RemoteEncoder(url, timeout=0.7, retry_for=0.5) as remote,
        pytest.raises(ServerRefused, match="it must be one that `harrier serve` runs"),
    ):
        remote.encode_documents(TEXTS)


@pytest.mark.parametrize("wrong", ["json", "keys", "number", "width", "order", "tokens", "header"])
def test_a_malformed_answer(other: tuple[RemoteEncoder, type[_Answering]], encoder: Encoder, wrong: str) -> None:
    """It is refused, and none of its vectors is used."""
    remote, answering = other
    row = b64encode(encoder.encode_documents(["a"]).tobytes()).decode()
    data = [{"index": at, "embedding": row} for at in range(2)]
    answer: dict[str, Any] = {"data": data, "harrier": {"tokens": [3, 3], "truncated": []}}
    answering.answer = json.dumps(answer).encode()
    assert len(remote.encode_documents(["a", "a"])) == 2
    if wrong == "keys":
        del answer["harrier"]
    elif wrong == "number":
        data.pop()
    elif wrong == "width":
        data[0]["embedding"], data[1]["embedding"] = row[:16], row[:16]
    elif wrong == "order":
        data.reverse()
    elif wrong == "tokens":
        answer["harrier"]["tokens"] = [3]
    elif wrong == "header":
        answering.digest = "another"
    answering.answer = b"{" if wrong == "json" else json.dumps(answer).encode()
    with pytest.raises(ServerRefused, match="sent a malformed answer") as caught:
        remote.encode_documents(["a", "a"])
    assert not caught.value.usage


@pytest.mark.parametrize(("kind", "status"), [(OutOfMemory, 413), (BadVectors, 424)])
def test_texts_without_a_vector(other: tuple[RemoteEncoder, type[_Answering]], kind: Any, status: int) -> None:
    """They raise an Encoder's errors, with positions in the caller's list."""
    remote, answering = other
    problems = [{"position": 1, "kind": kind.__name__, "reason": "cannot be encoded"}]
    answering.status = status
    answering.answer = json.dumps({"error": {"message": "no", "code": "x", "problems": problems}}).encode()
    with pytest.raises(kind, match="^cannot be encoded$") as caught:
        remote.encode_documents(["a", "b"])
    assert getattr(caught.value, "position", 1) == 1
    assert getattr(caught.value, "positions", (1,)) == (1,)


def test_closed_while_it_is_used(other: tuple[RemoteEncoder, type[_Answering]]) -> None:
    """The call ends at once, even if another RemoteEncoder uses the same thread."""
    remote, answering = other
    remote.encode_documents([])
    answering.held.clear()
    with RemoteEncoder(remote.url) as alive, ThreadPoolExecutor(1) as pool:
        assert alive.max_tokens == 99
        loop = alive._held.take("loop", use_loop)
        under_way = pool.submit(remote.encode_documents, ["a"])
        assert answering.asked.wait(20)
        remote.close()
        with pytest.raises(EncoderClosed):
            under_way.result(20)
        until = time.monotonic() + 20
        while len(loop.clients) != 1 and time.monotonic() < until:
            time.sleep(0.01)
        assert len(loop.clients) == 1
        with pytest.raises(EncoderClosed):
            remote.encode_documents(["a"])


def test_collected_without_closing(server: Serving) -> None:
    """Their connections are closed, although another RemoteEncoder keeps the thread alive."""
    with RemoteEncoder(server.url) as alive:
        alive.encode_documents(["a"])
        clients = alive._held.take("loop", use_loop).clients
        descriptors = _descriptors()
        for _ in range(8):
            RemoteEncoder(server.url).encode_documents(["a"])
        gc.collect()
        until = time.monotonic() + 20
        while (len(clients) > 1 or _descriptors() > descriptors) and time.monotonic() < until:
            time.sleep(0.01)
        assert len(clients) == 1
        assert _descriptors() <= descriptors  # those of earlier tests may be closed meanwhile
        alive.encode_documents(["a"])


def _descriptors() -> int:
    """Return the number of open sockets of this process; 0 where it cannot be known."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return 0
    links = [each for each in folder.iterdir() if each.is_symlink()]
    return sum(_target(each).startswith("socket:") for each in links)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile
        return ""


def test_opened_by_several_threads(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share one set of connections."""

    def slowly() -> Any:
        time.sleep(0.1)
        return use_loop()

    monkeypatch.setattr("harrier_core.remote.use_loop", slowly)
    with RemoteEncoder(server.url) as remote, ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: remote._opened(), range(8)))
        assert len({id(each) for each in opened}) == 1


def test_a_damaged_answer(other: tuple[RemoteEncoder, type[_Answering]]) -> None:
    """An answer that cannot be decoded, and an error that cannot be read, raise the kit's errors."""
    remote, answering = other
    remote.encode_documents([])  # it is described
    answering.status, answering.answer = 400, b"[" * 100_000
    with pytest.raises(ServerRefused, match="HTTP status 400"):
        remote.encode_documents(["a"])
    answering.status, answering.encoding = 200, "gzip"
    with pytest.raises(ServerUnavailable, match="DecodingError"):
        remote.encode_documents(["a"])


def test_messages_of_the_server(other: tuple[RemoteEncoder, type[_Answering]]) -> None:
    """They are shortened, and contain no terminal control characters."""
    remote, answering = other
    answering.status = 400
    answering.answer = json.dumps({"error": {"message": "no\x1b[2J\n" + "x" * 10_000, "code": "x"}}).encode()
    with pytest.raises(ServerRefused) as caught:
        remote.encode_documents(["a"])
    assert "refused: no [2J xxx" in str(caught.value)
    assert len(str(caught.value)) < 3_000


async def test_nothing_is_asked_on_the_event_loop(other: tuple[RemoteEncoder, type[_Answering]]) -> None:
    """A slow server does not block the loop, including for the model's name."""
    remote, answering = other
    answering.described_at.clear()
    asyncio.get_running_loop().call_later(0.1, answering.described_at.set)
    with pytest.raises(TaskError):  # of a model without tasks
        await remote.aencode_queries(["a"])
    assert answering.in_time


def test_limits_of_the_server(serve_within: ServeWithin, encoder: Encoder) -> None:
    """Requests respect them, and a text that cannot is refused before sending."""
    server = serve_within(body=5_000, texts=7)
    texts = [f"text {number} {'語 ' * (number % 50)}" for number in range(300)]
    with RemoteEncoder(server.url) as remote:
        assert abs(remote.encode_documents(texts) - encoder.encode_documents(texts)).max() < 1e-6
        asked = counted(server.url, 200)
        with pytest.raises(
            TextTooLong, match=r"has more bytes as JSON than the 4,\d\d\d that the server takes"
        ) as caught:
            remote.encode_documents(["a", "語" * 1_700, "b", "\n" * 9 + "a" * 4_990])
        assert [each.position for each in caught.value.problems] == [1, 3]
        assert counted(server.url, 200) == asked
    assert counted(server.url, 413) == counted(server.url, 400) == 0


def counted(url: str, status: int) -> int:
    """Return how many requests for vectors were answered with this status."""
    said = httpx.get(f"{url}/metrics").text
    found = re.search(rf'harrier_requests_total{{route="/v1/embeddings",status="{status}"}} (\S+)', said)
    return int(float(found[1])) if found else 0


class _Proxy(BaseHTTPRequestHandler):
    """A proxy that refuses large bodies, as nginx does by default."""

    to: str
    sizes: list[int]

    def do_GET(self) -> None:
        self._send(httpx.get(self.to + self.path))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.sizes.append(len(body))
        if len(body) > 3_000:
            self._send(httpx.Response(413, content=b"<html>413 Request Entity Too Large</html>"))
        else:
            own = {name: self.headers[name] for name in ("Content-Type", "Harrier-Space")}
            self._send(httpx.post(self.to + self.path, content=body, headers=own))

    def _send(self, response: httpx.Response) -> None:
        self.send_response(response.status_code)
        for name in ("Content-Type", "Harrier-Space"):
            self.send_header(name, response.headers.get(name, ""))
        self.send_header("Content-Length", str(len(response.content)))
        self.end_headers()
        self.wfile.write(response.content)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_proxy_with_a_lower_limit(serve_within: ServeWithin, encoder: Encoder) -> None:
    """Requests are halved until they pass, and stay smaller; a text that cannot pass is refused."""
    texts = [f"text {number} {'word ' * 30}" for number in range(100)]

    class Proxy(_Proxy):
        to, sizes = serve_within().url, []

    with answering(Proxy) as url, RemoteEncoder(url, retry_for=5) as remote:
        assert abs(remote.encode_documents(texts) - encoder.encode_documents(texts)).max() < 1e-6
        Proxy.sizes.clear()
        assert abs(remote.encode_documents(texts) - encoder.encode_documents(texts)).max() < 1e-6
        assert max(Proxy.sizes) <= 3_000
        with pytest.raises(TextTooLong, match=r"for a proxy in front of it \(HTTP status 413\)") as caught:
            remote.encode_documents(["a", "word " * 700, "b"])
        assert [each.position for each in caught.value.problems] == [1]


class _Busy(BaseHTTPRequestHandler):
    """A server that is busy a number of times, and then answers as no server of the kit does."""

    asked: list[float]
    times: int
    after: str | None = None  # the value of Retry-After
    seconds: float = 0.0  # before each answer

    def do_GET(self) -> None:
        self.asked.append(time.monotonic())
        time.sleep(self.seconds)
        self.send_response(429 if len(self.asked) <= self.times else 200)
        if self.after is not None:
            self.send_header("Retry-After", self.after)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Return the address of a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{other.server_port}"
        finally:
            other.shutdown()


def test_a_busy_server() -> None:
    """It is asked again after Retry-After, and another kind of server is refused."""

    class Busy(_Busy):
        asked, times, after = [], 2, "1"

    with (
        answering(Busy) as url,
        RemoteEncoder(url, retry_for=30) as remote,
        pytest.raises(ServerRefused, match="it must be one that `harrier serve` runs"),
    ):
        remote.encode_documents(TEXTS)
    gaps = [after - before for before, after in pairwise(Busy.asked)]
    assert len(gaps) == 2
    assert min(gaps) > 0.9


@pytest.mark.parametrize(
    ("retry_for", "after", "seconds", "attempts"),
    [
        (0, None, 0, 1),
        (2, "30", 0, 1),  # which is past the time in which it is repeated
        (0.6, "0", 0, 2),  # after a pause of at most 0.2 seconds
        (0.5, "0", 0.8, 2),  # the time begins with the first failure, however long that took
    ],
)
def test_the_number_of_attempts(retry_for: float, after: str | None, seconds: float, attempts: int) -> None:
    """There is a minimum of attempts, and exactly one if there is no time for a second."""

    class Busy(_Busy):
        asked: list[float] = []  # noqa: RUF012
        times = 10**9

    Busy.after, Busy.seconds = after, seconds
    with (
        answering(Busy) as url,
        RemoteEncoder(url, retry_for=retry_for) as remote,
        pytest.raises(ServerUnavailable, match="refused: HTTP status 429"),
    ):
        remote.encode_documents(TEXTS)
    assert len(Busy.asked) >= attempts
    assert attempts > 1 or len(Busy.asked) == 1


def test_another_model(serve_within: ServeWithin, tmp_path: Path) -> None:
    """A server with other weights is refused by name, and nothing is written."""
    before = serve_within()
    with RemoteEncoder(before.url, retry_for=30) as remote:
        index = Index(MemoryStore(), remote)
        index.ingest([Record("one", "text one")])
        before.end()
        with Encoder(build_model(tmp_path / "other", "qwen3", vectors="words", seed=7)) as other:
            after = serve_within(other, port=before.port)
            with pytest.raises(SpaceChanged, match="embedding space mismatch: server "):
                index.ingest([Record("two", "text two")])
            with pytest.raises(SpaceChanged):
                index.search("text")
            assert index.count() == 1
            after.end()


def test_killed_and_started_again(serve: Serve, postgres: str, table: str) -> None:
    """Calls wait for the server, and an ingest ends as if it was not interrupted."""
    records = [Record(f"r{number}", f"text {number} {'word ' * (number % 30)}") for number in range(2_000)]
    server = serve()
    begun, over = threading.Event(), threading.Event()

    def torment() -> None:
        assert begun.wait(60)
        server.process.send_signal(signal.SIGKILL)
        server.kill()
        serve(port=server.port)

    remote = RemoteEncoder(server.url, retry_for=100)
    expected = remote.encode_queries(TEXTS)

    def ask() -> int:
        """Send requests without a pause throughout."""
        asked = 0
        while not over.is_set():
            assert abs(remote.encode_queries(TEXTS) - expected).max() < 1e-6
            asked += 1
        return asked

    with remote, Index(PgVectorStore(postgres, table=table), remote) as index, ThreadPoolExecutor(2) as pool:
        tormented, asking = pool.submit(torment), pool.submit(ask)
        try:
            report = index.ingest(_until_begun(records, begun))
            tormented.result()
        finally:
            over.set()
        assert asking.result() > 1
        assert (report.written, report.rejected) == (len(records), [])
        assert index.ingest(records).unchanged == len(records)
        assert index.verify(sample=20).sound


def _until_begun(records: list[Record], begun: threading.Event) -> Iterator[Record]:
    """Yield records until the first are being encoded."""
    for number, record in enumerate(records):
        if number == 1_000:  # the first window is full
            begun.set()
        yield record
