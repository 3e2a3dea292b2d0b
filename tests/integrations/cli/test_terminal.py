"""The environment of a command: closed pipes, terminals, and Ctrl-C during an ingest."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest
from slowly import quick

Run = Callable[..., subprocess.CompletedProcess[str]]


def rows(number: int) -> bytes:
    return b"".join(
        json.dumps({"key": f"r{each}", "text": f"text {each % 9}"}).encode() + b"\n" for each in range(number)
    )


@pytest.mark.parametrize("place", quick(["postgres", "edge"], "postgres"), indirect=True)
def test_ctrl_c(run: Run, command: list[str], environment: dict[str, str], place: str) -> None:
    """Stored rows are reported and kept, and are not encoded again."""
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
    shown = _until(master, child, " chunks")
    seen.set()
    number = written.result()
    os.killpg(child.pid, signal.SIGINT)
    shown += _until(master, child, None)
    assert child.wait(30) == 130
    child.stdin.close()
    assert "Traceback" not in shown
    os.close(master)
    assert re.search(
        r"error: interrupted; [\d,]+ chunks of this run are stored so far; run the same command again to continue\r\n$",
        shown,
    )
    again = ["ingest", "-", "--to", place, "--format", "jsonl", "--id", "key", "--json"]
    told = run(*again, given=rows(number + 100))
    lines = told.stderr.splitlines()  # it takes more than a second, but there is no terminal to show a bar to
    assert all(line.startswith("ingesting: ") for line in lines)  # every ten seconds
    done = json.loads(told.stdout)
    assert done["written"] + done["unchanged"] == number + 100
    assert done["unchanged"] >= 1_000
    assert done["encoded"] == done["written"] >= 100


def _write_until(pipe: IO[bytes], seen: threading.Event) -> int:
    """Write rows at intervals, so that progress is shown, and return their number."""
    number = 4_500  # more than the windows that are under way at once: a thousand must be stored
    pipe.write(rows(number))
    pipe.flush()
    while not seen.wait(0.3):
        pipe.write(rows(number + 1_000)[len(rows(number)) :])
        pipe.flush()
        number += 1_000
    return number


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a signal is sent to one thread as only Linux lets one do it")
@pytest.mark.parametrize("source", quick(["embed", "ingest -", "ingest pipe.jsonl"], "ingest -"))
def test_ctrl_c_that_the_wait_for_input_misses(
    command: list[str], environment: dict[str, str], tmp_path: Path, source: str
) -> None:
    """A signal just before a read, or delivered to another thread, still ends the command."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    pipe = os.open(tmp_path / "pipe.jsonl", os.O_RDWR)  # which never ends, then
    arguments = source.split() if source == "embed" else [*source.split(), "--to", f"qdrant:{tmp_path}/qdrant"]
    child = subprocess.Popen(
        [*command, *arguments, *(["--format", "jsonl", "--id", "key"] if source == "ingest -" else [])],
        stdin=pipe,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=tmp_path,
    )
    os.write(pipe, rows(1_010))  # one window, so that there is an engine, and its threads
    try:
        _wait_until_it_waits_for_input(child.pid, pipe)
        os.kill(_threads(child.pid)[-1], signal.SIGINT)
        _, told = child.communicate(timeout=60)
    finally:
        child.kill()
        os.close(pipe)
    assert b"error: interrupted" in told
    assert child.returncode == 130


def _threads(process: int) -> list[int]:
    return sorted(int(each.name) for each in Path(f"/proc/{process}/task").iterdir())


def _wait_until_it_waits_for_input(process: int, pipe: int) -> None:
    """Wait until a process has emptied a pipe and its main thread sleeps."""
    slept = 0
    while slept < 20:
        left = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]
        sleeps = Path(f"/proc/{process}/task/{process}/stat").read_text().rpartition(")")[2].split()[0] == "S"
        slept = slept + 1 if sleeps and not left and len(_threads(process)) > 2 else 0
        time.sleep(0.05)


def test_a_broken_pipe(command: list[str], environment: dict[str, str]) -> None:
    """`| head` ends quietly, with the code of a broken pipe."""
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


@pytest.mark.slow
def test_the_progress_bar(command: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    """It appears after a second with rate and time left, and disappears at the end."""
    # The time left is known once two files were read at different times, and there is one more to read. The pipe holds
    # the command up before that one, until all has been seen.
    for name, number in (("a", 2_000), ("b", 4_000), ("c", 2_000)):
        (tmp_path / f"{name}.jsonl").write_bytes(rows(number))
    os.mkfifo(tmp_path / "pipe.jsonl")
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [*command, "ingest", "a.jsonl", "b.jsonl", "pipe.jsonl", "c.jsonl", "--to", f"qdrant:{tmp_path}/qdrant"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**environment, "TERM": "xterm-256color"},
        cwd=tmp_path,
    )
    os.close(slave)
    seen = threading.Event()
    descriptor = os.open(tmp_path / "pipe.jsonl", os.O_RDWR)  # does not wait for another process to open it
    with os.fdopen(descriptor, "wb") as pipe, ThreadPoolExecutor(1) as writing:
        written = writing.submit(_write_until, pipe, seen)
        shown = _until(master, child, r" chunks, [\d,]+ tokens/s")
        shown += _until(master, child, r"\d+ (s|min) left")
        seen.set()
        number = written.result()
    shown += _until(master, child, None)
    os.close(master)
    assert child.stdout is not None
    assert f"{number + 8_000:,} chunks written" in child.stdout.read().decode()
    child.stdout.close()
    assert child.wait(30) == 0
    assert "ingesting" in shown
    assert re.search(r"\d+ %, [\d,]+ of ~?[\d,]+ chunks, [\d,]+ tokens/s, \d+ (s|min) left", shown)
    assert shown.endswith("\x1b[2K")  # the line is empty again
    assert "Traceback" not in shown


def _until(master: int, child: subprocess.Popen[bytes], sign: str | None) -> str:
    """Return the output of a pseudo-terminal until a pattern occurs or the process ends."""
    shown = b""
    while sign is None or not re.search(sign.encode(), shown):
        ready, _, _ = select.select([master], [], [], 0.2)
        if not ready:
            if child.poll() is not None:
                break
            continue
        try:
            shown += os.read(master, 65_536)
        except OSError:  # the other end is closed
            break
    return shown.decode(errors="replace")


@pytest.mark.usefixtures("docs")
def test_progress_without_a_terminal(call: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Progress is a line at intervals, unless --quiet is given."""
    monkeypatch.setattr("harrier_cli.progress._EVERY", 0.0)
    place = f"qdrant:{tmp_path}/log"
    told = call("ingest", "docs", "--to", place, code=1).stderr
    assert re.search(r"(?m)^ingesting: \d+ %, \d+ of ~?\d+ chunks", told)
    assert re.search(r"(?m)^verifying: 100 %, 3 of 3 chunks, [\d,]+/s, 0 s left$", call("verify", place).stderr)
    assert "ingesting" not in call("ingest", "docs", "--to", place, "--reread", "--quiet", code=1).stderr
