"""The store of a batch: what is no longer leased is not written, and what is written leaves the queue with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from psycopg import Connection

from harrier_core.filters import Condition
from harrier_core.store import Hashes, Stored, Write, Written
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.sync.queue import Batch, Queue
from harrier_pgvector.sync.session import pinned

if TYPE_CHECKING:
    from harrier_pgvector.connections import Connections

LOST = "is no longer leased"


class LeasedStore:
    """The store, for an ingest that writes only what is still leased, and takes it out of the queue as it does."""

    def __init__(self, store: OpenTable, connections: Connections, queue: Queue, batch: Batch) -> None:
        self._store = store
        self._connections = connections
        self._queue = queue
        self._batch = batch

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """The hashes of the chunks of those records that are there."""
        return self._store.known(record_ids)

    def write(self, write: Write) -> Written:
        """All of it in one transaction, the queue's part included."""
        written, done = self._connections.run(lambda connection: self._write(connection, write))
        self._batch.done |= done
        return written

    def _write(self, connection: Connection[Any], write: Write) -> tuple[Written, set[str]]:
        leases = self._batch.leases
        with pinned(connection):
            held = self._queue.hold(connection, self._batch.token, [leases[id_] for id_ in write.sizes])
            lost = write.sizes.keys() - held
            written = self._store.write_on(connection, write.only(held) if lost else write)
            done = held.difference(written.changed, written.rejected)
            self._queue.done(connection, [leases[record_id] for record_id in done])
        return Written(written.deleted, written.changed, {**written.rejected, **dict.fromkeys(lost, LOST)}), done

    def read(self, record_ids: Sequence[str] | None = None, where: Condition | None = None) -> Iterator[Stored]:
        """The chunks of those records."""
        return self._store.read(record_ids, where)

    def build_indexes(self) -> None:
        """That is done when nothing is left."""

    def delete(self, record_ids: Sequence[str]) -> int:
        """Not asked for: nothing is pruned."""
        return self._store.delete(record_ids)

    def record_ids(self) -> Iterator[str]:
        """The ids of all records."""
        return self._store.record_ids()
