"""Messages on a terminal about what a command waits for: an opened index, a loaded model."""

from __future__ import annotations

import os
import pty
import select
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

# A slow disk: reading the engine's code takes more than a second, and lasts until there is a file "go".
SLOW_DISK = """
import sys, time
from pathlib import Path

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "harrier_core.engine":
            time.sleep(1.5)
            while not Path(__file__).with_name("go").exists():
                time.sleep(0.05)

sys.meta_path.insert(0, Slow())
"""


class Watched:
    """A process whose standard error is a terminal."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self._master, slave = pty.openpty()
        self._shown = b""
        path = os.pathsep.join([str(folder), environment.get("PYTHONPATH", "")])
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=slave,
            env={**environment, "PYTHONPATH": path},
            cwd=folder,
        )
        os.close(slave)

    def until(self, sign: str) -> None:
        """Wait until the terminal shows this, and fail if it does not."""
        while sign.encode() not in self._shown:
            ready, _, _ = select.select([self._master], [], [], 60)
            assert ready, self._shown
            with suppress(OSError):  # the process has ended
                self._shown += os.read(self._master, 65_536)
                continue
            raise AssertionError(self._shown)

    def shown(self) -> str:
        """Wait for the end of the process, and return what the terminal has shown."""
        output, _ = self.child.communicate(timeout=60)
        self.output = output.decode()
        while select.select([self._master], [], [], 0)[0]:
            try:
                self._shown += os.read(self._master, 65_536)
            except OSError:  # the end
                break
        os.close(self._master)
        return self._shown.decode()


@pytest.fixture
def place(call: Run, tmp_path: Path) -> str:
    place = f"qdrant:{tmp_path}/q"
    call("ingest", "-", "--to", place, "--format", "jsonl", "--id", "id", given='{"id": "a", "text": "Rivers"}')
    return place


@pytest.fixture
def watch(command: list[str], environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    """Start the command on a slow disk."""
    started: list[Watched] = []

    def watch(*arguments: str) -> Watched:
        started.append(Watched([*command, *arguments], environment, tmp_path))
        return started[-1]

    (tmp_path / "sitecustomize.py").write_text(SLOW_DISK)
    yield watch
    for each in started:
        each.child.kill()
        each.child.communicate()


@pytest.mark.slow
def test_a_search_says_what_it_loads(
    watch: Callable[..., Watched], place: str, environment: dict[str, str], tmp_path: Path
) -> None:
    search = watch("search", "rivers", "--in", place)
    search.until(f"loading {environment['HARRIER_MODEL']} ...")
    (tmp_path / "go").touch()
    assert search.shown().count("loading") == 1
    assert search.output.startswith("a  ")
    assert "Rivers" in search.output


@pytest.mark.slow
def test_json_output_has_no_messages(watch: Callable[..., Watched], place: str, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    search = watch("search", "rivers", "--in", place, "--json")
    assert search.shown() == ""
    assert "Rivers" in search.output


@pytest.mark.slow
def test_the_mcp_server_says_what_it_loads(
    watch: Callable[..., Watched], place: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """The message is on standard error, because standard output is the protocol's."""
    server = watch("mcp", place)
    server.until(f"loading {environment['HARRIER_MODEL']} ...")
    (tmp_path / "go").touch()
    assert server.shown().count("loading") == 1
    assert server.output == ""
