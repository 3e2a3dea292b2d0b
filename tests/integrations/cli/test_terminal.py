"""What is beside a command: a reader that goes, a terminal that watches, Ctrl-C in the midst of an ingest."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def rows(number: int) -> bytes:
    return b"".join(
        json.dumps({"key": f"r{each}", "text": f"text {each % 9}"}).encode() + b"\n" for each in range(number)
    )


@pytest.mark.parametrize("place", ["postgres", "edge"], indirect=True)
def test_ctrl_c(run: Run, command: list[str], environment: dict[str, str], place: str) -> None:
    """As a terminal sends it, to the whole group: what is stored is told, stays, and is not encoded again."""
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [*command, "ingest", "-", "--to", place, "--format", "jsonl", "--id", "key"],
        stdin=subprocess.PIPE,
        stderr=slave,
        env=environment,
        start_new_session=True,
    )
    os.close(slave)
    assert child.stdin is not None
    seen = threading.Event()
    writing = ThreadPoolExecutor(1)
    written = writing.submit(_write_until, child.stdin, seen)
    shown = _until(master, child, " records, ")
    seen.set()
    number = written.result()
    os.killpg(child.pid, signal.SIGINT)
    shown += _until(master, child, None)
    assert child.wait(30) == 130
    child.stdin.close()
    assert "Traceback" not in shown
    os.close(master)
    assert re.search(
        r"error: interrupted; [\d,]+ chunks of this run are known to be stored, and the same command run again goes on "
        r"from there\r\n$",
        shown,
    )
    again = ["ingest", "-", "--to", place, "--format", "jsonl", "--id", "key", "--json"]
    told = run(*again, given=rows(number + 100))
    assert told.stderr == ""  # it takes more than a second, but there is no terminal to show a bar to
    done = json.loads(told.stdout)
    assert done["written"] + done["unchanged"] == number + 100
    assert done["unchanged"] >= 1_000
    assert done["encoded"] == done["written"] >= 100


def _write_until(pipe: IO[bytes], seen: threading.Event) -> int:
    """Rows, and some more of them now and then, for a bar is shown when there is progress; how many those were."""
    number = 4_500  # more than the windows that are under way at once: a thousand must be stored
    pipe.write(rows(number))
    pipe.flush()
    while not seen.wait(0.3):
        pipe.write(rows(number + 1_000)[len(rows(number)) :])
        pipe.flush()
        number += 1_000
    return number


def test_a_reader_that_goes(command: list[str], environment: dict[str, str]) -> None:
    """`| head`: quiet, with the code of a broken pipe."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    child = subprocess.Popen([*command, "embed"], **pipes, env=environment)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdin.write(b"a line\n" * 1_000)
    child.stdin.flush()
    assert child.stdout.readline().startswith(b'{"line": 1, ')
    child.stdout.close()
    child.stdin.close()
    assert child.stderr.read() == b""
    assert child.wait(30) == 141
    child.stderr.close()


def test_a_terminal_that_watches(command: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    """After a second there is a bar, with rate and time left, and at the end it is gone; the result is a line."""
    (tmp_path / "rows.csv").write_text(
        "text\n" + "".join(f"line {each} about a harrier\n" for each in range(2_500)), encoding="utf-8"
    )
    master, slave = pty.openpty()
    place = f"qdrant:{tmp_path}/qdrant"
    child = subprocess.Popen(
        [*command, "ingest", "rows.csv", "--to", place],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**environment, "TERM": "xterm-256color"},
        cwd=tmp_path,
    )
    os.close(slave)
    shown = _until(master, child, None)
    os.close(master)
    assert child.stdout is not None
    assert b"2,500 chunks written" in child.stdout.read()
    child.stdout.close()
    assert child.wait(30) == 0
    assert "ingesting" in shown
    assert re.search(r"[\d,]+ records, [\d,]+ a second", shown)
    assert re.search(r"\d:\d\d:\d\d", shown)
    assert "Traceback" not in shown


def _until(master: int, child: subprocess.Popen[bytes], sign: str | None) -> str:
    """What a pseudo-terminal shows until it shows a sign, or until the process has ended."""
    shown = b""
    while sign is None or sign.encode() not in shown:
        ready, _, _ = select.select([master], [], [], 0.2)
        if not ready:
            if child.poll() is not None:
                break
            continue
        try:
            shown += os.read(master, 65_536)
        except OSError:  # nobody has the other end open any more
            break
    return shown.decode(errors="replace")
