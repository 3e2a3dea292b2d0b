"""Records to chunks, only the changed ones to vectors, and all of it to the store, window by window.

While one window is being encoded, those before it are written and the next one is read: the model waits for nobody.
A second run over the same records writes nothing and encodes nothing, whatever became of the first.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from harrier_core.chunking import Chunking, chunks
from harrier_core.embedder import Embedder, Encoded
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
from harrier_core.filters import parse
from harrier_core.given import GivenVectors
from harrier_core.intake import Arrived, Intake
from harrier_core.planning import Plan, plan
from harrier_core.records import Chunk, Ingestible, IngestReport, Metadata, Record, Unstorable, id_hash
from harrier_core.store import IngestStore, Written

if TYPE_CHECKING:
    from harrier_core.types import Vector, Vectors

log = logging.getLogger(__name__)

Progress = Callable[[IngestReport], None]
Gone = Callable[[str, Metadata], bool]

# What is held at once: a transaction of the store, and enough texts of like length for full passes.
WINDOW_RECORDS, WINDOW_CHARACTERS = 1_000, 2_000_000
# Windows under way: three being written, so that a database has work while rows are made for it and commits are waited
# for; one being encoded; one that waits for the model.
_WRITERS, _UNDER_WAY = 3, 5
# What an embedder raises of some of the texts, while the others can be encoded.
_OF_TEXTS = (InputError, BadVectors, OutOfMemory)
# How often records may turn out to be changed by somebody else before that is an error.
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Pruning:
    """Which of the records that an ingest did not meet are to be removed.

    where: only those that meet these conditions on metadata, as in `harrier_core.filters`. gone: and of which this says
    so, by id and metadata; it is asked at the end.
    """

    where: Mapping[str, Any] | None = None
    gone: Gone | None = None

    def __post_init__(self) -> None:
        parse(self.where)  # what is wrong with it shows before anything is written


class Ingest:
    """One run. Another thread may stop it."""

    def __init__(
        self, embedder: Embedder, chunking: Chunking | None = None, on_progress: Progress | None = None
    ) -> None:
        self._stopped = threading.Event()
        self._store: IngestStore
        self._embedder = embedder
        self._chunking = chunking
        self._on_progress = on_progress
        self._begin = perf_counter()
        self._given: GivenVectors | None = None
        self._intake: Intake
        self._under_way: deque[tuple[_Window, Future[IngestReport]]] = deque()
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
        """Ingest all records into a store, and with `prune` remove those of the store that are not among them."""
        self._store = store
        self._given = None if vectors is None else GivenVectors(self._embedder)
        self._intake = Intake(WINDOW_RECORDS, WINDOW_CHARACTERS, self._given)
        with ThreadPoolExecutor(_WRITERS, thread_name_prefix="harrier-write") as writing:
            try:
                for arrived in self._intake.windows(records, vectors):
                    if arrived.again:  # what is known of a record may be about to change
                        self._wait(0)
                    planned = self._planned(arrived)
                    self._add(arrived.report)
                    if planned.plan.chunks:
                        refuse_at_end()
                        self._under_way.append((planned, writing.submit(self._finish, planned)))
                    else:
                        self._add(planned.report)
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
            self._prune(Pruning() if prune is True else prune)
        if build_indexes:
            self._store.build_indexes()
        self._tell()
        return self.report

    def stop(self) -> None:
        """End this run after the pass under way, without what has no vectors yet. Any thread may call it."""
        self._stopped.set()
        for window, written in list(self._under_way):
            written.cancel()
            window.vectors.cancel()

    # -- planning: what is new

    def _planned(self, arrived: Arrived) -> _Window:
        """A window's plan, whose vectors are under way."""
        chunked = self._chunked(arrived)
        window = _Window(plan(chunked, self._store.known(list(chunked))), arrived.vectors)
        window.report.unchanged = window.plan.unchanged
        log.debug(
            "a window of %d records: %d chunks are new, %d are described anew, %d are unchanged",
            *(len(chunked), len(window.plan.encoded), len(window.plan.described), window.plan.unchanged),
        )
        self._encode(window)
        return window

    def _chunked(self, arrived: Arrived) -> dict[str, list[Chunk]]:
        """The chunks of each record; those whose pieces no store can hold are rejected."""
        counts = self._counts(arrived.records.values())
        if self._given and self._chunking:
            arrived.leave_out_cut(counts, self._chunking.tokens)
        chunked = {}
        for record in arrived.records.values():
            try:
                chunked[record.id] = chunks(record, counts[record.id], self._chunking, self._embedder.count_tokens)
            except Unstorable as error:
                arrived.report.rejected.append((record.id, str(error)))
        return chunked

    def _counts(self, records: Collection[Record]) -> dict[str, int]:
        """The tokens of each record, as far as they decide how it is cut."""
        counts = dict.fromkeys((record.id for record in records), 0)
        if self._chunking is not None and records:
            # A token is a byte at least: what has few of them needs no counting.
            room = self._chunking.tokens - self._embedder.count_tokens(["a"])[0]
            long = [record for record in records if len(record.text.encode()) > room]
            texts = [record.text for record in long]
            counts |= zip((each.id for each in long), self._embedder.count_tokens(texts), strict=True)
        return counts

    def _encode(self, window: _Window) -> None:
        """Begin to encode a window's texts; a record with one that cannot be is rejected, and the others go on."""
        while True:
            try:
                window.vectors = self._submit(window)
            except _OF_TEXTS as error:
                window.reject(_reasons(error))
            else:
                if self._stopped.is_set():  # `stop` saw the vectors that were there before these
                    window.vectors.cancel()
                return

    def _submit(self, window: _Window) -> Future[Encoded]:
        if self._given is None:
            return self._embedder.submit_documents(window.plan.texts)
        return self._given.submit(window.plan.texts, [window.given[chunk.record_id] for chunk in window.plan.encoded])

    # -- finishing: on a writing thread

    def _finish(self, window: _Window) -> IngestReport:
        """Wait for a window's vectors and write it; records that somebody else changed meanwhile are planned anew."""
        for _ in range(_ATTEMPTS):
            written = self._store.write(window.plan.write(self._vectors(window)))
            window.wrote(written)
            if not written.changed:
                return window.report
            again = {record_id: window.plan.chunks[record_id] for record_id in written.changed}
            window.plan = plan(again, self._store.known(list(again)))
            window.report.unchanged += window.plan.unchanged
            if not window.plan.chunks:
                return window.report
            self._encode(window)
        number = len(written.changed)
        raise StoreError(f"{number} records were changed by somebody else {_ATTEMPTS} times in a row; try again")

    def _vectors(self, window: _Window) -> Vectors:
        """A window's vectors; records for which there are none are rejected."""
        while True:
            try:
                return window.vectors.result().vectors
            except CancelledError:
                raise EncoderClosed("the encoder was closed while an ingest needed it; run the ingest again") from None
            except _OF_TEXTS as error:
                window.reject(_reasons(error))
            self._encode(window)

    def _wait(self, most: int) -> None:
        """Wait until no more windows are under way."""
        while len(self._under_way) > most:
            done = self._under_way[0][1].result()
            self._under_way.popleft()
            self._add(done)
            self._tell()

    def _add(self, done: IngestReport) -> None:
        self.report = self.report + done

    def _tell(self) -> None:
        self.report.seconds = perf_counter() - self._begin
        if self._on_progress:
            self._on_progress(self.report + IngestReport())  # with lists of its own

    # -- afterwards

    def _prune(self, pruning: Pruning) -> None:
        seen, nameless = self._intake.seen, self._intake.nameless
        if not seen and pruning == Pruning():
            raise SettingError(
                "prune=True, and there was no record at all: that would remove everything; if it is meant, use delete"
            )
        if nameless:
            raise SettingError(
                f"prune=True, but records had no id, {len(nameless)} in all, and the first "
                f"{nameless[0]}; nothing was removed, for they may stand for anything: mend them, and try again"
            )
        where = parse(pruning.where)
        unseen = [record_id for record_id in self._store.record_ids() if id_hash(record_id) not in seen]
        for begin in range(0, len(unseen), WINDOW_RECORDS):
            ids = unseen[begin : begin + WINDOW_RECORDS]
            if pruning != Pruning():
                found = {each.chunk.record_id: each.chunk.metadata for each in self._store.read(ids, where)}
                ids = [id_ for id_, metadata in found.items() if pruning.gone is None or pruning.gone(id_, metadata)]
            self.report.deleted += self._store.delete(ids) if ids else 0


