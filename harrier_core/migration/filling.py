"""Fill one space of an index from another: read, encode and write what differs, until a pass finds nothing.

The hashes of the chunks in both places tell which records differ. So a killed run continues from what is there, and the
next pass finds whatever others write, change or delete in the meantime.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from time import perf_counter

from harrier_core.migration.encoding import Encoding
from harrier_core.migration.reading import Reader
from harrier_core.migration.report import ReembedReport
from harrier_core.migration.sources import MOST_CHUNKS, Window
from harrier_core.planning import Plan, plan
from harrier_core.store import Hashes, OpenStore, Stored

Differing = Callable[[], Iterator[list[str]]]

_WORKERS = 3  # windows that are read, encoded and written at once: the model waits for neither place
_RECORDS = 100  # records per window
PASSES = 20  # passes over a place that others keep writing to
_ATTEMPTS = 5  # tries to write records that another process also writes to the new place
_EARLY = 2_000  # chunks after which an index is built, which grows with those that follow


class Filling:
    """Makes a new place hold what an old one does. `report` says what it has done so far."""

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

        differing: yields the ids of records that differ, some at a time. most: how many chunks are written at once, if
        the rate is limited; then indexes are built early, for a few chunks, and grow with what is written. itemsize:
        bytes per number of the new place's vectors.
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
        self._written = 0  # chunks, until indexes are built early
        self._itemsize = itemsize
        self._lock = threading.Lock()
        self._rejected: dict[str, str] = {}
        self.seconds = 0.0  # that the last pass took

    def use(self, old: OpenStore, new: OpenStore) -> None:
        """Continue with other handles of the same two places, even after an error."""
        self._old, self._new = old, new
        self._encoding.resume()

    def run(self, passes: int = PASSES) -> None:
        """Run passes until one finds nothing to do, but at most this many."""
        self._report.complete = False
        while passes and not self._report.complete:
            begin = perf_counter()
            self._report.complete = not self._once()
            self.seconds = perf_counter() - begin
            passes -= 1
        self._report.rejected = list(self._rejected.items())

    def _once(self) -> int:
        """Write what differs, and return how many records differed, except those that cannot be encoded."""
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

    # -- one window, on a worker thread

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
