"""The kit without extras: an Index over a remote encoder needs neither torch nor a tokenizer."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from remote_search import found

from harrier_core import Encoder
from harrier_core.extras import PACKAGES

PROGRAM = Path(__file__).with_name("remote_search.py")
BLOCKED = f"import runpy, sys; sys.modules.update(dict.fromkeys({sorted(PACKAGES)})); sys.argv[:] = sys.argv[1:]; "
RUN = "runpy.run_path(sys.argv[0], run_name='__main__')"


@pytest.fixture
def words(built: Callable[..., Path]) -> Iterator[Encoder]:
    """Return an encoder that compares texts by their words."""
    with Encoder(built("gemma3", vectors="words")) as encoder:
        yield encoder


@pytest.fixture
def url(words: Encoder) -> Iterator[str]:
    """Return the address at which that encoder answers."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name = self.path.removeprefix("/")
            texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer: Any = words.space.to_json() if name == "space" else getattr(words, name)(texts)
            body = json.dumps(answer.tolist() if hasattr(answer, "tolist") else answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_index_over_a_remote_encoder(url: str, words: Encoder, pytestconfig: pytest.Config) -> None:
    """It finds what a local index finds, in the Python of --slim, which has no extras."""
    slim = pytestconfig.getoption("--slim")
    command = [slim, str(PROGRAM)] if slim else [sys.executable, "-c", BLOCKED + RUN, str(PROGRAM)]
    done = subprocess.run([*command, url], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == found(words)
    assert len(found(words)["matches"][1]) == 3


def test_the_slim_python_is_slim(pytestconfig: pytest.Config) -> None:
    """Otherwise the previous test would show nothing."""
    slim = pytestconfig.getoption("--slim")
    script = f"from importlib.util import find_spec; print([name for name in {sorted(PACKAGES)} if find_spec(name)])"
    if slim:
        done = subprocess.run([slim, "-c", script], check=True, capture_output=True, text=True)
        assert done.stdout == "[]\n"
    else:
        command = [sys.executable, "-c", BLOCKED + "import torch", "a program"]
        assert "import of torch halted" in subprocess.run(command, check=False, capture_output=True, text=True).stderr
