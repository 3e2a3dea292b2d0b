"""`harrier serve` in its own process."""

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
    """Yield the port of a server that is ready, and its process id; its model is called `bench`."""
    command = [sys.executable, "-m", "harrier_cli", "serve", "--model", model, "--name", "bench", "--port", "0"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"at http://127\.0\.0\.1:(\d+); ", process.stdout.readline())
            if found is None:
                raise RuntimeError("the server did not start; its output above has the reason")
            while not is_ready(int(found[1])):
                time.sleep(0.1)
            yield int(found[1]), process.pid
        finally:
            process.terminate()


def is_ready(port: int) -> bool:
    """Return whether the server's model is loaded."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=30):
            return True
    except OSError:  # including 503
        return False
