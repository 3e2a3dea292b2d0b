"""Helpers of tests that kill an ingest: the process to be killed, and the run that completes it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Any, NamedTuple

from harrier_pgvector.embedded import start
from ingesting import after, before, run

INGESTING = Path(__file__).with_name("ingesting.py")


class Clean(NamedTuple):
    """The result and duration of a run that is not killed."""

    content: list[Any]
    seconds: float


class Place(ABC):
    """A place of tables or collections. Tests kill ingests into copies of the one that is named "before"."""

    def __init__(self, address: str, of_processes: str | None = None) -> None:
        self.address = address  # as ingesting.py takes it
        self._of_processes = of_processes or address  # the same place, as given to processes to be killed

    @abstractmethod
    def copy_before(self, name: str) -> None:
        """Copy the state before the ingest to another table or collection."""

    @abstractmethod
    def content(self, name: str) -> list[Any]:
        """Return everything in order: record id, number and text first, hash and vector last."""

    @abstractmethod
    def killed_is_over(self) -> None:
        """Wait until everything that a killed process started has ended."""

    def make_before(self) -> None:
        run(self.address, "before", before())

    def ingesting(self, name: str, step: str = "none", occurrence: int = 1) -> subprocess.Popen[str]:
        """Start a process that ingests, and wait until it has begun."""
        process, output = self._begun(name, step, occurrence)
        output.close()
        return process

    def _begun(self, name: str, step: str = "none", occurrence: int = 1) -> tuple[subprocess.Popen[str], IO[str]]:
        command = [sys.executable, "-W", "ignore", str(INGESTING), self._of_processes, name, step, str(occurrence)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "begin\n"
        return process, process.stdout

    def run_cleanly(self) -> Clean:
        """Run one ingest without a kill."""
        taken = []
        for _ in range(3):  # other work on the machine may slow down one
            self.copy_before("clean")
            process, output = self._begun("clean")
            begin = time.monotonic()
            with output:
                assert output.readline() == "end\n"
            taken.append(time.monotonic() - begin)  # without the interpreter's shutdown, which takes as long again
            assert process.wait(60) == 0
        content = self.content("clean")
        assert content != self.content("before")
        assert len({record_id for record_id, *_ in content}) == 210
        return Clean(content, min(taken))

    def converges(self, name: str, clean: Clean) -> bool:
        """Run again, check the result against a clean run, and return whether anything was encoded."""
        self.killed_is_over()
        stored = {(record_id, number): hash_[:16] for record_id, number, *_, hash_, _ in self.content(name)}
        missing = [
            text
            for record_id, number, text, *_, hash_, _ in clean.content
            if stored.get((record_id, number)) != hash_[:16]
        ]
        encoder = run(self.address, name, after())
        assert self.content(name) == clean.content
        assert sorted(encoder.encoded) == sorted(missing)
        return bool(missing)


def kill_server(folder: Path) -> None:
    """Kill Postgres with `kill -9`, and start it again."""
    os.kill(int((folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    with (folder / ".harrier" / "watcher").open("r+") as file:  # wait until the watcher has noticed
        fcntl.flock(file, fcntl.LOCK_EX)
    _, leave = start(folder)
    leave()
