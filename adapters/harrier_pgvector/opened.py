"""OpenTable: a table that was opened for one embedding space, and what is written, searched and read in it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import Connection, Cursor, sql

from harrier_core.errors import StoreError, StoreUnavailable, StoreWarning
from harrier_core.filters import Condition
from harrier_core.query import Search
from harrier_core.records import Chunk, Match
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Hashes, Stored, Write, Written
from harrier_pgvector.building import build, is_small
from harrier_pgvector.connections import Connections
from harrier_pgvector.failures import UNTRANSLATABLE
from harrier_pgvector.filters import compile_condition
from harrier_pgvector.opening import Opened, TableName
from harrier_pgvector.rows import vector_of
from harrier_pgvector.schema import ANY_OF, LOOK_UP, Table, ids
from harrier_pgvector.session import Statement, as_ours, ask_checked, transaction
from harrier_pgvector.writing import HASHES, Writing, by_record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ATTEMPTS = 5  # at a table that is replaced again and again


class OpenTable:
    """A table of chunks. Each call looks at it in the same round trip, and goes to what is there now."""

    def __init__(self, connections: Connections, name: TableName, opened: Opened) -> None:
        self._connections = connections
        self._name = name
        self._opened = opened

    @property
    def space(self) -> EmbeddingSpace:
        """The space of its vectors."""
        return self._opened.space

    # -- writing

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """Return the hashes of the chunks of those records that are there."""
        return self._connections.run(lambda connection: self._known(connection, record_ids))

    def _known(self, connection: Connection[Any], record_ids: Sequence[str]) -> dict[str, Hashes]:
        try:
            [found] = self._ask(connection, lambda table: [(_sql(table, HASHES), [ids(record_ids)], True)])
        except UNTRANSLATABLE:  # ids that the encoding of the database cannot hold are not there
            if len(record_ids) == 1:
                return {}
        else:
            return by_record(found.fetchall())
        half = len(record_ids) // 2
        return self._known(connection, record_ids[:half]) | self._known(connection, record_ids[half:])

    def write(self, write: Write) -> Written:
        """Write all of it in one transaction: a reader sees a record's old chunks or its new ones, and never a mix."""
        return self._connections.run(lambda connection: self.write_on(connection, write), writes=True)

    def write_on(self, connection: Connection[Any], write: Write) -> Written:
        """Do the same on a connection of the caller's, as part of its transaction if there is one.

        That transaction must not be REPEATABLE READ, in which a record could become a mix of two writers' chunks.
        """
        writing = Writing(connection, self._opened.table, str(self._name))
        with as_ours(connection):
            try:
                with transaction(connection, current=True):
                    return writing.write(write)
            except UNTRANSLATABLE:
                with transaction(connection, current=True):
                    return writing.write_apart(write)

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records, and return how many chunks those were."""
        return self._connections.run(lambda connection: self.delete_on(connection, record_ids), writes=True)

    def delete_on(self, connection: Connection[Any], record_ids: Sequence[str]) -> int:
        """Do the same on a connection of the caller's, as part of its transaction if there is one."""
        delete = "DELETE FROM {table} WHERE record_id = {any_of}"
        with as_ours(connection):
            [cursor] = self._ask(
                connection, lambda table: [(_sql(table, delete), [ids(record_ids)], False)], together=False
            )
        return cursor.rowcount

    def build_indexes(self) -> None:
        """Build the indexes that are missing, which takes a fraction of the time that a load into them would.

        Not for a few rows, which are compared as fast, all of them: what is tried out first should not make the load
        that follows one into an index. Nor while somebody else writes, who would wait: the last of several loads
        builds them. If they cannot be built, that is a StoreWarning: everything is stored.
        """
        try:
            self._connections.run(lambda connection: build(connection, self._opened.table))
        except StoreUnavailable:
            raise
        except StoreError as error:
            warnings.warn(
                f"the indexes of {self._name} were not built, and its searches compare all rows: {error}",
                StoreWarning,
                stacklevel=2,
            )

    def is_small(self) -> bool:
        """Return whether it has so few rows that it needs no index."""
        return self._connections.run(lambda connection: is_small(connection, self._opened.table))

    # -- reading

    def search(self, search: Search) -> list[list[Match]]:
        """Return for each vector the k nearest chunks that meet the condition, best first; all in one round trip."""
        condition = compile_condition(search.where)

        def queries(table: Table) -> list[Statement]:
            options = {"exact": search.exact, "with_vectors": search.with_vectors}
            return [(*table.search(each, search.k, condition, **options), False) for each in search.vectors]

        def run(connection: Connection[Any]) -> list[Cursor[Any]]:
            return self._ask(connection, queries, settings=self._settings(search.k))

        return [[self._match(row) for row in cursor.fetchall()] for cursor in self._connections.run(run)]

    def _settings(self, k: int) -> dict[str, str]:
        # Compiling would take longer than the search: its cost is estimated for a comparison of all rows.
        settings = {"hnsw.ef_search": str(self._opened.table.width(k)), "jit": "off"}
        return settings | ({"hnsw.iterative_scan": "strict_order"} if self._opened.iterative else {})

    def _match(self, row: Sequence[Any]) -> Match:
        *chunk, stored, far = row
        return Match(Chunk(*chunk), 1.0 - far, 1.0 - far, self._vector(stored) if stored else None)

    def _vector(self, stored: bytes) -> NDArray[np.float32]:
        return vector_of(stored, self._opened.table.precision)

    def read(self, record_ids: Sequence[str] | None = None, where: Condition | None = None) -> Iterator[Stored]:
        """Yield the chunks of those records, or of all, that meet the condition, by their keys, as they are needed."""
        condition = compile_condition(where)

        def page(last: tuple[str, int]) -> list[Any]:
            return self._rows(lambda table: (*table.read(record_ids, condition, last), True))

        rows = page(("", -1))
        while rows:
            for *chunk, stored in rows:
                yield Stored(Chunk(*chunk), self._vector(stored))
            rows = page(rows[-1][:2])

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records, each once, in any order."""
        query = "SELECT record_id FROM {table} WHERE number = 0 AND record_id > %s ORDER BY record_id LIMIT 10000"

        def page(last: str) -> list[str]:
            return [record_id for (record_id,) in self._rows(lambda table: (_sql(table, query), [last], True))]

        ids = page("")
        while ids:
            yield from ids
            ids = page(ids[-1])

    def count(self) -> int:
        """Return how many chunks there are."""
        [[number]] = self._rows(lambda table: (_sql(table, "SELECT count(*) FROM {table}"), [], True))
        return int(number)

    # -- one round trip

    def _rows(self, query: Callable[[Table], Statement]) -> list[Any]:
        def rows(connection: Connection[Any]) -> list[Any]:
            [cursor] = self._ask(connection, lambda table: [query(table)])
            return cursor.fetchall()

        return self._connections.run(rows)

    def _ask(
        self,
        connection: Connection[Any],
        statements: Callable[[Table], list[Statement]],
        *,
        settings: dict[str, str] | None = None,
        together: bool = True,
    ) -> list[Cursor[Any]]:
        """Run statements on the table; if it was replaced, open what is there instead, and run them on that."""
        for _ in range(_ATTEMPTS):
            opened = self._opened
            look: Statement = (LOOK_UP, [self._name.schema, self._name.name], False)
            cursors = ask_checked(
                connection, look, opened.was, statements(opened.table), settings=settings, together=together
            )
            if cursors is not None:
                return cursors
            self._opened = self._name.open(connection, opened.space, create=False)
        raise StoreUnavailable(f"table {self._name} was replaced {_ATTEMPTS} times in a row; try again")


def _sql(table: Table, text: LiteralString) -> sql.Composed:
    return sql.SQL(text).format(table=table.name, any_of=ANY_OF)
