"""`harrier serve` in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen


@contextmanager
def server_process(model: str, *arguments: str) -> Iterator[tuple[int, int]]:
    """Yield the port of a server that is ready, and the number of its process; its model is called `bench`."""
    command = [sys.executable, "-m", "harrier_cli", "serve", "--model", model, "--name", "bench", "--port", "0"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"at http://127\.0\.0\.1:(\d+); ", process.stdout.readline())
        if found is None:
            raise RuntimeError("the server does not start; it says why above")
        port = int(found[1])
        while not is_ready(port):
            time.sleep(0.1)
        yield port, process.pid
        process.terminate()


def is_ready(port: int) -> bool:
    """Whether its model is loaded."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=30):
            return True
    except OSError:  # a 503 is one of these as well
        return False
