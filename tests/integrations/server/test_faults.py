"""A server with slow and vanishing clients, signals, and a model that cannot be loaded."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Serving

from harrier_core import RemoteEncoder, TextTooLong

Serve = Callable[..., Serving]
QUERY = {"model": "tiny-query", "input": "a text"}


def texts_encoded(server: Serving, role: str) -> float:
    """Return how many texts the server has encoded in a role."""
    said = httpx.get(f"{server.url}/metrics").text
    found = re.search(rf'harrier_texts_total{{role="{role}"}} (\S+)', said)
    return float(found[1]) if found else 0.0


def waiting(server: Serving) -> float:
    said = httpx.get(f"{server.url}/metrics").text
    found = re.search(r"(?m)^harrier_waiting_characters (\S+)$", said)
    assert found
    return float(found[1])


def long_request(texts: int, words: int = 200) -> bytes:
    return json.dumps(
        {"model": "tiny-document", "input": [f"text {at} " + "word " * words for at in range(texts)]}
    ).encode()


def raw(body: bytes) -> bytes:
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_a_client_that_disconnects(server: Serving) -> None:
    """Its work is dropped long before it would be done."""
    before = texts_encoded(server, "document")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(raw(long_request(2_000)))
        while not waiting(server):
            time.sleep(0.01)
    while waiting(server):
        time.sleep(0.01)
    encoded = texts_encoded(server, "document")
    assert encoded - before < 2_000
    time.sleep(1)
    assert texts_encoded(server, "document") == encoded
    assert httpx.post(f"{server.url}/v1/embeddings", json=QUERY).status_code == 200


def test_a_client_that_never_finishes(server: Serving) -> None:
    """A client that sends single bytes blocks no one."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        for _ in range(20):
            connection.sendall(b" ")
            assert httpx.post(f"{server.url}/v1/embeddings", json=QUERY).status_code == 200


def test_many_clients_that_disconnect(server: Serving) -> None:
    """Whenever they disconnect, nothing of them remains."""
    body = raw(long_request(20, 20))
    for cut in [*range(0, len(body), len(body) // 40), len(body)]:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(body[:cut])
            if cut == len(body):
                connection.recv(10)
    while waiting(server):
        time.sleep(0.01)
    assert httpx.post(f"{server.url}/v1/embeddings", json=QUERY).status_code == 200


def test_a_full_queue(server: Serving) -> None:
    """Excess requests get a 429 with Retry-After, which RemoteEncoder follows."""
    texts = [
        f"text {number} {'word ' * 20_000}" for number in range(2)
    ]  # too long, which the server says if they fit in
    with (
        RemoteEncoder(server.url, retry_for=60) as remote,
        socket.create_connection(("127.0.0.1", server.port)) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        assert remote.max_tokens < 20_000
        connection.sendall(raw(b" " * (32 * 2**20))[:-100_000])  # half of the bytes that may wait, all from this caller
        while waiting(server) < 32 * 2**20 - 100_100:
            time.sleep(0.01)
        refused = httpx.post(f"{server.url}/v1/embeddings", json={"model": "tiny-query", "input": texts})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert httpx.post(f"{server.url}/v1/embeddings", json=QUERY).status_code == 200
        encoding = pool.submit(remote.encode_documents, texts)
        while answered(server, 429) < 2:
            time.sleep(0.01)
        connection.close()
        with pytest.raises(TextTooLong):
            encoding.result()


def answered(server: Serving, status: int) -> float:
    """Return how many requests for vectors were answered with this status."""
    said = httpx.get(f"{server.url}/metrics").text
    found = re.search(rf'harrier_requests_total{{route="/v1/embeddings",status="{status}"}} (\S+)', said)
    return float(found[1]) if found else 0.0


def test_queries_during_a_million_documents(server: Serving) -> None:
    """Queries overtake them, and other callers' documents take turns."""
    stop = threading.Event()

    def documents() -> None:
        while not stop.is_set():
            with httpx.Client(timeout=120) as client:
                client.post(f"{server.url}/v1/embeddings", content=long_request(300, 50))

    with ThreadPoolExecutor(4) as pool:
        busy = [pool.submit(documents) for _ in range(3)]
        while not waiting(server):
            time.sleep(0.01)
        before = texts_encoded(server, "document")
        assert httpx.post(f"{server.url}/v1/embeddings", json=QUERY, timeout=60).status_code == 200
        assert texts_encoded(server, "document") - before < 300  # of those nine hundred
        stop.set()
        for each in busy:
            each.result()


def test_sigterm(serve: Serve) -> None:
    """The server completes current requests, refuses new ones, and exits with 0."""
    server = serve()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.post, f"{server.url}/v1/embeddings", content=long_request(100), timeout=60)
        while not waiting(server):
            time.sleep(0.01)
        code, said = server.end()
        assert (code, asked.result().status_code) == (0, 200)
    assert "Traceback" not in said
    assert said.endswith("ended\n")


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    """The command ends with the reason before it listens."""
    command = [sys.executable, "-m", "harrier_cli", "serve", "--model", str(tmp_path / "none"), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_weights_that_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    """The server, which already listens, ends with an error code and a log entry."""
    broken = shutil.copytree(folder, tmp_path / "broken")
    for weights in broken.glob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-100])
    serving = Serving(model=broken)
    _, said = serving.process.communicate(timeout=60)
    assert serving.process.returncode == 3
    assert "the model could not be loaded: " in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "give it a key, or listen on 127.0.0.1"),
        (["--index", "notes"], "--index must be NAME=PLACE"),
        (["--api-key-file", "nothing"], "the keys of nothing cannot be read"),
    ],
)
def test_wrong_usage(folder: Path, tmp_path: Path, arguments: list[Any], message: str) -> None:
    command = [sys.executable, "-m", "harrier_cli", "serve", "--model", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (2, True)
