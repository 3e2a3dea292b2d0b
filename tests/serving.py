"""Servers for tests: in a separate process as by `harrier serve`, or in the tests' process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
from harrier_server import Limits, Settings, create_app
from harrier_server.serving import serve

from harrier_core import Encoder, Index

# A call of an assistant, by POST to /mcp, and the headers that it needs.
CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "search", "arguments": {"query": "yeast"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


class Serving:
    """One process of `harrier serve`."""

    def __init__(
        self, *arguments: str, model: Path | str, port: int = 0, program: Sequence[str] = ("-m", "harrier_cli")
    ) -> None:
        command = [sys.executable, "-X", "utf8", *program, "serve", "--model", str(model), "--name", "tiny"]
        own = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*command, "--port", str(port), *arguments],
            env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        found = re.search(r"at (http://\S+:(\d+)); ", said)
        if found is None:
            raise AssertionError(said + self.process.communicate()[1])
        self.url, self.port = found[1], int(found[2])

    def wait(self) -> None:
        """Wait until its model is loaded."""
        while httpx.get(f"{self.url}/health/ready").status_code != 200:
            assert self.process.poll() is None
            time.sleep(0.05)

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Stop the server, and return its exit code and output."""
        self.process.send_signal(how)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said

    def kill(self) -> None:
        """Kill the process if it is still running."""
        self.process.kill()
        self.process.communicate()


class Within:
    """A server in this process, with its own thread and socket, and other limits or encoders."""

    def __init__(
        self, encoder: Encoder, *, port: int = 0, indexes: Mapping[str, Index] | None = None, **limits: Any
    ) -> None:
        app = create_app(encoder, Settings("tiny", port=port, ingest=True, limits=Limits(**limits)), indexes=indexes)
        self.state = app.state.harrier
        listening: Queue[str] = Queue()
        self._thread = threading.Thread(target=serve, args=(app, listening.put))
        self._thread.start()
        self.url = listening.get(timeout=60)
        self.port = int(self.url.rpartition(":")[2])
        while self.state.loaded is None:
            time.sleep(0.01)

    def tell_to_end(self) -> None:
        """Make it shut down as on SIGTERM."""
        self.state.give_up()

    def end(self) -> None:
        """Wait until it has shut down."""
        self.tell_to_end()
        self._thread.join()
