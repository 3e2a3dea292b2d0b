"""The store of a batch: rows that are no longer leased are not written, and those that are written leave the queue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psycopg import Connection

from harrier_core.filters import Condition
from harrier_core.store import Hashes, Stored, Write, Written
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.sync import catalog
from harrier_pgvector.sync.batch import DONE, LOST, Batch, Outcome
from harrier_pgvector.sync.declaration import Declaration
from harrier_pgvector.sync.queue import Queue
from harrier_pgvector.sync.session import run

if TYPE_CHECKING:
    from harrier_pgvector.connections import Connections


class LeasedStore:
    """The store of an ingest that writes only rows that are still leased, and takes them out of the queue as it does.

    `outcomes` are those of the rows that it was asked to write: DONE, or LOST if they have changed, written or not.
    """

    def __init__(
        self, store: OpenTable, connections: Connections, queue: Queue, batch: Batch, declaration: Declaration
    ) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self._store = store
        self._declaration = declaration
        self._connections = connections
        self._queue = queue
        self._batch = batch

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """Return the hashes of the stored chunks of these records."""
        return self._store.known(record_ids)

    def write(self, write: Write) -> Written:
        """Write records and take their rows out of the queue, in one transaction."""
        written, done = run(self._connections, lambda connection: self._write(connection, write), limited=False)
        ended = {*_finished(write, written), *written.lost}
        self.outcomes.update({record_id: DONE if record_id in done else LOST for record_id in ended})
        return written

    def _write(self, connection: Connection[Any], write: Write) -> tuple[Written, set[str]]:
        """Return the result, and the records that left the queue."""
        leases = self._batch.leases
        catalog.lock_chunks(connection, self._declaration.target)
        held = self._queue.hold(connection, self._batch.token, [leases[record_id] for record_id in write.sizes])
        lost = write.sizes.keys() - held.keys()
        written = self._store.write_on(connection, write.only(held) if lost else write)
        catalog.refuse_renamed(connection, self._declaration.number, self._declaration.target)
        written = replace(written, lost=lost)
        done = {record_id for record_id in _finished(write, written) if held[record_id]}
        self._queue.remove(connection, [leases[record_id] for record_id in done])
        return written, done

    def read(
        self,
        record_ids: Sequence[str] | None = None,
        where: Condition | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[Stored]:
        """Yield the chunks of these records, or of all, that meet the condition."""
        return self._store.read(record_ids, where, numbers)

    def build_indexes(self) -> None:
        """Do nothing: indexes are built when the queue is empty, not after each batch."""

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records, and return how many chunks they had."""
        return self._store.delete(record_ids)

    def record_ids(self) -> Iterator[str]:
        """Return the ids of all records."""
        return self._store.record_ids()


def _finished(write: Write, written: Written) -> set[str]:
    """Return the records that are stored as intended."""
    return set(write.sizes).difference(written.changed, written.rejected, written.lost)
