"""The search indexes of a table of chunks: built once nothing is left to write into them, while others write."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from psycopg import Connection

from harrier_core.errors import StoreError, StoreUnavailable, StoreWarning
from harrier_pgvector.building import build
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.opening import TableName

if TYPE_CHECKING:
    from harrier_pgvector.connections import Connections


class Indexing:
    """Tracks whether a table's indexes need a check, and builds them. Any number of lanes may use it."""

    def __init__(self, connections: Connections, turn: threading.Lock) -> None:
        """Take the lock of a worker, which builds for one table at a time, so that one of its lanes remains free."""
        self.is_due = True  # something may have been embedded since the last check
        self._is_built = False
        self._connections = connections
        self._turn = turn

    def note_embedded(self) -> None:
        """Have the indexes checked again, unless they are built."""
        self.is_due = not self._is_built

    def build(self, store: OpenTable, table: tuple[str, str], is_left: Callable[[], bool]) -> None:
        """Build the indexes of a store that has enough rows for them and nothing left in its queue.

        table: the schema and the name of its table.
        """
        self.is_due = False  # for now: whichever lane embeds more will check again
        if self._is_built or is_left() or store.is_small():
            return
        if not self._turn.acquire(blocking=False):
            self.is_due = True
            return
        try:
            self._is_built = self._try_to_build(store, TableName(*table, "halfvec"))
            self.is_due = not self._is_built  # another session was building, for example
        finally:
            self._turn.release()

    def _try_to_build(self, store: OpenTable, name: TableName) -> bool:
        def run(connection: Connection[Any]) -> None:
            build(connection, name.open(connection, store.space, create=False).table, name, beside=True)

        try:
            self._connections.run(run)
        except StoreUnavailable:
            raise
        except StoreError as error:
            warnings.warn(
                f"the indexes of {name} were not built, and its searches compare all rows: {error}",
                StoreWarning,
                stacklevel=2,
            )
            return False
        return True
