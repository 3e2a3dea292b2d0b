"""The records of a source into an open store: what is missing there or differs is read and written, window by window.

A window is read while others are written. The source is gone through until there is nothing left to write: the last
time is the check that all hashes are the same, and what was changed meanwhile is caught up with. After a crash, the
next run begins with what is there.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
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
_PASSES = 5  # at a source that changes all the time
_ATTEMPTS = 20  # at records that somebody else writes to the target
_REMOVED = 1_000  # records at once


class Told:
    """A report, and whoever is to be told of it."""

    def __init__(self, on_progress: Progress | None) -> None:
        self.report = CopyReport()
        self._on_progress = on_progress
        self._begun = perf_counter()

    def tell(self) -> None:
        """Say how far it is."""
        self.report.seconds = perf_counter() - self._begun
        if self._on_progress:
            self._on_progress(self.report.snapshot())


@dataclass(slots=True)
class _Done:
    """What became of a window."""

    copied: int = 0
    unchanged: int = 0
    deleted: int = 0
    bytes: int = 0
    rejected: dict[str, str] = field(default_factory=dict)
    written: str | None = None  # the id of one of the records that were written


class Carrying:
    """One copy. `told.report` is what it did so far."""

    def __init__(self, source: Source, target: OpenStore, told: Told, itemsize: int) -> None:
        """Take a source and a target of the same space. itemsize: of a number of a vector there."""
        self._source = source
        self._reader = Reader(source.space.dimensions)
        self._target = target
        self._told = told
        self._report = told.report
        self._itemsize = itemsize
        self._seen = array("Q")  # hashes of the ids of all records
        self._sample = Sample()
        self._rejected: dict[str, str] = {}
        self._written: str | None = None

    # -- copying

    def run(self, *, empty: bool) -> None:
        """Copy until nothing is left to be copied. empty: nothing is there, as far as it is known."""
        changed = None
        for number in range(_PASSES):
            self._report.stage = "checking" if number else "copying"
            changed = self._pass(empty=empty and not number, first=not number)
            if changed is None:
                break
        if changed is not None:
            problem = (
                "was not the only one to change in the source again and again; copy once more for their last state"
            )
            self._report.problems.append((changed, problem))
        self._report.rejected = list(self._rejected.items())

    def _pass(self, *, empty: bool, first: bool) -> str | None:
        """Go through the source once, and return the id of one of the records that were written, if any was."""
        self._seen, self._sample = array("Q"), Sample()
        self._report.records = self._report.chunks = self._report.checked = 0
        self._written = None
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="harrier-copy") as threads:
            under_way: set[Future[_Done]] = set()
            try:
                for window in self._source.windows():
                    self._see(window)
                    under_way.add(threads.submit(self._carry, window, empty=empty))
                    if len(under_way) >= _UNDER_WAY:
                        under_way = self._wait(under_way, first=first)
                while under_way:
                    under_way = self._wait(under_way, first=first)
            except BaseException:  # Ctrl-C as well
                threads.shutdown(cancel_futures=True)
                raise
        return self._written

    def _see(self, window: Window) -> None:
        self._report.records += len(window.hashes)
        self._report.chunks += window.chunks
        self._seen.extend(map(id_hash, window.hashes))
        self._sample.see(window.hashes)

    def _wait(self, under_way: set[Future[_Done]], *, first: bool) -> set[Future[_Done]]:
        finished, rest = wait(under_way, return_when=FIRST_COMPLETED)
        for each in finished:
            done = each.result()
            self._report.copied += done.copied
            self._report.deleted += done.deleted
            self._report.bytes += done.bytes
            if first:
                self._report.unchanged += done.unchanged
            self._report.checked += done.unchanged
            self._rejected |= done.rejected
            self._written = self._written or done.written
        self._told.tell()
        return rest

    # -- a window, on a thread of its own

    def _carry(self, window: Window, *, empty: bool) -> _Done:
        done = _Done()
        ids = [record_id for record_id in window.hashes if record_id not in self._rejected]
        known: Mapping[str, Hashes] = {} if empty else self._target.known(ids)
        differing = [record_id for record_id in ids if known.get(record_id) != window.hashes[record_id]]
        done.unchanged = sum(len(window.hashes[each]) for each in set(ids) - set(differing))
        for _ in range(_ATTEMPTS):
            if not differing:
                return done
            read, rejected = self._reader.read(window, differing)
            done.rejected |= rejected
            differing = self._write(read, known, done)
            known = self._target.known(differing) if differing else {}
        number = len(differing)
        raise StoreError(f"{number} records were changed by somebody else {_ATTEMPTS} times in a row; try again")

    def _write(self, read: Mapping[str, Sequence[Stored]], known: Mapping[str, Hashes], done: _Done) -> list[str]:
        """Write records, and return those that somebody else changed meanwhile."""
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
        done.written = next(iter(kept.chunks), done.written)
        return list(written.changed)

    def bytes_of(self, chunk: Chunk) -> int:
        """Return how many bytes the text and the vector of a chunk have."""
        return len(chunk.text.encode()) + self._itemsize * self._source.space.dimensions

    def _matrix(self, rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack(rows) if rows else np.empty((0, self._source.space.dimensions), np.float32)

    # -- afterwards

    def extras(self) -> Iterator[str]:
        """Yield the ids of the target's records that the source does not have, by the last pass."""
        yield from not_among(self._seen, self._target.record_ids())

    def remove(self, record_ids: Iterator[str]) -> None:
        """Remove records of the target."""
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
