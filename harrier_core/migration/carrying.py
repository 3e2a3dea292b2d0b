"""Copy records of a source that an open store lacks, or holds differently, window by window.

A window is read while others are written. Then all hashes are compared, and whatever changed meanwhile is copied again.
After a crash, the next run continues from what is there.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from harrier_core.errors import StoreError
from harrier_core.migration.comparing import Sample, compare, not_among
from harrier_core.migration.reading import Reader
from harrier_core.migration.report import CopyReport
from harrier_core.migration.sources import Source, Window, chosen
from harrier_core.planning import plan
from harrier_core.records import Chunk, id_hash
from harrier_core.store import Hashes, OpenStore, Stored

Progress = Callable[[CopyReport], None]

_WORKERS = 4  # each reads a window and writes it: a source is read while the target writes
_UNDER_WAY = 6  # windows in memory
_PASSES = 5  # passes over a source that keeps changing
_ATTEMPTS = 20  # tries to write records that another process also writes to the target
_REMOVED = 1_000  # records at once


class Told:
    """A report, and its listener."""

    def __init__(self, on_progress: Progress | None) -> None:
        self.report = CopyReport()
        self._on_progress = on_progress
        self._begun = perf_counter()

    def tell(self) -> None:
        """Report the progress so far."""
        self.report.seconds = perf_counter() - self._begun
        if self._on_progress:
            self._on_progress(self.report.snapshot())


@dataclass(slots=True)
class _Done:
    """The result of a window."""

    copied: int = 0
    same: int = 0  # chunks of records that do not differ
    deleted: int = 0
    bytes: int = 0
    rejected: dict[str, str] = field(default_factory=dict)
    record_id: str | None = None  # of one of the records that differ


class Carrying:
    """One copy. `told.report` says what it has done so far."""

    def __init__(self, source: Source, target: OpenStore, told: Told, itemsize: int) -> None:
        """Take a source and a target of the same space. itemsize: bytes per number of the target's vectors."""
        self._source = source
        self._reader = Reader(source.space.dimensions)
        self._target = target
        self._told = told
        self._report = told.report
        self._itemsize = itemsize
        self._seen = array("Q")  # hashes of the ids of all records
        self._sample = Sample()
        self._rejected: dict[str, str] = {}
        self._found: str | None = None

    # -- copying

    def run(self, *, empty: bool) -> None:
        """Copy until nothing is left to copy. empty: whether the target seems to hold nothing."""
        changed = self._copy(empty=empty)
        self._report.unchanged = self._report.checked
        for again in range(_PASSES):
            if changed is None:  # all hashes were the same
                break
            if again:
                self._copy(empty=False)
            changed = self._check()
        if changed is not None:
            problem = "changed repeatedly in the source, as others may have; copy again for the latest state"
            self._report.problems.append((changed, problem))
        self._report.rejected = list(self._rejected.items())

    def _copy(self, *, empty: bool) -> str | None:
        """Write what differs, and return the id of a record that differed, if any did."""
        self._report.stage = "copying"
        windows = self._source.windows()
        return self._go((window.hashes, partial(self._carry, window, empty=empty)) for window in windows)

    def _check(self) -> str | None:
        """Compare all hashes, and return the id of a record that differs, if any does."""
        self._report.stage = "checking"
        return self._go((hashes, partial(self._compare, hashes)) for hashes in self._source.hashes())

    def _go(self, windows: Iterable[tuple[Mapping[str, Hashes], Callable[[], _Done]]]) -> str | None:
        """Go through the source once, several windows at a time."""
        self._seen, self._sample = array("Q"), Sample()
        self._report.records = self._report.chunks = self._report.checked = 0
        self._found = None
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="harrier-copy") as threads:
            under_way: set[Future[_Done]] = set()
            try:
                for hashes, work in windows:
                    self._see(hashes)
                    under_way.add(threads.submit(work))
                    if len(under_way) >= _UNDER_WAY:
                        under_way = self._wait(under_way)
                while under_way:
                    under_way = self._wait(under_way)
            except BaseException:  # Ctrl-C as well
                threads.shutdown(cancel_futures=True)
                raise
        return self._found

    def _see(self, hashes: Mapping[str, Hashes]) -> None:
        self._report.records += len(hashes)
        self._report.chunks += sum(map(len, hashes.values()))
        self._seen.extend(map(id_hash, hashes))
        self._sample.see(hashes)

    def _wait(self, under_way: set[Future[_Done]]) -> set[Future[_Done]]:
        finished, rest = wait(under_way, return_when=FIRST_COMPLETED)
        for each in finished:
            done = each.result()
            self._report.copied += done.copied
            self._report.deleted += done.deleted
            self._report.bytes += done.bytes
            self._report.checked += done.same
            self._rejected |= done.rejected
            self._found = self._found or done.record_id
        self._told.tell()
        return rest

    # -- one window, on a worker thread

    def _compare(self, hashes: Mapping[str, Hashes]) -> _Done:
        done = _Done()
        self._differing(hashes, self._target.known([*hashes]), done)
        return done

    def _differing(self, hashes: Mapping[str, Hashes], known: Mapping[str, Hashes], done: _Done) -> list[str]:
        """Return the records that differ from the source's, except those that cannot be copied."""
        asked = {record_id: own for record_id, own in hashes.items() if record_id not in self._rejected}
        differing = [record_id for record_id, own in asked.items() if known.get(record_id) != own]
        done.same = sum(map(len, asked.values())) - sum(len(asked[record_id]) for record_id in differing)
        done.record_id = next(iter(differing), None)
        return differing

    def _carry(self, window: Window, *, empty: bool) -> _Done:
        done = _Done()
        known: Mapping[str, Hashes] = {} if empty else self._target.known([*window.hashes])
        differing = self._differing(window.hashes, known, done)
        for _ in range(_ATTEMPTS):
            if not differing:
                return done
            read, rejected = self._reader.read(window, differing)
            done.rejected |= rejected
            differing = self._write(read, known, done)
            known = self._target.known(differing) if differing else {}
        number = len(differing)
        raise StoreError(f"{number} records were changed by another process {_ATTEMPTS} times in a row; try again")

    def _write(self, read: Mapping[str, Sequence[Stored]], known: Mapping[str, Hashes], done: _Done) -> list[str]:
        """Write records, and return those that another process changed meanwhile."""
        vectors = {(record_id, each.chunk.number): each.vector for record_id, own in read.items() for each in own}
        chunks = {record_id: [each.chunk for each in own] for record_id, own in read.items()}
        planned = plan(chunks, known)
        if not planned.chunks:
            return []
        rows = [vectors[chunk.record_id, chunk.number] for chunk in planned.encoded]
        written = self._target.write(planned.write(self._matrix(rows)))
        done.rejected |= written.rejected
        kept = planned.without({*written.rejected, *written.changed, *written.lost})
        done.copied += len(kept.encoded) + len(kept.described)
        done.deleted += written.deleted
        done.bytes += sum(self.bytes_of(chunk) for chunk in kept.encoded)
        return list(written.changed)

    def bytes_of(self, chunk: Chunk) -> int:
        """Return how many bytes the text and the vector of a chunk have."""
        return len(chunk.text.encode()) + self._itemsize * self._source.space.dimensions

    def _matrix(self, rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack(rows) if rows else np.empty((0, self._source.space.dimensions), np.float32)

    # -- afterwards

    def extras(self) -> Iterator[str]:
        """Yield the ids of the target's records that the source did not have in the last pass."""
        yield from not_among(self._seen, self._target.record_ids())

    def remove(self, record_ids: Iterator[str]) -> None:
        """Remove records from the target."""
        while batch := list(islice(record_ids, _REMOVED)):
            self._report.deleted += self._target.delete(batch)
            self._told.tell()

    def compare(self) -> None:
        """Compare a sample with the source: text, metadata and vector."""
        keys = [key for key in self._sample.keys if key[0] not in self._rejected]
        ours, theirs = self._source.chosen(keys), chosen(self._target, keys)
        for key, stored in ours.items():
            compare(stored, theirs.get(key), self._report)
        self._told.tell()
