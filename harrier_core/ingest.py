"""Records to chunks, only the changed ones to vectors, and all of it to the store, window by window.

While one window is being encoded, those before it are written and the next one is read: the model waits for nobody.
A second run over the same records writes nothing and encodes nothing, whatever became of the first.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from harrier_core.chunking import Chunking, chunks
from harrier_core.ending import refuse_at_end
from harrier_core.errors import (
    BadVectors,
    EncoderClosed,
    InputError,
    OutOfMemory,
    ProcessEnding,
    SettingError,
    StoreError,
)
from harrier_core.records import Chunk, IngestReport, Record, checked
from harrier_core.store import Hashes, IngestStore, Write

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

log = logging.getLogger(__name__)

Progress = Callable[[IngestReport], None]

# What is held at once: a transaction of the store, and enough texts of like length for full passes.
_WINDOW_RECORDS, _WINDOW_CHARACTERS = 1_000, 2_000_000
# Windows under way: three being written, so that a database has work while rows are made for it and commits are waited
# for; one being encoded; one that waits for the model.
_WRITERS, _UNDER_WAY = 3, 5
# How often records may turn out to be changed by somebody else before that is an error.
_ATTEMPTS = 20


class DocumentEncoder(Protocol):
    """What an ingest needs of an Encoder."""

    def submit_documents(self, texts: Sequence[str]) -> Future[Vectors]:
        """Begin to encode documents."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has as a document."""


@dataclass(slots=True)
class _Plan:
    """What is to become of a window's records. Those that are stored as they are have no part in it."""

    records: dict[str, Record]
    chunks: dict[str, list[Chunk]]  # all of a record's
    known: dict[str, Hashes]  # and what the store has of it
    encoded: list[Chunk]
    described: list[Chunk]
    vectors: Future[Vectors] = field(default_factory=Future)

    def leave(self, wrong: Collection[str]) -> None:
        """Take records out of it again."""
        self.records = {id_: record for id_, record in self.records.items() if id_ not in wrong}
        self.encoded = [chunk for chunk in self.encoded if chunk.record_id in self.records]
        self.described = [chunk for chunk in self.described if chunk.record_id in self.records]

    def write(self, vectors: Vectors) -> Write:
        """For the store."""
        sizes = {id_: len(self.chunks[id_]) for id_ in self.records}
        known = {id_: self.known.get(id_, {}) for id_ in self.records}
        return Write(sizes, self.encoded, vectors, self.described, known)


