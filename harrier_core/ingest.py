"""Cut records into chunks, encode only the changed ones, and write them to the store, window by window.

While one window is being encoded, those before it are written and the next one is read: the model never waits.
A second run over the same records encodes and writes only what the first one did not, however that ended.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextvars import copy_context
from time import perf_counter
from typing import TYPE_CHECKING

from harrier_core.chunking import Chunking, Cuts, chunks, chunks_at
from harrier_core.embedder import Embedder, Encoded
from harrier_core.ending import refuse_at_end
from harrier_core.errors import ProcessEnding
from harrier_core.finishing import Finishing
from harrier_core.given import GivenVectors
from harrier_core.intake import Arrived, Intake
from harrier_core.memory import Journal, Recollection
from harrier_core.planning import Plan, plan
from harrier_core.progress import Progress
from harrier_core.pruning import Pruning
from harrier_core.pruning import prune as remove_unseen
from harrier_core.records import Chunk, Deferred, Ingestible, IngestReport, Record, Unstorable
from harrier_core.seen import Seen
from harrier_core.store import IngestStore

if TYPE_CHECKING:
    from harrier_core.key_values import KeyValues
    from harrier_core.types import Vector

log = logging.getLogger(__name__)

# The size of a window: a transaction of the store, and enough texts of similar length for full passes.
WINDOW_RECORDS, WINDOW_CHARACTERS = 1_000, 2_000_000
_UNDER_WAY = 5  # windows that are planned but not finished: neither the model nor the store waits for the next one
_TELL = 1.0  # at most this many seconds between two calls of `on_progress`, once something is under way


class Ingest:
    """One run of an ingest. Another thread may stop it."""

    def __init__(
        self,
        embedder: Embedder,
        chunking: Chunking | None = None,
        on_progress: Progress | None = None,
        memory: KeyValues | None = None,
        *,
        cuts: Mapping[str, Cuts] | None = None,
        note: Callable[[Record], None] | None = None,
        journal: bool = True,
    ) -> None:
        """Take an index's settings.

        cuts: where records are cut, by their ids, if known. note: called with each sound record. journal: keep
        the vectors of long records in the memory until they are written.
        """
        self._stopped = threading.Event()
        self._store: IngestStore
        self._embedder = embedder
        self._chunking = chunking
        self._on_progress = on_progress
        self._journaled = memory if journal else None
        self._cuts = cuts or {}
        self._note = note
        self._recollection = Recollection(memory, embedder, chunking)
        self._unsure: dict[str, Deferred] = {}  # records that will be remembered once they are written
        self._begin = perf_counter()
        self._given: GivenVectors | None = None
        self._intake = Intake(WINDOW_RECORDS, WINDOW_CHARACTERS)
        self._finishing: Finishing | None = None
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
        """Ingest all records into a store. With `prune`, remove stored records that are not among them."""
        self._store = store
        self._given = None if vectors is None else GivenVectors(self._embedder)
        self._intake = Intake(WINDOW_RECORDS, WINDOW_CHARACTERS, self._given, self._recollection.of)
        context = copy_context()  # the caller's trace, for threads that submit texts; each needs its own copy

        def submit(texts: Sequence[str], given: Sequence[Vector]) -> Future[Encoded]:
            return context.copy().run(self._submit, texts, given)

        try:
            journal = Journal(self._journaled, self._embedder)
            with Finishing(store, submit, journal, in_slices=self._given is None) as finishing:
                self._finishing = finishing
                self._finish_all(finishing, records, vectors)
        except BaseException as error:  # including errors of the caller's records, and Ctrl-C
            if isinstance(error, ProcessEnding):  # on a pool's thread nothing else would report it
                log.warning("ingest interrupted after %d chunks: %s; run it again", self.report.written, error)
            raise
        if prune:
            pruning = Pruning() if prune is True else prune
            self.report.deleted += remove_unseen(store, pruning, len(self.seen), self.nameless, self.seen.unseen)
        if build_indexes:
            self._store.build_indexes()
        self._tell()
        return self.report

    def _finish_all(self, finishing: Finishing, records: Iterable[Ingestible], vectors: object) -> None:
        for arrived in self._intake.windows(records, vectors):
            if arrived.again:  # a window under way may change what is known of its record
                self._wait(finishing, 0)
            planned = self._plan(arrived)
            self._add(arrived.report)
            if planned.chunks:
                refuse_at_end()
                finishing.add(planned, arrived.vectors)
            self._refuse_stopped(finishing)
            self._wait(finishing, _UNDER_WAY - 1)
        self._wait(finishing, 0)
        self._refuse_stopped(finishing)  # a wait ends early, and what was dropped must not be pruned

    def _refuse_stopped(self, finishing: Finishing) -> None:
        if self._stopped.is_set():
            finishing.stop()
            raise CancelledError("the ingest was stopped")

    @property
    def seen(self) -> Seen:
        """The ids of the records that occurred."""
        return self._intake.seen

    @property
    def nameless(self) -> list[str]:
        """The reasons why records without an id were rejected."""
        return self._intake.nameless

    def stop(self) -> None:
        """Stop after the pass under way, and drop everything that has no vectors yet. Any thread may call it."""
        self._stopped.set()
        if self._finishing is not None:
            self._finishing.stop()

    # -- planning: what is new

    def _chunked(self, arrived: Arrived) -> dict[str, list[Chunk]]:
        """Return the chunks of each record; reject records with pieces that no store can hold."""
        counts = self._counts(arrived.records.values())
        if self._given and self._chunking:
            arrived.leave_out_cut(counts, self._chunking.tokens)
        chunked = {}
        for record in arrived.records.values():
            if self._note:
                self._note(record)
            try:
                chunked[record.id] = (
                    chunks_at(record, self._cuts[record.id])
                    if record.id in self._cuts
                    else chunks(record, counts[record.id], self._chunking, self._embedder.count_tokens)
                )
            except Unstorable as error:
                arrived.report.rejected.append((record.id, str(error)))
        return chunked

    def _counts(self, records: Collection[Record]) -> dict[str, int]:
        """Return how many tokens each record has, or 0 if that does not decide how it is cut."""
        counts = dict.fromkeys((record.id for record in records), 0)
        if self._chunking is not None and records:
            # A token is at least one byte, so the tokens of short texts need not be counted.
            room = self._chunking.tokens - self._embedder.count_tokens(["a"])[0]
            uncut = [record for record in records if record.id not in self._cuts]
            long = [record for record in uncut if len(record.text.encode()) > room]
            texts = [record.text for record in long]
            counts |= zip((each.id for each in long), self._embedder.count_tokens(texts), strict=True)
        return counts

    def _submit(self, texts: Sequence[str], given: Sequence[Vector]) -> Future[Encoded]:
        return self._given.submit(texts, given) if self._given else self._embedder.submit_documents(texts)

    def _plan(self, arrived: Arrived) -> Plan:
        """Return a window's plan. Remembered facts about a record count only if the store agrees."""
        known = self._store.known([*arrived.records, *arrived.recalled])
        changed = [id_ for id_, (_, hashes) in arrived.recalled.items() if known.get(id_, {}) != hashes]
        self._intake.read(arrived, changed)
        chunked = self._chunked(arrived)
        planned = plan(chunked, known)
        same = sum(len(hashes) for _, hashes in arrived.recalled.values())
        arrived.report.unchanged += planned.unchanged + same
        arrived.report.pending += len(planned.encoded)
        stored = [(each, chunked[id_]) for id_, each in arrived.deferred.items() if id_ in chunked]
        self._recollection.remember([(each, own) for each, own in stored if each.id not in planned.chunks])
        self._unsure |= {each.id: each for each, _ in stored if each.id in planned.chunks}
        log.debug(
            "a window of %d records: %d chunks are new, %d are described again, %d are unchanged",
            *(len(chunked) + len(arrived.recalled), len(planned.encoded), len(planned.described)),
            planned.unchanged + same,
        )
        return planned

    # -- what was done

    def _wait(self, finishing: Finishing, most: int) -> None:
        """Wait until at most `most` windows are under way, and report progress meanwhile."""
        while True:
            few = finishing.wait(most, _TELL)
            done = finishing.done()
            for each in done:
                self._add(each.report)
                if each.stored is not None:
                    self._remember(each.stored)
            if done or not few:
                self._tell()
            if few:
                return

    def _remember(self, stored: Plan) -> None:
        known = [(self._unsure.pop(id_), own) for id_, own in stored.chunks.items() if id_ in self._unsure]
        self._recollection.remember(known)

    def _add(self, done: IngestReport) -> None:
        self.report = self.report + done

    def _tell(self) -> None:
        self.report.seconds = perf_counter() - self._begin
        if self._on_progress:
            self._on_progress(self.report + IngestReport())  # a copy with its own lists
