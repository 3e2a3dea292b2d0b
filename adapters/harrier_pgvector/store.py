"""PgVectorStore: chunks and vectors in one table of Postgres."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString, Self

from psycopg import Connection, sql
from psycopg_pool import ConnectionPool

from harrier_core.errors import SettingError, StoreError, StoreUnavailable, StoreUnsuitable, StoreWarning
from harrier_core.filters import Condition
from harrier_core.records import Chunk, Match
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Hashes, Stored, Write, Written
from harrier_pgvector.building import build, is_small
from harrier_pgvector.connections import Connections
from harrier_pgvector.embedded import start
from harrier_pgvector.failures import UNTRANSLATABLE
from harrier_pgvector.filters import Compiled, compile_condition
from harrier_pgvector.opening import Opened, Place, checked_name
from harrier_pgvector.rows import Precision, vector_of
from harrier_pgvector.schema import ANY_OF, Name, Table, ids
from harrier_pgvector.session import as_ours, ask, transaction
from harrier_pgvector.writing import Writing, look_apart

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

_PRECISIONS: dict[str, Precision] = {"float16": "halfvec", "float32": "vector"}

_INVOKER = 150_000  # the first version whose views can have the rights of whoever reads them


class PgVectorStore:
    """A table of chunks in Postgres. Making one connects to nothing; any number of threads may use it at once."""

    def __init__(
        self,
        place: str | ConnectionPool[Any] | Connections,
        *,
        table: str = "documents",
        schema: str = "public",
        precision: str = "float16",
        retry_for: float = 60.0,
    ) -> None:
        """A table in the database of a connection string, or of a psycopg pool, which stays its owner's.

        precision: float16 numbers cost half of float32 and lose no recall. retry_for: after how many seconds an
        operation is given up whose server is away, silent, or read-only after it took writes before. A statement that
        the server works on is waited for. Of a pool, its connections' own timeouts apply.
        """
        if precision not in _PRECISIONS:
            raise SettingError(f"precision is 'float16' or 'float32', not {precision!r}")
        self._connections = place if isinstance(place, Connections) else Connections(place, retry_for)
        self._place = Place(schema, table, _PRECISIONS[precision])
        self._opened: Opened | None = None
        self._stop: Callable[[], None] = lambda: None

    @classmethod
    def embedded(cls, folder: str | Path, *, table: str = "documents", **options: Any) -> Self:  # noqa: ANN401
        """A table in a real PostgreSQL that runs in a folder; other processes may open the same folder."""
        conninfo, stop = start(Path(folder))
        store = cls(conninfo, table=table, **options)
        store._stop = stop
        return store

    # -- opening

    def open(self, space: EmbeddingSpace, *, write: bool) -> None:
        """Make sure that the table's vectors are of this space; to write, make the table if there is none."""
        self._connections.run(lambda connection: self.open_on(connection, space, write=write))

    def open_on(self, connection: Connection[Any], space: EmbeddingSpace, *, write: bool) -> None:
        """The same on a connection of the caller's, as part of its transaction if there is one."""
        with as_ours(connection):
            self._opened = self._place.open(connection, space, self._opened, write=write)

    # -- writing

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """The hashes of the chunks of those records that are there."""
        return self._connections.run(lambda connection: look_apart(connection, self._table, record_ids))

    def write(self, write: Write) -> Written:
        """All of it in one transaction: a reader sees a record's old chunks or its new ones, and never a mix."""
        return self._connections.run(lambda connection: self.write_on(connection, write), writes=True)

    def write_on(self, connection: Connection[Any], write: Write) -> Written:
        """The same on a connection of the caller's, as part of its transaction if there is one.

        That transaction must not be REPEATABLE READ, in which a record could become a mix of two writers' chunks.
        """
        writing = Writing(connection, self._table, str(self))
        with as_ours(connection):
            try:
                with transaction(connection, current=True):
                    return writing.write(write)
            except UNTRANSLATABLE:
                with transaction(connection, current=True):
                    return writing.write_apart(write)

    def settle(self) -> None:
        """Build the indexes that are missing, which takes a fraction of the time that a load into them would.

        Not for a few rows, which are compared as fast, all of them: what is tried out first should not make the load
        that follows one into an index. If they cannot be built, that is a StoreWarning: everything is stored.
        """
        try:
            self._connections.run(self._settle)
        except StoreUnavailable:
            raise
        except StoreError as error:
            warnings.warn(
                f"the indexes of {self} were not built, and its searches compare all rows: {error}",
                StoreWarning,
                stacklevel=2,
            )

    def _settle(self, connection: Connection[Any]) -> None:
        build(connection, self._table)

    def is_small(self) -> bool:
        """Whether it has so few rows that it needs no index."""
        return self._connections.run(lambda connection: is_small(connection, self._table))

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records; how many chunks that were."""
        return self._connections.run(lambda connection: self.delete_on(connection, record_ids), writes=True)

    def delete_on(self, connection: Connection[Any], record_ids: Sequence[str]) -> int:
        """The same on a connection of the caller's, as part of its transaction if there is one."""
        delete = self._sql("DELETE FROM {table} WHERE record_id = {any_of}")
        with as_ours(connection):
            return ask(connection, delete, [ids(record_ids)]).rowcount

    # -- reading

    def search(
        self, vectors: Vectors, k: int, where: Condition | None, *, with_vectors: bool = False
    ) -> list[list[Match]]:
        """For each vector the k nearest chunks that meet the condition, best first."""
        condition = compile_condition(where)
        return self._connections.run(
            lambda connection: [self._search(connection, each, k, condition, with_vectors) for each in vectors]
        )

    def _search(
        self, connection: Connection[Any], vector: NDArray[np.float32], k: int, where: Compiled, with_vectors: bool
    ) -> list[Match]:
        written = "[" + ",".join(map(str, vector.tolist())) + "]"
        query, values = self._table.search(written, k, where, with_vectors=with_vectors)
        settings = {"hnsw.ef_search": str(self._table.width(k))}
        if self._opened and self._opened.iterative:
            settings["hnsw.iterative_scan"] = "strict_order"
        rows = ask(connection, query, values, settings=settings).fetchall()
        if len(rows) < k:  # an index may give up before it has found k; without it all are compared
            rows = ask(connection, query, values, settings={"enable_indexscan": "off"}).fetchall()
        precision = self._table.precision
        return [
            Match(
                record_id, number, text, metadata, score, start, end, vector_of(stored, precision) if stored else None
            )
            for record_id, number, text, metadata, score, start, end, stored in rows
        ]

    def read(self, record_ids: Sequence[str] | None = None, where: Condition | None = None) -> Iterator[Stored]:
        """The chunks of those records, or of all, that meet the condition, by their keys, as they are needed."""
        last = ("", -1)
        while True:
            query, values = self._table.read(record_ids, compile_condition(where), last)
            rows = self._rows(query, values)
            for *chunk, stored in rows:
                yield Stored(Chunk(*chunk), vector_of(stored, self._table.precision))
            if not rows:
                return
            last = rows[-1][:2]

    def record_ids(self) -> Iterator[str]:
        """The ids of all records, each once, in any order."""
        query = self._sql(
            "SELECT record_id FROM {table} WHERE number = 0 AND record_id > %s ORDER BY record_id LIMIT 10000"
        )
        last = ""
        while rows := self._rows(query, [last]):
            yield from (record_id for (record_id,) in rows)
            [last] = rows[-1]

    def _rows(self, query: sql.Composed, bound: list[Any]) -> list[Any]:
        return self._connections.run(lambda connection: ask(connection, query, bound, binary=True).fetchall())

    def count(self) -> int:
        """How many chunks there are."""
        query = self._sql("SELECT count(*) FROM {table}")
        [[number]] = self._rows(query, [])
        return int(number)

    def create_langchain_view(self, name: str, *, as_owner: bool = False) -> None:
        """A view, in the same schema, that langchain-postgres's PGVectorStore can search; it cannot be written to.

        Whoever reads it needs rights on the table, and sees the rows that the table's policies let them see. as_owner:
        they need rights on the view only, and see all rows that its owner sees, past row-level security. Before
        Postgres 15 all views are such.
        """
        view = Name(self._place.schema, checked_name("view", name))
        self._connections.run(lambda connection: self._create_view(connection, view, as_owner=as_owner), writes=True)

    def _create_view(self, connection: Connection[Any], view: Name, *, as_owner: bool) -> None:
        if not as_owner and connection.info.server_version < _INVOKER:
            raise StoreUnsuitable(
                "before Postgres 15 a view shows its readers all rows that its owner sees, past row-level security; "
                "pass as_owner=True if they may see them"
            )
        ask(connection, self._table.langchain_view(view, invoker=not as_owner), [])

    # -- life

    def close(self) -> None:
        """Close our own connections; an embedded Postgres stops with its last user."""
        self._connections.close()
        stop, self._stop = self._stop, lambda: None
        stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __str__(self) -> str:
        return str(self._place)

    def __repr__(self) -> str:
        return f"PgVectorStore({self._connections}, table={self._place.name!r}, schema={self._place.schema!r})"

    @property
    def _table(self) -> Table:
        if self._opened is None:
            raise SettingError(f"{self} was not opened; an Index does it, or store.open(encoder.space, write=...)")
        return self._opened.table

    def _sql(self, text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(table=self._table.name, any_of=ANY_OF)
