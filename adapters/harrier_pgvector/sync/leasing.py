"""Lease batches of a table's rows, and extend their leases as long as they are being worked on."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg import Connection

from harrier_pgvector.sync.batch import Batch, Lease
from harrier_pgvector.sync.queue import Queue
from harrier_pgvector.sync.session import run

if TYPE_CHECKING:
    from harrier_pgvector.connections import Connections


class Leasing:
    """The batches of one table that a worker's lanes are working on; a lease lasts `seconds`."""

    def __init__(self, connections: Connections, seconds: float) -> None:
        self._connections = connections
        self._seconds = seconds
        self._batches: set[Batch] = set()
        self._lock = threading.Lock()

    def claim(self, queue: Queue, most: int) -> Batch:
        """Lease the next rows, after adding changes to the queue."""
        token = uuid.uuid4()

        def claim(connection: Connection[Any]) -> list[Lease]:
            queue.fold(connection)
            return queue.claim(connection, most, token, self._seconds)

        return Batch(token, {lease.record_id: lease for lease in run(self._connections, claim, limited=False)})

    @contextmanager
    def in_hand(self, batch: Batch) -> Iterator[None]:
        """Have `extend` extend the batch's leases until the block ends."""
        with self._lock:
            self._batches.add(batch)
        try:
            yield
        finally:
            with self._lock:
                self._batches.remove(batch)

    def extend(self, queue: Queue) -> None:
        """Extend the leases of all batches in progress, in a transaction each."""
        with self._lock:
            batches = list(self._batches)
        for batch in batches:
            leases = batch.leases.values()
            run(self._connections, partial(queue.extend, token=batch.token, leases=leases, seconds=self._seconds))
