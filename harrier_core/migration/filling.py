"""One space of an index from another: what differs is read, encoded and written, until a pass finds nothing.

The hashes of their chunks in both places tell which records differ, so that a killed run continues from
what is there, and whatever others write, change or delete in the meantime is found by the next pass.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from harrier_core.migration.encoding import Encoding
from harrier_core.migration.reading import Reader
from harrier_core.migration.report import ReembedReport
from harrier_core.migration.sources import MOST_CHUNKS, Window
from harrier_core.planning import Plan, plan
from harrier_core.store import Hashes, OpenStore, Stored

Differing = Callable[[], Iterator[list[str]]]

_WORKERS = 3  # windows that are read, encoded and written at once: the model waits for neither place
_RECORDS = 100  # of a window
PASSES = 20  # over a place that others write to all the time
_ATTEMPTS = 5  # at records that another process writes to the new place
_EARLY = 2_000  # chunks after which an index is built that grows with what follows


class Filling:
    """Makes a new place hold what an old one does. `report` is what it did so far."""

    def __init__(
        self,
        old: OpenStore,
        new: OpenStore,
        differing: Differing,
        encoding: Encoding,
        report: ReembedReport,
        tell: Callable[[], None],
        *,
        most: int | None = None,
        itemsize: int = 4,
    ) -> None:
        """Take two open places.

        differing: yields the ids of records that differ, some at a time. most: chunks that are written at once, where
        it must not go fast; then indexes are built early, for a few chunks, and grow with what is written. itemsize: of
        a number of a vector in the new place.
        """
        self._old = old
        self._new = new
        self._differing = differing
        self._encoding = encoding
        self._reader = Reader(None)
        self._report = report
        self._tell = tell
        self._slow = most is not None
        self._most = most or MOST_CHUNKS
        self._written = 0  # until the indexes are built, where that is early
        self._itemsize = itemsize
        self._lock = threading.Lock()
        self._rejected: dict[str, str] = {}

    def use(self, old: OpenStore, new: OpenStore) -> None:
        """Continue with the same two places, as they are open elsewhere, also after an error."""
        self._old, self._new = old, new
        self._encoding.resume()

    def run(self, passes: int = PASSES) -> None:
        """Continue until a pass finds nothing to do, or for that many passes."""
        self._report.complete = False
        while passes and not self._report.complete:
            self._report.complete = not self._once()
            passes -= 1
        self._report.rejected = list(self._rejected.items())

    def _once(self) -> int:
        """Write what differs, and return the number of records, except those that get no vectors."""
        self._report.passes += 1
        rejected, self._rejected = self._rejected, {}
        return self._pass(rejected)

    def _pass(self, rejected: Mapping[str, str]) -> int:
        number = 0
        workers = 1 if self._slow else _WORKERS
        with ThreadPoolExecutor(workers, thread_name_prefix="harrier-reembed") as threads:
            under_way: set[Future[None]] = set()
            try:
                for window in self._windows():
                    number += sum(record_id not in rejected for record_id in window)
                    under_way.add(threads.submit(self._mend, window))
                    if len(under_way) > workers:
                        under_way = self._wait(under_way)
                while under_way:
                    under_way = self._wait(under_way)
            except BaseException:  # Ctrl-C as well
                self._encoding.stop()
                threads.shutdown(cancel_futures=True)
                raise
        return number

    def _windows(self) -> Iterator[list[str]]:
        for ids in self._differing():
            for begin in range(0, len(ids), _RECORDS):
                yield ids[begin : begin + _RECORDS]

    def _wait(self, under_way: set[Future[None]]) -> set[Future[None]]:
        finished, rest = wait(under_way, return_when=FIRST_COMPLETED)
        for each in finished:
            each.result()
        self._tell()
        return rest

    # -- a window, on a thread of its own

    def _mend(self, record_ids: Sequence[str]) -> None:
        hashes = self._old.known(record_ids)
        if gone := [record_id for record_id in record_ids if record_id not in hashes]:
            self._add(deleted=self._new.delete(gone))
        for some in self._split(hashes):
            self._carry(some)
            if self._slow and self._written < _EARLY:
                self._written += sum(map(len, some.values()))
                if self._written >= _EARLY:
                    self._new.build_indexes()

    def _split(self, hashes: Mapping[str, Hashes]) -> Iterator[dict[str, Hashes]]:
        part: dict[str, Hashes] = {}
        chunks = 0
        for record_id, own in hashes.items():
            if part and chunks + len(own) > self._most:
                yield part
                part, chunks = {}, 0
            part[record_id] = own
            chunks += len(own)
        if part:
            yield part

    def _carry(self, hashes: Mapping[str, Hashes]) -> None:
        read, rejected = self._reader.read(Window(hashes, self._read), list(hashes))
        chunks = {record_id: [each.chunk for each in own] for record_id, own in read.items()}
        for _ in range(_ATTEMPTS):
            planned = plan(chunks, self._new.known(list(chunks)))
            if not planned.chunks:
                break
            planned, vectors, without = self._encoding.vectors(planned)
            rejected |= without
            written = self._new.write(planned.write(vectors))
            rejected |= written.rejected
            done = planned.without({*written.rejected, *written.changed, *written.lost})
            self._add(done, deleted=written.deleted)
            chunks = {record_id: chunks[record_id] for record_id in written.changed}
        with self._lock:
            self._rejected |= rejected

    def _read(self, record_ids: Collection[str]) -> Iterator[Stored]:
        return self._old.read(list(record_ids))

    def _add(self, done: Plan | None = None, *, deleted: int = 0) -> None:
        with self._lock:
            self._report.deleted += deleted
            if done is not None:
                self._report.described += len(done.described)
                row = self._itemsize * self._encoding.dimensions
                self._report.bytes += sum(len(chunk.text.encode()) + row for chunk in done.encoded)
