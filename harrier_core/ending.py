"""The end of the process: work under way when the main thread ends is finished soon, or fails with a reason.

Python joins the threads of executors and all non-daemon threads before it exits, and starts nothing new in the
meantime. A thread that waited for vectors then would wait forever, and the process with it.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  # its executors register before us
import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakSet

from harrier_core.errors import ProcessEnding

# Short calls, such as the last requests of a server, are answered. What takes longer fails.
_GRACE = 3.0

_ENDING = "this process is shutting down, because its main thread has ended; join the encoding threads before that"


class Worker(Protocol):
    """Something that other threads wait for."""

    def waited_for(self) -> Iterable[Future[Any]]:
        """Return the results that other threads wait for; nothing is added to them once the process ends."""


class _Process:
    """Whether this process is ending, and which workers it has; both are reset in a forked child."""

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)
        # `atexit` is too late: its functions run once all threads have been joined. The last function registered here
        # runs first, and executors, which join their threads, registered theirs when their module was imported.
        try:
            threading._register_atexit(self._end)  # type: ignore[attr-defined]
        except RuntimeError:  # imported by a thread that outlives the main one
            self.ends = True

    def _reset(self) -> None:
        self.ends = False
        self.workers: WeakSet[Worker] = WeakSet()

    def _end(self) -> None:
        self.ends = True
        waited_for = [future for worker in list(self.workers) for future in worker.waited_for()]
        for future in wait(waited_for, _GRACE).not_done:
            with suppress(Exception):  # it was just answered
                future.set_exception(ProcessEnding(_ENDING))


_process = _Process()


def watch(worker: Worker) -> None:
    """End the futures that wait for this worker when the process ends."""
    _process.workers.add(worker)


def refuse_at_end() -> None:
    """Raise if this process is ending: work begun now would never be finished."""
    if _process.ends:
        raise ProcessEnding(_ENDING)
