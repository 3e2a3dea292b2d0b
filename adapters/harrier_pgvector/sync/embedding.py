"""One batch: read its rows, embed what is new, write what is still current, and settle every row with the queue."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from psycopg import Connection

from harrier_core.embedder import Embedder
from harrier_core.errors import (
    DeviceError,
    EncoderClosed,
    HarrierError,
    ModelError,
    ServerError,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
    StoreUnsuitable,
    WrongSpace,
)
from harrier_core.ingest import Ingest
from harrier_pgvector.failures import Refused
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.sync import catalog
from harrier_pgvector.sync.batch import DONE, LOST, NO_TEXT, Batch, Fate, failures
from harrier_pgvector.sync.declaration import Declaration
from harrier_pgvector.sync.leased import LeasedStore
from harrier_pgvector.sync.queue import Queue
from harrier_pgvector.sync.reading import Rows, SourceChanged
from harrier_pgvector.sync.session import run

if TYPE_CHECKING:
    from harrier_pgvector.connections import Connections

# A row is set aside after this many attempts that ended with an error, or with the death of the worker.
_MOST_ATTEMPTS = 8
_LONGEST_PAUSE = 300.0  # seconds between two attempts

# Errors that no row causes: rows are neither tried separately nor given up.
_NOT_OF_THE_ROWS = (StoreUnsuitable, StoreFull, ModelError, DeviceError, ServerError, EncoderClosed)
# The same for classes of states: transactions, conflicts, resources, locks, interventions, systems, and bugs. The
# messages of all but the last quote no text.
_OF_THE_SERVER = frozenset({"25", "40", "53", "55", "57", "58"})
_INTERNAL = "XX"


class RowsFailed(HarrierError):
    """An error that counted as an attempt for a batch's rows. They are eventually set aside, so it does not last."""


class Embedding:
    """One batch of a declared table's rows in progress."""

    def __init__(
        self,
        connections: Connections,
        declaration: Declaration,
        encoder: Embedder,
        store: OpenTable,
        queue: Queue,
        batch: Batch,
    ) -> None:
        self._connections = connections
        self._declaration = declaration
        self._encoder = encoder
        self._store = store
        self._queue = queue
        self._batch = batch

    def run(self) -> None:
        """Decide on every row of the batch; after an error, give back all rows that are still leased."""
        try:
            without_text = self._ingest()
            self._put_aside()
            self._take_out(without_text)
            self._give_back_lost()
        except StoreUnavailable:  # the leases expire anyway
            raise
        except Exception as error:
            if isinstance(error, (SourceChanged, *_NOT_OF_THE_ROWS)) or _is_of_the_server(error):
                leases = self._batch.leases.values()
                run(self._connections, lambda c: self._queue.give_back(c, self._batch.token, leases))
                raise
            said = reportable(error)
            self._count_attempt(said)
            if isinstance(error, StoreMissing | WrongSpace):
                raise
            raise RowsFailed(said) from error

    # -- steps: rows that needed no writing get a separate transaction, which locks no other rows meanwhile

    def _ingest(self) -> set[str]:
        """Write what is new, and return the rows that have no text or are gone."""
        batch = self._batch
        batch.decide(failures(_exhausted(batch)))
        rows = Rows(self._connections, self._declaration, batch.undecided)
        store = LeasedStore(self._store, self._connections, self._queue, batch, self._declaration)
        report = Ingest(self._encoder, self._declaration.chunking).run(store, rows, build_indexes=False)
        batch.decide(failures(rows.unreadable))
        batch.decide(failures(report.rejected))
        batch.decide(store.outcomes)
        return rows.without_text

    def _put_aside(self) -> None:
        if failed := self._batch.ended_as(Fate.FAILED):
            reasons = {lease: outcome.reason for lease, outcome in failed.items()}
            run(self._connections, lambda c: self._queue.fail(c, self._batch.token, reasons))

    def _take_out(self, without_text: set[str]) -> None:
        """Take the rows that needed no writing out of the queue, and remove the chunks of those without text."""
        rest = self._batch.undecided

        def take_out(connection: Connection[Any]) -> set[str]:
            if without_text:
                catalog.lock_chunks(connection, self._declaration.target)
            held = {each for each, same in self._queue.hold(connection, self._batch.token, rest).items() if same}
            if gone := sorted(held & without_text):
                self._store.delete_on(connection, gone)
            catalog.refuse_renamed(connection, self._declaration.number, self._declaration.target)
            self._queue.remove(connection, [lease for lease in rest if lease.record_id in held])
            return held

        held = run(self._connections, take_out, limited=False) if rest else set()
        ended = {record_id: NO_TEXT if record_id in without_text else DONE for record_id in held}
        self._batch.decide({lease.record_id: ended.get(lease.record_id, LOST) for lease in rest})

    def _give_back_lost(self) -> None:
        """Give back rows that changed in the meantime, including those that could not be set aside for that reason."""
        if rest := self._batch.ended_as(Fate.LOST, Fate.FAILED):
            run(self._connections, lambda c: self._queue.give_back(c, self._batch.token, rest))

    def _count_attempt(self, error: str) -> None:
        leases = self._batch.leases.values()
        after = min(2.0 ** max(lease.attempts for lease in leases), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)
        run(
            self._connections,
            lambda c: self._queue.give_back(c, self._batch.token, leases, after=after, error=error),
        )


def _exhausted(batch: Batch) -> dict[str, str]:
    """Return the rows that have used up their attempts, with the reason for giving them up."""
    reason = f"failed {_MOST_ATTEMPTS} attempts, and may have crashed the worker"
    return {
        record_id: f"{reason}; the last error: {lease.error}" if lease.error else reason
        for record_id, lease in batch.leases.items()
        if lease.attempts > _MOST_ATTEMPTS
    }


def reportable(error: Exception) -> str:
    """Return what may be stored of an error: a database message may quote a text, other errors show their type."""
    if not isinstance(error, HarrierError):
        return f"unexpected {type(error).__name__}"
    said = str(error)
    return said.partition(":")[0] if isinstance(error, Refused) and error.state[:2] not in _OF_THE_SERVER else said


def _is_of_the_server(error: Exception) -> bool:
    return isinstance(error, Refused) and error.state[:2] in {*_OF_THE_SERVER, _INTERNAL}
