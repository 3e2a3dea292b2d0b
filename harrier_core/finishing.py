"""The second half of an ingest: planned chunks are encoded and written, a slice of some records at a time.

A slice takes about a second to encode, so a crash costs little. Each slice is encoded while earlier ones are written. A
record is never split: a reader must see all of it or none.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from harrier_core.embedder import Encoded
from harrier_core.errors import BadVectors, EncoderClosed, InputError, OutOfMemory, StoreError, positions_of_all
from harrier_core.memory import Journal
from harrier_core.pacing import Pace, parts
from harrier_core.planning import Plan, Portions, plan
from harrier_core.records import IngestReport
from harrier_core.store import IngestStore, Written

if TYPE_CHECKING:
    from harrier_core.types import Vector, Vectors

# Three slices are being written, so that the database stays busy while rows are prepared and commits are awaited; one
# is being encoded; one waits for the model.
_WRITERS, _THREADS = 3, 5
# Errors of an embedder that concern only some of the texts: the others can be encoded.
_OF_TEXTS = (InputError, BadVectors, OutOfMemory)
# How often another process may change the same records before that is an error.
_ATTEMPTS = 20
# A slice of more than this many times the pace is a long record: it is encoded in parts, which are kept in a journal.
_LONG = 2

Submit = Callable[[Sequence[str], Sequence["Vector"]], "Future[Encoded]"]


@dataclass(slots=True)
class Done:
    """The result of a slice, or of a part of one."""

    report: IngestReport
    stored: Plan | None = None  # its records are all in the store now, as planned


@dataclass(slots=True, eq=False)
class _Window:
    """Work that was planned together."""

    portions: Portions
    given: Mapping[str, Vector]  # vectors that came with the records, by their ids
    under_way: int = 0  # slices


@dataclass(slots=True)
class _Slice:
    """Part of a window's plan, being encoded or written."""

    plan: Plan
    given: Mapping[str, Vector]  # vectors that came with the records, by their ids
    report: IngestReport = field(default_factory=IngestReport)
    waiting: int = 0  # chunks that were reported as pending, and not yet as encoded
    compared: Future[Encoded] | None = None  # given vectors, once they were compared

    def reject(self, reasons: Mapping[int, str]) -> None:
        """Reject the records of these texts: what is stored of them stays as it is."""
        wrong = {self.plan.encoded[position].record_id: reason for position, reason in reasons.items()}
        self.report.rejected += wrong.items()
        self.plan = self.plan.without(wrong)

    def wrote(self, written: Written) -> Plan:
        """Count what was written, and return that part of the plan: without rejected, changed and lost records."""
        self.report.rejected += written.rejected.items()
        left = {*written.rejected, *written.changed, *written.lost}
        done = self.plan.without(left) if left else self.plan
        self.report.encoded += 0 if self.given else len(done.encoded)
        self.report.written += len(done.encoded) + len(done.described)
        self.report.deleted += written.deleted
        return done


