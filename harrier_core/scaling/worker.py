"""A worker process of an ingest: it ingests blocks until its standard input ends.

It ends at once when its parent process does: whatever is stored by then stays stored, and the rest is done again.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from harrier_core.errors import HarrierError, SettingError
from harrier_core.records import IngestReport
from harrier_core.scaling.messages import Begin, Done, Failed, Message, Ready, Told, Work, send
from harrier_core.scaling.part import IngestPart

AT_ONCE = 2  # blocks: while one of them is planned and written, the other one is encoded


def main() -> None:
    """Run a worker process."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the output of libraries must not mix with the answers
    _Worker(answers).run(sys.stdin.buffer)


class _Worker:
    def __init__(self, answers: IO[bytes]) -> None:
        self._answers = answers
        self._lock = threading.Lock()
        self._part: IngestPart
        self._remember = False

    def run(self, requests: IO[bytes]) -> None:
        """Ingest blocks, two at a time, until there are no more."""
        try:
            begin: Begin = pickle.load(requests)  # noqa: S301  # the parent process wrote it
            self._remember = begin.remember
            self._part = pickle.loads(begin.part)  # noqa: S301
            self._part.space  # noqa: B018  # opens the store
        except Exception as error:  # raised again where the ingest was called
            self._say(Failed(_sendable(error)))
            return
        self._say(Ready())
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="harrier-block") as threads:
            while (work := self._next(requests)) is not None:
                threads.submit(self._ingest, work)
        self._part.close()

    @staticmethod
    def _next(requests: IO[bytes]) -> Work | None:
        """Return the next block, or None at the explicit end. Exit if the pipe just ends: the parent is dead."""
        try:
            work: Work | None = pickle.load(requests)  # noqa: S301
        except (EOFError, pickle.UnpicklingError):
            os._exit(1)
        return work

    def _ingest(self, work: Work) -> None:
        def tell(report: IngestReport) -> None:
            self._say(Told(work.number, report))

        try:
            records = pickle.loads(work.records)  # noqa: S301
            self._say(Done(work.number, self._part(records, on_progress=tell, remember=self._remember)))
        except BaseException as error:
            self._say(Failed(_sendable(error)))

    def _say(self, message: Message) -> None:
        with self._lock:
            try:
                send(self._answers, message)
            except BrokenPipeError:
                os._exit(1)


def _sendable(error: BaseException) -> BaseException:
    """Return an error that can be unpickled where the ingest was called: the same, or one with its message."""
    if isinstance(error, AttributeError) and "__main__" in str(error):
        return SettingError(
            f"a worker process cannot import from the main program ({error}); put the class in a module"
        )
    try:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301
        if str(again) == str(error):
            return error
    except Exception:  # noqa: S110
        pass
    return HarrierError(f"{type(error).__name__} in a worker process: {error}")
