"""A server whose device fails, or whose memory others take, while the real engine runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from serving import Serving, Within

from harrier_core import Encoder, Index, Record
from harrier_core.decoder import Decoder
from harrier_core.testing import MemoryStore

ServeWithin = Callable[..., Within]

QUERY = {"model": "tiny-query", "input": "bread"}

# The command line, with a device that fails as soon as a file exists.
PROGRAM = """
import sys
from pathlib import Path
from harrier_core.decoder import Decoder
from harrier_cli import main

broken, launch = Path(sys.argv.pop(1)), Decoder.launch

def failing(decoder, rows, **how):
    if broken.exists():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return launch(decoder, rows, **how)

Decoder.launch = failing
main()
"""


@pytest.fixture
def served(serve_within: ServeWithin, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> Within:
    """Return a server with an index, which looks after its device often."""
    monkeypatch.setattr("harrier_server.service._TRY_EVERY", 0.05)
    index = Index(MemoryStore(), encoder)
    index.ingest([Record("bread", "Bread rises because of yeast.")])
    return serve_within(indexes={"notes": index})


def status(server: Within, path: str = "/health/ready") -> int:
    return httpx.get(f"{server.url}{path}").status_code


def until(server: Within, expected: int) -> None:
    while status(server) != expected:
        time.sleep(0.01)


def failing(error: Exception) -> Callable[..., Any]:
    def launch(*_: Any, **__: Any) -> Any:
        raise error

    return launch


def test_memory_that_others_took(served: Within, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every route says that the request may succeed later; the server is not ready until it does, and goes on."""
    ingest = json.dumps({"id": "a", "text": "Rivers carry sand."})
    with monkeypatch.context() as taken:
        taken.setattr(Decoder, "launch", failing(torch.OutOfMemoryError("CUDA out of memory.")))
        for path, body in (("/v1/embeddings", QUERY), ("/v1/search", {"query": "bread"})):
            answer = httpx.post(f"{served.url}{path}", json=body)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        lines = httpx.post(f"{served.url}/v1/ingest?index=notes", content=ingest).text.splitlines()
        last = json.loads(lines[-1])
        assert (last["status"], last["rejected_total"]) == ("failed", 0)
        until(served, 503)
        assert status(served, "/health") == 503
    until(served, 200)
    assert httpx.post(f"{served.url}/v1/embeddings", json=QUERY).status_code == 200
    assert served.state.failed is None


def test_failures_of_searches_count(served: Within, monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not pass through the route for vectors, but they use the same device."""
    monkeypatch.setattr("harrier_server.service._TRY_EVERY", 3600)
    with monkeypatch.context() as broken:
        broken.setattr(Decoder, "launch", failing(RuntimeError("CUDA error: device-side assert triggered")))
        for _ in range(3):
            assert httpx.post(f"{served.url}/v1/search", json={"query": "bread"}).status_code == 503
        assert status(served) == 503
    assert httpx.post(f"{served.url}/v1/search", json={"query": "bread"}).status_code == 200
    assert status(served) == 200


def test_a_text_on_which_the_model_fails(served: Within, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server survives it, however often it comes."""
    launch = Decoder.launch

    def launched(decoder: Decoder, rows: Any, **how: Any) -> Any:
        if any(len(row.rest) > 50 for row in rows):
            raise RuntimeError("a kernel failed")
        return launch(decoder, rows, **how)

    monkeypatch.setattr(Decoder, "launch", launched)
    for _ in range(6):
        body = {"model": "tiny-document", "input": "word " * 100}
        assert httpx.post(f"{served.url}/v1/embeddings", json=body).status_code == 503
        time.sleep(0.06)
    until(served, 200)
    assert served.state.failed is None


@pytest.mark.slow
def test_a_device_that_never_recovers(folder: Path, tmp_path: Path) -> None:
    """The server ends with an error code, so that a supervisor starts another one, after a single failed request."""
    broken = tmp_path / "broken"
    server = Serving(model=folder, program=("-c", PROGRAM, str(broken)))
    try:
        server.wait()
        broken.touch()
        answer = httpx.post(f"{server.url}/v1/embeddings", json=QUERY)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        _, said = server.process.communicate(timeout=60)
    finally:
        server.kill()
    assert server.process.returncode == 3
    assert said.count("Traceback") == 1
    assert "an illegal memory access" in said
