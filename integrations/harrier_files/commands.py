"""Users' own commands that turn a file into text."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from harrier_core import SettingError
from harrier_files.limits import Unreadable, read_at_most

_FILE = "{}"
_SUFFIX = re.compile(r"\.?([\w.+-]*\w)=(.+)", re.DOTALL)
_TOLD = 4_096  # bytes from the end of a command's standard error
_LINE = 200  # characters of it that are quoted
SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Command:
    """A command that prints the text of a file, and the suffix of the files that it is for; None for all."""

    arguments: tuple[str, ...]
    suffix: str | None = None

    def text(self, path: str, most: int, seconds: float = SECONDS) -> bytes:
        """Return the command's output for a file. No shell is involved: a file's name is one argument."""
        arguments = [each.replace(_FILE, path) for each in self.arguments]
        try:
            process = subprocess.Popen(  # noqa: S603  # the user's own command
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise Unreadable(f"is not read: {self.arguments[0]} cannot be run: {error.strerror}") from None
        return _Running(process, self.arguments[0], seconds).text(most)


class _Running:
    """A running command, which is killed with its children if it is late or no longer needed."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, seconds: float) -> None:
        self._process, self._name, self._seconds = process, name, seconds
        self._late = False
        self._errors = b""

    def text(self, most: int) -> bytes:
        """Return the command's output."""
        process = self._process
        assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018
        listening = threading.Thread(target=self._listen, args=[process.stderr], daemon=True)
        timer = threading.Timer(self._seconds, self._is_late)
        timer.daemon = True
        listening.start()
        timer.start()
        try:
            with process.stdout:
                printed = read_at_most(process.stdout, most)
            process.wait()
        finally:
            timer.cancel()
            timer.join()
            self._kill()
            listening.join()
            process.stderr.close()
            process.wait()
        if self._late:
            raise Unreadable(f"takes {self._name} more than {self._seconds:g} seconds to read")
        if process.returncode:
            raise Unreadable(f"is not read: {self._name} {_ended(process.returncode)}{_last_line(self._errors)}")
        return printed

    def _listen(self, errors: IO[bytes]) -> None:
        with suppress(ValueError, OSError):
            while block := errors.read1(_TOLD):  # type: ignore[attr-defined]
                self._errors = (self._errors + block)[-_TOLD:]

    def _is_late(self) -> None:
        self._late = True
        self._kill()

    def _kill(self) -> None:
        """Kill it and everything that it started."""
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()


def _ended(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _last_line(said: bytes) -> str:
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        return ""
    return ": " + " ".join("".join(each if each.isprintable() else " " for each in lines[-1]).split())[:_LINE]


def parse_commands(said: Sequence[str]) -> tuple[Command, ...]:
    """Return the commands in "rtf=unrtf --text {}", or in "COMMAND {}" for all files."""
    return tuple(_parsed(each) for each in said)


def _parsed(said: str) -> Command:
    found = _SUFFIX.fullmatch(said.strip())
    suffix, command = (f".{found[1].lower()}", found[2]) if found else (None, said)
    try:
        arguments = tuple(shlex.split(command))
    except ValueError as error:
        raise SettingError(f"--reader must be a command as a shell takes it, got {said!r}: {error}") from None
    if not any(_FILE in each for each in arguments[1:]):
        raise SettingError(
            f"--reader must be 'COMMAND {{}}' or 'SUFFIX=COMMAND {{}}', {{}} being the file, got {said!r}"
        )
    if shutil.which(arguments[0]) is None:
        raise SettingError(f"--reader {arguments[0]!r} was not found; install it, or give its path")
    return Command(arguments, suffix)