class Ingest:
    """One run. Another thread may stop it."""

    def __init__(
        self,
        store: IngestStore,
        encoder: DocumentEncoder,
        chunking: Chunking | None,
        on_progress: Progress | None,
    ) -> None:
        self._stopped = threading.Event()
        self._store = store
        self._encoder = encoder
        self._chunking = chunking
        self._on_progress = on_progress
        self._begin = perf_counter()
        self._seen: set[int] = set()  # hashes of record ids: some 70 bytes each
        self._nameless: list[str] = []  # why records without an id were rejected
        self._under_way: deque[tuple[_Plan, Future[IngestReport]]] = deque()
        self.report = IngestReport()

    def run(self, records: Iterable[Record], *, prune: bool) -> IngestReport:
        """Ingest all records, and with `prune` remove those of the store that are not among them."""
        with ThreadPoolExecutor(_WRITERS, thread_name_prefix="harrier-write") as writing:
            try:
                for window, repeated in self._windows(records):
                    if repeated:  # what is known of a record may be about to change
                        self._wait(0)
                    plan = self._plan(window, self.report)
                    if plan.records:
                        refuse_at_end()
                        self._under_way.append((plan, writing.submit(self._finish, plan)))
                    if self._stopped.is_set():
                        self.stop()
                        break
                    self._wait(_UNDER_WAY - 1)
                self._wait(0)
            except BaseException as error:  # of the caller's records as well, and Ctrl-C
                self.stop()
                if isinstance(error, ProcessEnding):  # on a pool's thread nobody else would say so
                    log.warning("ingest cut short after %d chunks: %s; run it again", self.report.written, error)
                raise
        if prune and not self._stopped.is_set():
            self._prune()
        self._store.settle()
        self._tell()
        return self.report

    def stop(self) -> None:
        """End this run after the pass under way, without what has no vectors yet. Any thread may call it."""
        self._stopped.set()
        for plan, written in list(self._under_way):
            written.cancel()
            plan.vectors.cancel()

    # -- reading

    def _windows(self, records: Iterable[Record]) -> Iterator[tuple[dict[str, Record], bool]]:
        """Sound records by their ids, a window at a time, and whether one of them came in an earlier window."""
        window: dict[str, Record] = {}
        characters = 0
        again = False
        for number, given in enumerate(records):
            self.report.records += 1
            record = checked(given)
            if isinstance(record, str):
                self._leave_out(given, number, record)
                continue
            if hash(record.id) in self._seen:
                self.report.repeated.append(record.id)
                again = again or record.id not in window
            self._seen.add(hash(record.id))
            window[record.id] = record
            characters += len(record.text)
            if len(window) == _WINDOW_RECORDS or characters >= _WINDOW_CHARACTERS:
                yield window, again
                window, characters, again = {}, 0, False
        if window:
            yield window, again

    def _leave_out(self, record: object, number: int, problem: str) -> None:
        record_id = getattr(record, "id", None)
        if isinstance(record_id, str):
            self._seen.add(hash(record_id))  # what is stored of it is not gone from the source: it is not pruned
            self.report.rejected.append((record_id, problem))
        else:
            self._nameless.append(problem)
            self.report.rejected.append((f"number {number}" if record_id is None else str(record_id), problem))

    # -- planning: what is new

    def _plan(self, records: dict[str, Record], report: IngestReport) -> _Plan:
        """What a window's records need; their vectors are under way when it is made."""
        made = self._chunks(records)
        known = self._store.known(list(made))
        plan = _Plan({}, made, known, [], [])
        for record_id, own in made.items():
            stored = known.get(record_id, {})
            changed = [chunk for chunk in own if stored.get(chunk.number) != chunk.hash]
            report.unchanged += len(own) - len(changed)
            if changed or len(stored) > len(own):
                plan.records[record_id] = records[record_id]
            for chunk in changed:
                same_text = stored.get(chunk.number, b"")[: len(chunk.text_hash)] == chunk.text_hash
                (plan.described if same_text else plan.encoded).append(chunk)
        self._encode(plan)
        return plan

    def _chunks(self, records: dict[str, Record]) -> dict[str, list[Chunk]]:
        if self._chunking is None:
            return {record.id: chunks(record, 0, None, self._encoder.count_tokens) for record in records.values()}
        # A token is a byte at least: what has few of them needs no counting.
        room = self._chunking.tokens - self._encoder.count_tokens(["a"])[0]
        long = [record for record in records.values() if len(record.text.encode()) > room]
        counts = dict.fromkeys(records, 0)
        counts |= zip((each.id for each in long), self._encoder.count_tokens([r.text for r in long]), strict=True)
        return {
            record.id: chunks(record, counts[record.id], self._chunking, self._encoder.count_tokens)
            for record in records.values()
        }

    def _encode(self, plan: _Plan) -> None:
        """Begin to encode a plan's texts; a record with one that cannot be is rejected, and the others go on."""
        while True:
            try:
                plan.vectors = self._encoder.submit_documents([chunk.text for chunk in plan.encoded])
            except InputError as error:
                self._reject(plan, {each.position: each.reason for each in error.problems})
            else:
                if self._stopped.is_set():  # `stop` saw the vectors that were there before these
                    plan.vectors.cancel()
                return

    def _reject(self, plan: _Plan, reasons: Mapping[int, str]) -> None:
        """Leave the records of these texts as they are stored, if they are."""
        wrong = {plan.encoded[position].record_id: reason for position, reason in reasons.items()}
        self.report.rejected += wrong.items()
        plan.leave(wrong)

    # -- finishing: on a writing thread

    def _finish(self, plan: _Plan) -> IngestReport:
        """Wait for a plan's vectors and write it; records that somebody else changed meanwhile are planned anew."""
        report = IngestReport()
        for _ in range(_ATTEMPTS):
            written = self._store.write(plan.write(self._vectors(plan)))
            self.report.rejected += written.rejected.items()
            plan.leave({*written.rejected, *written.lost})
            left = set(written.changed)
            encoded = sum(chunk.record_id not in left for chunk in plan.encoded) if left else len(plan.encoded)
            described = sum(chunk.record_id not in left for chunk in plan.described) if left else len(plan.described)
            report.encoded += encoded
            report.written += encoded + described
            report.deleted += written.deleted
            if not left:
                return report
            again = {record_id: plan.records[record_id] for record_id in left}
            plan = self._plan(again, report)
            if not plan.records:
                return report
        raise StoreError(f"{len(left)} records were changed by somebody else {_ATTEMPTS} times in a row; try again")

    def _vectors(self, plan: _Plan) -> Vectors:
        """A plan's vectors; records for which there are none are rejected."""
        while True:
            try:
                return plan.vectors.result()
            except CancelledError:
                raise EncoderClosed("the encoder was closed while an ingest needed it; run the ingest again") from None
            except InputError as error:
                reasons = {each.position: each.reason for each in error.problems}
            except BadVectors as error:
                reasons = dict.fromkeys(error.positions, "gets no sound vector from the model")
            except OutOfMemory as error:
                reasons = {error.position: "is too long for the memory that there is"}
            self._reject(plan, reasons)
            self._encode(plan)

    def _wait(self, most: int) -> None:
        """Wait until no more windows are under way."""
        while len(self._under_way) > most:
            done = self._under_way[0][1].result()
            self._under_way.popleft()
            for name in ("written", "encoded", "unchanged", "deleted"):
                setattr(self.report, name, getattr(self.report, name) + getattr(done, name))
            self._tell()

    def _tell(self) -> None:
        self.report.seconds = perf_counter() - self._begin
        if self._on_progress:
            self._on_progress(replace(self.report))

    # -- afterwards

    def _prune(self) -> None:
        if not self._seen:
            raise SettingError(
                "prune=True, and there was no record at all: that would remove everything; if it is meant, use delete"
            )
        if self._nameless:
            raise SettingError(
                f"prune=True, but records had no id, {len(self._nameless)} in all, and the first "
                f"{self._nameless[0]}; nothing was removed, for they may stand for anything: mend them, and try again"
            )
        gone = [record_id for record_id in self._store.record_ids() if hash(record_id) not in self._seen]
        for begin in range(0, len(gone), _WINDOW_RECORDS):
            self.report.deleted += self._store.delete(gone[begin : begin + _WINDOW_RECORDS])
