"""On SIGTERM, as sent by `docker stop`, `systemctl stop` and `timeout`, a command ends as after Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from harrier_cli.ending import code_of_interrupt, terminable

from harrier_core import StoreMissing, open_store

Run = Callable[..., subprocess.CompletedProcess[str]]

_ROWS = 4_500  # more than the windows that are under way at once: a thousand must be stored
_NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
_CAN_ISOLATE = shutil.which("unshare") is not None and not subprocess.run([*_NAMESPACE, "true"], check=False).returncode


def rows(number: int) -> bytes:
    lines = ({"key": f"r{each}", "text": f"text {each % 9}"} for each in range(number))
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@contextmanager
def ingesting(command: list[str], environment: dict[str, str], place: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start an endless ingest, and wait until some rows are stored."""
    arguments = ["ingest", "-", "--to", place, "--format", "jsonl", "--id", "key"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, *arguments], env=environment, start_new_session=True, **pipes) as child:
        try:
            assert child.stdin is not None
            child.stdin.write(rows(_ROWS))
            child.stdin.flush()
            _wait_until_some_are_stored(place, child)
            yield child
        finally:
            child.kill()


def _wait_until_some_are_stored(place: str, child: subprocess.Popen[bytes]) -> None:
    with closing(open_store(place)) as store:
        while child.poll() is None:
            try:
                if store.describe().chunks:
                    return
            except StoreMissing:
                pass
            time.sleep(0.05)
    pytest.fail(f"the ingest ended, with {child.returncode}: {child.stderr.read().decode() if child.stderr else ''}")


def postgres_of(folder: Path) -> int | None:
    """Return the process that serves a folder, if any."""
    found = list(folder.rglob("postmaster.pid"))
    return int(found[0].read_text().split()[0]) if found else None


def ended(child: subprocess.Popen[bytes]) -> str:
    """Return the output of a child that was told to end while its input is open."""
    assert child.stderr is not None
    assert child.wait(60) == 143
    return child.stderr.read().decode()


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])  # `timeout` sends one to the command, and one to its group
def test_an_ingest_ends_as_after_ctrl_c(
    run: Run, command: list[str], environment: dict[str, str], tmp_path: Path, signals: int
) -> None:
    """It exits with 143, stops its Postgres, and reports the stored rows, which are not encoded again."""
    place = f"pgvector:{tmp_path}/index?table=docs"
    with ingesting(command, environment, place) as child:
        server = postgres_of(tmp_path)
        assert server is not None
        for _ in range(signals):
            os.kill(child.pid, signal.SIGTERM)
            time.sleep(0.05)
        said = ended(child)
    assert "Traceback" not in said
    assert said.count("\n") - said.count("ingesting: ") == 1  # apart from a line of progress every ten seconds
    last = said.splitlines()[-1]
    assert last.startswith("error: interrupted; ")
    assert "chunks of this run are stored so far; run the same command again to continue" in last
    assert postgres_of(tmp_path) is None
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
    arguments = ["ingest", "-", "--to", place, "--format", "jsonl", "--id", "key", "--json"]
    done = json.loads(run(*arguments, given=rows(_ROWS)).stdout)
    assert done["unchanged"] >= 1_000
    assert done["encoded"] == done["written"] == _ROWS - done["unchanged"]


@pytest.mark.parametrize(
    "prefix",
    [
        pytest.param([], id="by itself"),
        pytest.param(
            _NAMESPACE,
            id="process 1",  # in a container without an init: the kernel drops every signal that it does not handle
            marks=pytest.mark.skipif(not _CAN_ISOLATE, reason="unshare cannot make a PID namespace here"),
        ),
    ],
)
def test_a_command_that_waits_for_a_database(
    command: list[str], environment: dict[str, str], prefix: list[str]
) -> None:
    """A command that waits for a silent server ends at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"postgresql://nobody@127.0.0.1:{server.getsockname()[1]}/none?table=docs"
        with subprocess.Popen([*prefix, *command, "info", place], env=environment, stderr=subprocess.PIPE) as child:
            server.settimeout(60)
            connection, _ = server.accept()
            os.kill(_innermost(child.pid), signal.SIGTERM)
            with connection:
                assert "Traceback" not in ended(child)


def _innermost(process: int) -> int:
    """Return a process, or the one that `unshare` started in its place."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return int(children[0]) if children else process


def test_the_previous_signal_handler_is_restored() -> None:
    """A program that runs the command in its process keeps its handler."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="terminated"), terminable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    assert code_of_interrupt(130) == 143
    with terminable():
        assert code_of_interrupt(130) == 130