class _Window:
    """A plan under way, and what became of it."""

    def __init__(self, planned: Plan, given: Mapping[str, Vector]) -> None:
        self.plan = planned
        self.given = given  # vectors that came with the records, by their ids
        self.vectors: Future[Encoded] = Future()
        self.report = IngestReport()

    def reject(self, reasons: Mapping[int, str]) -> None:
        """Leave the records of these texts as they are stored, if they are."""
        wrong = {self.plan.encoded[position].record_id: reason for position, reason in reasons.items()}
        self.report.rejected += wrong.items()
        self.plan = self.plan.without(wrong)

    def wrote(self, written: Written) -> None:
        """Count what was written. Records that were changed are not, nor those that are lost."""
        self.report.rejected += written.rejected.items()
        left = {*written.rejected, *written.changed, *written.lost}
        done = self.plan.without(left) if left else self.plan
        self.report.encoded += 0 if self.given else len(done.encoded)
        self.report.written += len(done.encoded) + len(done.described)
        self.report.deleted += written.deleted


def _reasons(error: InputError | BadVectors | OutOfMemory) -> dict[int, str]:
    """Return why the texts at these positions have no vectors."""
    if isinstance(error, InputError):
        return {each.position: each.reason for each in error.problems}
    if isinstance(error, BadVectors):
        return dict.fromkeys(error.positions, "gets no sound vector from the model")
    return {error.position: "is too long for the memory that there is"}
