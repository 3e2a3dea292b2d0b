"""Worker processes: started, given blocks, and replaced when they die."""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from math import ceil, log2
from time import monotonic
from types import TracebackType
from typing import IO, Self, cast

from harrier_core.errors import WorkersDied
from harrier_core.plurals import counted
from harrier_core.records import Ingestible, IngestReport
from harrier_core.scaling.messages import Begin, Done, Failed, Message, Ready, Told, Work, pickled, send
from harrier_core.scaling.part import PartReport
from harrier_core.scaling.tries import Step, given_up, next_step
from harrier_core.scaling.worker import AT_ONCE

log = logging.getLogger(__name__)

# A separate program, not a child that imports the main program: an unguarded one would start again.
_PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "  # Ctrl-C reaches them all; the parent ends them
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from harrier_core.scaling.worker import main; main()"
)
_STARTS = 3  # consecutive workers that die before they are ready
_GRACE = 10.0  # seconds for a worker to close what it has open


@dataclass(slots=True, eq=False)
class Block:
    """Records that are ingested together."""

    number: int
    records: Sequence[Ingestible]
    suspected: bool = False  # part of a block that was halved
    deaths: int = 0  # of processes in which it was under way
    begun: float = field(default_factory=monotonic)

    def halves(self, number: Iterator[int]) -> list[Block]:
        """Return the two halves of the block."""
        middle = len(self.records) // 2
        return [Block(next(number), half, suspected=True) for half in (self.records[:middle], self.records[middle:])]


@dataclass(slots=True, eq=False)
class _Process:
    popen: subprocess.Popen[bytes]
    requests: IO[bytes]
    listener: threading.Thread = field(init=False)
    blocks: dict[int, Block] = field(default_factory=dict)  # under way
    ready: bool = False
    alone: bool = False  # with one block, which may have killed its process before

    def has_room(self) -> bool:
        return self.ready and not self.alone and len(self.blocks) < AT_ONCE

    def say(self, message: Begin | Work | None) -> None:
        """Send a message. A process that has died is noticed elsewhere."""
        with suppress(OSError):
            send(self.requests, message)

    def end(self, *, kindly: bool) -> None:
        """Make it end. `kindly`: let it first close what it has open."""
        if kindly:
            self.say(None)
        else:
            self.popen.terminate()

    def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        try:
            self.popen.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
        with suppress(OSError):  # of requests that it did not read
            self.requests.close()
        self.listener.join()
        return self.popen.wait()


