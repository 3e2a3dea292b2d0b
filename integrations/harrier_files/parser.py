"""Complex formats, read in a process that can be killed, so that one hostile file cannot stop the rest.

The process is started for the first such file and stays for the others. It has a memory limit, and a time limit per
file; a file that exceeds one is unreadable, and the next file gets a new process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from harrier_files.formats import Document, Given, check_installed
from harrier_files.limits import Unreadable

# The time limit for a file, with the same number of seconds again for each `_BYTES` bytes; the memory limit.
SECONDS, MEMORY = 60.0, 2 * 10**9
_BYTES = 50 * 10**6
_TO_DIE = 5.0
_TO_START = 120.0  # seconds for the process to start, on a busy machine


class Parser:
    """The process, from the point of view of the reader."""

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self._seconds = seconds
        self._memory = memory
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, kind: str, given: Given) -> Document:
        """Return the text and the metadata of a file's content."""
        check_installed(kind)
        if self._process is None or self._process.poll() is not None:
            self._start()
        process = self._process
        assert process is not None  # noqa: S101
        seconds = self._seconds * (1 + len(given.content) // _BYTES)
        request = {
            "kind": kind,
            "size": len(given.content),
            "most": given.most,
            "encoding": given.encoding,
            "seconds": seconds,
        }
        try:
            with _killed_after(seconds, process) as late:
                answer = _exchange(process, request, given.content)
        except (OSError, EOFError, ValueError):
            with suppress(subprocess.TimeoutExpired):  # it is about to die, for a reason worth reporting
                process.wait(_TO_DIE)
            raise Unreadable(_why(self._end(), seconds, late=late.is_set())) from None
        except BaseException:  # interrupted: the next file must not get this one's answer
            self._end()
            raise
        if late.is_set():  # a moment after its answer
            self._end()
        if isinstance(answer, str):
            raise Unreadable(answer)
        return answer

    def _start(self) -> None:
        self._end()
        command = [sys.executable, "-P", "-m", "harrier_files.parsing", str(self._memory)]
        # It finds the same modules as this process, but none in the folder in which it is started. In its own session:
        # a terminal's Ctrl-C is meant for us, and it ends with its standard input.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        assert self._process.stdout is not None  # noqa: S101
        with _killed_after(_TO_START, self._process):
            self._process.stdout.readline()  # written once it has started: a file's time begins then

    def _end(self) -> int:
        """End the process, and return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        return process.wait()

    def close(self) -> None:
        """End the process; the next file starts another one."""
        self._end()


@contextmanager
def _killed_after(seconds: float, process: subprocess.Popen[bytes]) -> Iterator[threading.Event]:
    """Kill the process if it is late, which is signalled by the event."""
    late = threading.Event()

    def kill() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()


def _exchange(process: subprocess.Popen[bytes], request: dict[str, Any], content: bytes) -> Document | str:
    """Return the document, or the reason why it cannot be read."""
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None and stdout is not None  # noqa: S101, PT018
    stdin.write(json.dumps(request).encode() + b"\n" + content)
    stdin.flush()
    answer = json.loads(stdout.readline() or b"null")
    if answer is None:
        raise EOFError
    if "reason" in answer:
        if answer.get("spent"):  # of its memory: the next file gets a new process
            process.kill()
            process.wait()
        return str(answer["reason"])
    text = stdout.read(answer["size"])
    if len(text) < answer["size"]:
        raise EOFError
    marks = {name: (offsets, values) for name, (offsets, values) in answer["marks"].items()}
    return Document(text.decode("utf-8", "surrogatepass"), answer["metadata"], marks, answer["lined"])


def _why(code: int, seconds: float, *, late: bool) -> str:
    if late or code == -getattr(signal, "SIGXCPU", 0):
        return f"takes more than {seconds:g} seconds to read; convert it to text"
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"cannot be read: its parser crashed ({name}), perhaps because memory ran out; convert it to text"