class Finishing:
    """Encodes and writes added plans on its own threads. It is a context manager: leaving it waits for them."""

    def __init__(self, store: IngestStore, submit: Submit, journal: Journal, *, in_slices: bool) -> None:
        self._store = store
        self._submit_texts = submit
        self._journal = journal
        self._pace = Pace() if in_slices else None
        self._changed = threading.Condition()
        self._planned: deque[_Window] = deque()
        self._unfinished: set[_Window] = set()
        self._done: list[Done] = []
        self._encoding: set[Future[Encoded]] = set()
        self._error: BaseException | None = None
        self._stopped = False
        self._active = 0  # threads
        self._writing = threading.Semaphore(_WRITERS)
        self._comparing = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="harrier-write")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.stop()
        self._threads.shutdown()

    # -- for the thread that plans

    def add(self, planned: Plan, given: Mapping[str, Vector]) -> None:
        """Queue a window's plan to be encoded and written."""
        with self._changed:
            window = _Window(Portions(planned), given)
            self._planned.append(window)
            self._unfinished.add(window)
            idle, self._active = _THREADS - self._active, _THREADS
        for _ in range(idle):  # threads end when nothing is planned, because a process waits for its threads to end
            self._threads.submit(self._serve)

    def wait(self, most: int, seconds: float) -> bool:
        """Wait up to `seconds` until at most `most` windows are under way; return whether that is the case.

        Raise the error of any thread that failed.
        """
        with self._changed:

            def few() -> bool:
                return len(self._unfinished) <= most or (self._stopped and not self._active)

            self._changed.wait_for(lambda: self._error is not None or few(), seconds)
            if self._error is not None:
                raise self._error
            return few()

    def done(self) -> list[Done]:
        """Return what was done since the last call."""
        with self._changed:
            done, self._done = self._done, []
        return done

    def stop(self) -> None:
        """Stop after the pass under way, and drop everything that has no vectors yet. Any thread may call it."""
        with self._changed:
            self._stopped = True
            self._planned.clear()
            encoding = list(self._encoding)
            self._changed.notify_all()
        for each in encoding:
            each.cancel()

    # -- on its own threads

    def _serve(self) -> None:
        try:
            while (taken := self._next_compared()) is not None:
                window, slice_ = taken
                self._finish(slice_)
                with self._changed:
                    window.under_way -= 1
                    if not (window.under_way or window.portions):
                        self._unfinished.discard(window)
                    self._changed.notify_all()
        except BaseException as error:  # the waiting caller raises it
            self._fail(error)

    def _next_compared(self) -> tuple[_Window, _Slice] | None:
        """Return the next slice. Given vectors are compared in order, so that none after a wrong one is written."""
        if self._pace is not None:
            return self._next()
        with self._comparing:
            taken = self._next()
            if taken is not None:
                with suppress(*_OF_TEXTS):  # they are raised again where the vectors are needed
                    taken[1].compared = self._submit_slice(taken[1])
        return taken

    def _next(self) -> tuple[_Window, _Slice] | None:
        """Return the next slice and its window, or None when this thread has nothing to do."""
        with self._changed:
            if not self._planned or self._stopped:
                self._active -= 1
                self._changed.notify_all()
                return None
            window = self._planned[0]
            planned = window.portions.take(self._pace.most if self._pace else None)
            window.under_way += 1
            if not window.portions:
                self._planned.popleft()
            return window, _Slice(planned, window.given, waiting=len(planned.encoded))

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._active -= 1
            if not self._stopped:
                self._error = error
            self._changed.notify_all()
        self.stop()

    def _tell(self, report: IngestReport, stored: Plan | None = None) -> None:
        with self._changed:
            self._done.append(Done(report, stored))

    def _finish(self, slice_: _Slice) -> None:
        """Encode and write a slice. Records that another writer changed meanwhile are planned again."""
        for _ in range(_ATTEMPTS):
            vectors = self._vectors(slice_)
            with self._writing:
                written = self._store.write(slice_.plan.write(vectors))
            self._tell(IngestReport(), slice_.wrote(written))
            if not written.changed:
                break
            again = {record_id: slice_.plan.chunks[record_id] for record_id in written.changed}
            slice_.plan = plan(again, self._store.known(list(again)))
            slice_.report.unchanged += slice_.plan.unchanged
            if not slice_.plan.chunks:
                break
        else:
            number = len(written.changed)
            raise StoreError(f"{number} records were changed by another process {_ATTEMPTS} times in a row; try again")
        slice_.report.pending -= slice_.waiting  # of rejected records
        self._tell(slice_.report)

    def _vectors(self, slice_: _Slice) -> Vectors:
        """Return a slice's vectors; records that cannot be encoded are rejected."""
        while True:
            try:
                return self._encoded(slice_)
            except CancelledError:
                raise EncoderClosed("the encoder was closed while an ingest needed it; run the ingest again") from None
            except _OF_TEXTS as error:
                slice_.reject(_reasons(error))

    def _encoded(self, slice_: _Slice) -> Vectors:
        texts = slice_.plan.texts
        most = self._pace.most if self._pace else 0
        if most and sum(map(len, texts)) > _LONG * most:
            return self._in_parts(slice_, texts, most)
        compared, slice_.compared = slice_.compared, None
        encoded = (compared or self._submit_slice(slice_)).result()
        self._tell_encoded(slice_, len(texts), encoded.tokens)
        return encoded.vectors

    def _submit_slice(self, slice_: _Slice) -> Future[Encoded]:
        given = [slice_.given[chunk.record_id] for chunk in slice_.plan.encoded] if slice_.given else []
        return self._submit(slice_.plan.texts, given)

    def _in_parts(self, slice_: _Slice, texts: Sequence[str], most: int) -> Vectors:
        """Encode a long record part by part, and keep each part until all of the record is written."""
        import numpy as np

        found = self._journal.vectors(texts)
        missing = [position for position in range(len(texts)) if position not in found]
        self._tell_encoded(slice_, len(found), ())
        with ExitStack() as under_way:
            encoding: dict[Future[Encoded], list[int]] = {}
            for part in parts([len(texts[position]) for position in missing], most):
                positions = [missing[number] for number in part]
                with positions_of_all(positions.__getitem__):
                    submitted = self._submit([texts[position] for position in positions], [])
                encoding[submitted] = positions
                under_way.callback(submitted.cancel)  # if another one fails
            failed: Exception | None = None
            for ended in as_completed(encoding):  # a server may answer the last part first
                positions = encoding[ended]
                try:
                    with positions_of_all(positions.__getitem__):
                        encoded = ended.result()
                except Exception as error:  # parts under way are kept, and waiting ones are cancelled
                    failed = failed or error
                    for other in encoding:
                        other.cancel()
                    continue
                self._journal.keep([texts[position] for position in positions], encoded.vectors)
                found |= zip(positions, encoded.vectors, strict=True)
                self._tell_encoded(slice_, len(positions), encoded.tokens)
            if failed is not None:
                raise failed
        return np.stack([found[position] for position in range(len(texts))])

    def _submit(self, texts: Sequence[str], given: Sequence[Vector]) -> Future[Encoded]:
        begun, characters = perf_counter(), sum(map(len, texts))
        encoding = self._submit_texts(texts, given)
        with self._changed:
            self._encoding.add(encoding)
            stopped = self._stopped
        if stopped:  # `stop` cancelled only those that were submitted before
            encoding.cancel()
        encoding.add_done_callback(lambda _: self._learn(encoding, characters, begun))
        return encoding

    def _learn(self, encoding: Future[Encoded], characters: int, begun: float) -> None:
        with self._changed:
            self._encoding.discard(encoding)
        if self._pace and not encoding.cancelled() and encoding.exception() is None:
            self._pace.encoded(characters, begun)

    def _tell_encoded(self, slice_: _Slice, number: int, tokens: Sequence[int]) -> None:
        told = min(number, slice_.waiting)  # chunks that are encoded again do not count
        slice_.waiting -= told
        self._tell(IngestReport(pending=-told, tokens=sum(tokens)))


def _reasons(error: InputError | BadVectors | OutOfMemory) -> dict[int, str]:
    """Return why texts have no vectors, by position."""
    if isinstance(error, InputError):
        return {each.position: each.reason for each in error.problems}
    if isinstance(error, BadVectors):
        return dict.fromkeys(error.positions, "gets an invalid vector from the model")
    return {error.position: "is too long for the available memory"}