class Crew:
    """The workers of one ingest. It is a context manager; one thread uses it."""

    def __init__(
        self, begin: Begin, environments: Sequence[Mapping[str, str]], on_done: Callable[[int, float], None]
    ) -> None:
        """Take the first message for each worker, and the environment that each is started with.

        on_done: called with the number of records of each block that is done, and the seconds that it took.
        """
        self._on_done = on_done
        self._begin = begin
        self._environments = environments
        self._processes: list[_Process] = []
        self._events: queue.SimpleQueue[tuple[_Process, Message | None]] = queue.SimpleQueue()
        self._waiting: deque[Block] = deque()  # blocks that were under way in a process that died
        self._given_up: list[PartReport] = []
        self._numbers = count()
        self._progress: dict[int, IngestReport] = {}
        self._deaths = self._starts = 0  # in a row
        self._largest = 1

    def __enter__(self) -> Self:
        self._processes = [self._started(environment) for environment in self._environments]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._processes:
            each.end(kindly=error is None)
        for each in self._processes:
            each.wait()

    # -- blocks

    def has_room(self) -> bool:
        """Whether a worker can be given a block."""
        return not self._waiting and any(each.has_room() for each in self._processes)

    def is_idle(self) -> bool:
        """Whether every block that was given is done."""
        return not self._waiting and not self._given_up and not any(each.blocks for each in self._processes)

    def give(self, records: Sequence[Ingestible]) -> None:
        """Give a block to a worker; there must be room."""
        number = next(self._numbers)
        self._largest = max(self._largest, len(records))
        process = min((each for each in self._processes if each.has_room()), key=lambda each: len(each.blocks))
        self._run(process, Block(number, records))

    def under_way(self) -> IngestReport:
        """Return the progress of blocks that are not done yet."""
        return sum(self._progress.values(), IngestReport())

    def wait(self, seconds: float) -> list[PartReport]:
        """Wait up to `seconds` for a message, and return the reports of blocks that are done."""
        done, self._given_up = self._given_up, []
        with suppress(queue.Empty):
            process, message = self._events.get(timeout=0.0 if done else seconds)
            done += self._heard(process, message)
        self._retry()
        return done

    def _heard(self, process: _Process, message: Message | None) -> list[PartReport]:
        match message:
            case None:
                self._replace(process)
            case Ready():
                process.ready, self._starts = True, 0
            case Told(number, report):
                if number in process.blocks:
                    self._progress[number] = report
            case Failed(error):
                raise error
            case Done(number, report):
                block = process.blocks.pop(number)
                self._on_done(len(block.records), monotonic() - block.begun)
                self._progress.pop(number, None)
                process.alone, self._deaths = False, 0
                return [report]
        return []

    def _run(self, process: _Process, block: Block) -> None:
        process.blocks[block.number] = block
        process.say(Work(block.number, pickled(block.records)))

    def _retry(self) -> None:
        """Give blocks that were under way in a dead process to idle workers, one block each."""
        for process in self._processes:
            if self._waiting and process.ready and not process.blocks:
                process.alone = True
                self._run(process, self._waiting.popleft())

    # -- processes

    def _started(self, environment: Mapping[str, str]) -> _Process:
        command = [sys.executable, "-c", _PROGRAM]
        popen = subprocess.Popen(  # noqa: S603  # our own program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **environment}
        )
        requests, answers = cast("IO[bytes]", popen.stdin), cast("IO[bytes]", popen.stdout)
        process = _Process(popen, requests)
        process.listener = threading.Thread(target=self._listen, args=(process, answers), daemon=True)
        process.listener.start()
        with suppress(OSError):
            pickle.dump(sys.path, requests)
        process.say(self._begin)
        return process

    def _listen(self, process: _Process, answers: IO[bytes]) -> None:
        with answers:
            try:
                while True:
                    self._events.put((process, pickle.load(answers)))  # noqa: S301  # our own worker wrote it
            except (EOFError, OSError, pickle.UnpicklingError):  # it ended, perhaps in the middle of a message
                self._events.put((process, None))

    def _replace(self, dead: _Process) -> None:
        """Start another worker in place of a dead one. Blocks that were under way there are tried again."""
        status = _status(dead.wait())
        self._deaths += 1
        self._starts += not dead.ready
        most = 2 * len(self._processes) * (2 * ceil(log2(self._largest)) + 2)  # twice what one bad record takes
        if self._starts >= _STARTS or self._deaths > most:
            raise WorkersDied(
                f"the worker processes keep dying, the last one {status}; see their standard error "
                "for the reason; with fewer workers, each has more memory"
            )
        records = sum(len(block.records) for block in dead.blocks.values())
        log.warning("a worker process died, %s; retrying %s", status, counted(records, "record"))
        for number in dead.blocks:
            self._progress.pop(number, None)
        for block in reversed(dead.blocks.values()):
            self._suspect(block)
        at = self._processes.index(dead)
        self._processes[at] = self._started(self._environments[at])

    def _suspect(self, block: Block) -> None:
        """Queue a block again, or its halves, or give up on its only record."""
        block.deaths += 1
        step = next_step(len(block.records), block.deaths, suspected=block.suspected)
        if step is Step.RUN:
            self._waiting.appendleft(block)
        elif step is Step.HALVE:
            self._waiting.extendleft(reversed(block.halves(self._numbers)))
        else:
            self._given_up.append(given_up(block.records[0], block.deaths))


def _status(code: int) -> str:
    """Return in words how a process ended."""
    if code >= 0:
        return f"with exit status {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (", which the system sends when memory runs out" if name == "SIGKILL" else "")
