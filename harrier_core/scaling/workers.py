"""An ingest by several processes of this machine: one reads the records, the others encode and write them.

Which records occurred, were repeated or are gone is decided here, as in an ingest with one process. A process that dies
is replaced, and the blocks that it worked on are tried again.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from harrier_core.checks import check_integer
from harrier_core.errors import SettingError
from harrier_core.intake import Arrived, Intake
from harrier_core.memory import Recollection
from harrier_core.pruning import Pruning
from harrier_core.pruning import prune as remove_unseen
from harrier_core.records import IngestReport
from harrier_core.scaling.crew import Crew
from harrier_core.scaling.messages import Begin, pickled
from harrier_core.scaling.part import IngestPart, PartReport, held

if TYPE_CHECKING:
    from harrier_core.embedder import Embedder
    from harrier_core.index import Index
    from harrier_core.key_values import KeyValues
    from harrier_core.progress import Progress
    from harrier_core.records import Deferred, Ingestible, Record
    from harrier_core.store import IngestStore

# The largest block: with 2,000 records, a model of 3,000 chunks a second is always busy; with fewer, it waits.
# A slow model gets blocks of about this many seconds, so that all workers have something to do to the end.
BLOCK_RECORDS, BLOCK_CHARACTERS = 2_000, 4_000_000
_FIRST, _SHORT, _LONG = 32, 4.0, 30.0
_TELL = 1.0  # seconds between two checks whether the ingest was stopped


class WorkerIngest:
    """One run of an ingest, by worker processes. Another thread may stop it."""

    def __init__(
        self, index: Index, workers: int, on_progress: Progress | None = None, memory: KeyValues | None = None
    ) -> None:
        """Take an index, of which each worker opens a copy."""
        check_integer("workers", workers, 1)
        self._index = index
        self._begin = Begin(sendable(lambda: IngestPart(index), workers), remember=memory is not None)
        self._environments = environments(workers, index.encoder)
        self._on_progress = on_progress
        self._memory = memory
        self._recollection = Recollection(memory, index.encoder, index.chunking)
        self._stopped = threading.Event()
        self._started = perf_counter()
        self._store: IngestStore
        self._intake = Intake(0, 0, recall=self._recollection.of)
        self._limit(min(_FIRST, BLOCK_RECORDS))
        self.report = IngestReport()

    def run(
        self,
        store: IngestStore,
        records: Iterable[Ingestible],
        *,
        vectors: object = None,
        prune: bool | Pruning = False,
        build_indexes: bool,
    ) -> IngestReport:
        """Do what `Ingest.run` does."""
        if vectors is not None:
            raise SettingError("workers make vectors, and these records already have them; omit workers")
        self._store = store
        with Crew(self._begin, self._environments, self._learn) as crew:
            for arrived in self._intake.windows(records):
                self._give(crew, arrived)
            self._wait(crew, until_idle=True)
        if prune:
            pruning, seen = Pruning() if prune is True else prune, self._intake.seen
            self.report.deleted += remove_unseen(store, pruning, len(seen), self._intake.nameless, seen.unseen)
        if build_indexes:
            store.build_indexes()
        self._tell(IngestReport())
        return self.report

    def stop(self) -> None:
        """Stop this run and its workers, and drop what is not written yet. Any thread may call it."""
        self._stopped.set()

    def _give(self, crew: Crew, arrived: Arrived) -> None:
        """Give the records of a window to the next worker that has room."""
        if arrived.again:  # the last of the records with one id counts
            self._wait(crew, until_idle=True)
        if arrived.recalled:
            known = self._store.known(list(arrived.recalled))
            changed = [id_ for id_, (_, hashes) in arrived.recalled.items() if known.get(id_, {}) != hashes]
            self._intake.read(arrived, changed)
            arrived.report.unchanged += sum(len(hashes) for _, hashes in arrived.recalled.values())
        self.report = self.report + arrived.report
        deferred = arrived.deferred
        sendable = self._sendable(
            [held(deferred[id_], each) if id_ in deferred else each for id_, each in arrived.records.items()]
        )
        if sendable:
            self._wait(crew, until_idle=False)
            crew.give(sendable)

    def _learn(self, records: int, seconds: float) -> None:
        """Make larger blocks if one took little time, and smaller ones if it took long."""
        if seconds < _SHORT and records >= self._most:
            times = 4 if seconds < _SHORT / 4 else 2
            self._limit(min(times * self._most, BLOCK_RECORDS))
        elif seconds > _LONG and records <= self._most:
            self._limit(max(self._most // 2, 1))

    def _limit(self, records: int) -> None:
        self._most = records
        self._intake.limit(records, max(1, records * BLOCK_CHARACTERS // BLOCK_RECORDS))

    def _sendable(self, records: Sequence[Record | Deferred]) -> Sequence[Record | Deferred]:
        """Return the records that can be sent to another process; reject the others."""
        try:
            pickled(records)
        except Exception:  # anything that one of the caller's objects raises
            return [each for each in records if self._is_sendable(each)]
        return records

    def _is_sendable(self, record: Record | Deferred) -> bool:
        try:
            pickled([record])
        except Exception as error:
            self.report.rejected.append((record.id, f"cannot be sent to a worker process: {type(error).__name__}"))
            return False
        return True

    def _wait(self, crew: Crew, *, until_idle: bool) -> None:
        """Wait until a worker has room, or until all blocks are done."""
        while not (crew.is_idle() if until_idle else crew.has_room()):
            done = crew.wait(_TELL)
            if self._stopped.is_set():
                raise CancelledError("the ingest was stopped")
            for part in done:
                self._add(part)
            self._tell(crew.under_way())

    def _add(self, part: PartReport) -> None:
        self.report = self.report + _without_records(part.report)
        if self._memory is not None and part.remembered:
            self._memory.mset(part.remembered)

    def _tell(self, under_way: IngestReport) -> None:
        self.report.seconds = perf_counter() - self._started
        if self._on_progress:
            self._on_progress(self.report + _without_records(under_way))


def _without_records(report: IngestReport) -> IngestReport:
    """Return a worker's report without the number of records, which were counted as they were read."""
    return replace(report, records=0, seconds=0.0)


