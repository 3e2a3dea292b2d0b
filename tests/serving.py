"""A server in a process of its own, as `harrier serve` runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx


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
        """Tell it to end; return its exit code and what it said besides."""
        self.process.send_signal(how)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self.process.kill()
        self.process.communicate()