def sendable(make: Callable[[], object], workers: int) -> bytes:
    """Make an object for worker processes, and return it pickled. Raise SettingError if it cannot be sent."""
    try:
        return pickle.dumps(make(), pickle.HIGHEST_PROTOCOL)
    except (SettingError, pickle.PicklingError, TypeError, AttributeError) as error:
        raise SettingError(
            f"workers={workers} needs an index that other processes can open, but {error}; omit workers, or use a "
            "store on a server, or an embedded Postgres, and an encoder that can be pickled"
        ) from None


def environments(workers: int, encoder: Embedder) -> list[Mapping[str, str]]:
    """Return the additional environment of each worker. Raise SettingError if there are too few GPUs."""
    size, gpus = _gpus_of_each(encoder), _gpus(encoder)
    groups = [",".join(gpus[at : at + size]) for at in range(0, len(gpus) - size + 1, size)]
    if size > 1 and workers > len(groups):
        raise SettingError(
            f"workers={workers} need {workers * size} GPUs, {size} for each model, but there are {len(gpus)}; lower "
            "workers"
        )
    return [_environment(number, workers, groups) for number in range(workers)]


def _environment(number: int, workers: int, groups: Sequence[str]) -> Mapping[str, str]:
    """Return environment variables for a worker: its own GPUs, if there are any, and its share of the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = str(max(1, cores // workers))
    named = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")
    environment = {name: threads for name in named if name not in os.environ}
    if groups:
        environment["CUDA_VISIBLE_DEVICES"] = groups[number % len(groups)]
    return environment


def _gpus_of_each(encoder: Embedder) -> int:
    """Return over how many GPUs each worker's model is spread: those named cuda:0, cuda:1 and so on."""
    names = str((encoder.settings or {}).get("device")).split(",")
    return len(names) if names == [f"cuda:{number}" for number in range(len(names))] else 1


def _gpus(encoder: Embedder) -> list[str]:
    """Return the GPUs to divide among workers: those of this process, or none if the device is one of them."""
    device = None if encoder.settings is None else encoder.settings.get("device")
    if encoder.settings is None or (device not in (None, "cuda") and _gpus_of_each(encoder) == 1):
        return []
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return [each.strip() for each in visible.split(",")]
    from harrier_core.device import gpus

    return list(map(str, range(gpus())))
