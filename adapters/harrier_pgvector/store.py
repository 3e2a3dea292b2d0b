"""PgVectorStore: chunks and vectors in one table of Postgres."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString, Self

from psycopg import Connection, errors, sql
from psycopg_pool import ConnectionPool

from harrier_core.errors import (
    SettingError,
    SpaceError,
    StoreError,
    StoreMissing,
    StoreUnsuitable,
    StoreWarning,
    WrongSpace,
)
from harrier_core.filters import Condition
from harrier_core.records import Chunk, Match, to_json
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Hashes, Stored, Write, Written
from harrier_pgvector.connections import Connections, as_ours
from harrier_pgvector.embedded import start
from harrier_pgvector.filters import Compiled, compile_condition
from harrier_pgvector.rows import Precision, copy_blocks, vector_of
from harrier_pgvector.schema import ANY_OF, COLUMNS, INDEXES, LOOK_UP, Name, Table, are_few, ids

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

_PRECISIONS: dict[str, Precision] = {"float16": "halfvec", "float32": "vector"}

# How often other writers may add chunks to our records while we write them.
_ATTEMPTS = 5

_NEEDED, _ITERATIVE, _SOUND = (0, 7, 0), (0, 8, 0), (0, 8, 4)  # halfvec; iterative scans; no damaged HNSW

# An index that no longer fits into this while it is built takes three times as long.
_BUILD_MEMORY = "1GB"


class _OvertakenError(Exception):
    """Another writer added chunks to records that were being written."""


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

        precision: float16 numbers cost half of float32 and lose no recall. retry_for: how many seconds a server may be
        away before a write is given up.
        """
        if precision not in _PRECISIONS:
            raise SettingError(f"precision is 'float16' or 'float32', not {precision!r}")
        self._connections = place if isinstance(place, Connections) else Connections(place, retry_for)
        self._names = _checked_name("schema", schema), _checked_name("table", table)
        self._precision = _PRECISIONS[precision]
        self._opened: tuple[int, EmbeddingSpace, Table] | None = None  # the table by its oid
        self._iterative = False
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
            self._open(connection, space, write=write)

    def _open(self, connection: Connection[Any], space: EmbeddingSpace, *, write: bool) -> None:
        found = self._look_up(connection)
        if found is None:
            if not write:
                raise StoreMissing(f"there is no table {self}; ingest something into it first")
            self._create(connection, space)
            found = self._look_up(connection)
        oid, columns, comment = found or (0, {}, None)
        if self._opened and self._opened[0] == oid and self._opened[1] == space and columns.get("embedding"):
            stored = self._opened[1]
        else:
            stored = self._stored_space(columns, comment)
            self._check_version(connection)
        if stored != space:
            raise WrongSpace(
                f"table {self} holds vectors of another space: {stored.explain(space)}; use another table, or ingest "
                "everything anew into a new one"
            )
        kind = columns["embedding"].partition("(")[0]
        precision: Precision = "vector" if kind == "vector" else "halfvec"
        self._opened = oid, stored, Table(*self._names, space.dimensions, precision)

    def _stored_space(self, columns: dict[str, str], comment: str | None) -> EmbeddingSpace:
        if missing := [name for name in COLUMNS if name not in columns]:
            raise StoreUnsuitable(
                f"table {self} is not one of this kit's: it has no column {missing[0]!r}; use another table name"
            )
        try:
            return EmbeddingSpace.from_json(comment or "")
        except SpaceError as error:
            raise StoreUnsuitable(
                f"table {self} does not say what its vectors are: the comment on its column 'embedding' is {error}; "
                "use another table name"
            ) from None

    def _create(self, connection: Connection[Any], space: EmbeddingSpace) -> None:
        table = Table(*self._names, space.dimensions, self._precision)
        with connection.transaction():
            # One at a time: two that create it at once would see an error that says nothing to their users.
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [str(self)])
            if self._look_up(connection):
                return
            if not connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone():
                self._create_extension(connection)
            for statement in table.create(space.to_json()):
                connection.execute(statement, [])

    def _create_extension(self, connection: Connection[Any]) -> None:
        try:
            connection.execute("CREATE EXTENSION vector")
        except (errors.InsufficientPrivilege, errors.FeatureNotSupported, errors.UndefinedFile) as error:
            raise StoreUnsuitable(
                f"the database of {self} lacks the extension 'vector' ({error.diag.message_primary}); install "
                "pgvector on the server and run CREATE EXTENSION vector as its owner"
            ) from None

    def _check_version(self, connection: Connection[Any]) -> None:
        [said] = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone() or ["0"]
        version = tuple(int(part) for part in said.split(".")[:3] if part.isdigit())
        if version < _NEEDED:
            raise StoreUnsuitable(f"{self} has pgvector {said}, which knows no halfvec; update it to 0.8.4 or later")
        if version < _SOUND:
            warnings.warn(
                f"{self} has pgvector {said}, whose indexes can be damaged or lose rows; update it to 0.8.4 or later",
                StoreWarning,
                stacklevel=2,
            )
        self._iterative = version >= _ITERATIVE

    # -- writing

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """The hashes of the chunks of those records that are there."""
        return self._connections.run(lambda connection: self._look(connection, record_ids))

    def write(self, write: Write) -> Written:
        """All of it in one transaction: a reader sees a record's old chunks or its new ones, and never a mix."""
        return self._connections.run(lambda connection: self.write_on(connection, write))

    def write_on(self, connection: Connection[Any], write: Write) -> Written:
        """The same on a connection of the caller's, as part of its transaction if there is one."""
        with as_ours(connection), connection.transaction():
            if not any(write.known.values()) and self._copied(connection, write):
                return Written(0, [])
            for _ in range(_ATTEMPTS):
                with suppress(_OvertakenError), connection.transaction():
                    return self._replace(connection, write)
            raise StoreError(f"records of {self} were written by somebody else {_ATTEMPTS} times in a row; try again")

    def _copied(self, connection: Connection[Any], write: Write) -> bool:
        """Put records that nobody knew straight into the table, unless another writer was faster."""
        try:
            with connection.transaction():
                self._copy(connection, sql.Identifier(*self._names), write.encoded, write.vectors)
        except errors.UniqueViolation:
            return False
        return True

    def _replace(self, connection: Connection[Any], write: Write) -> Written:
        stored = self._locked(connection, list(write.sizes))
        after = write.after()  # already there if a connection was lost behind a commit
        changed = {
            record_id
            for record_id, known in write.known.items()
            if stored.get(record_id, {}) not in (known, after[record_id])
        }
        kept = write.only(write.sizes.keys() - changed) if changed else write
        self._put(connection, kept.encoded, kept.vectors)
        self._describe(connection, kept.described)
        stale = [
            (record_id, number)
            for record_id, numbers in stored.items()
            if record_id in kept.sizes
            for number in numbers
            if number >= kept.sizes[record_id]
        ]
        self._remove(connection, stale)
        # No lock keeps another writer from adding chunks. Those it added while we waited for it are seen by now.
        if self._look(connection, list(kept.sizes)) != {id_: after[id_] for id_ in kept.sizes if after[id_]}:
            raise _OvertakenError
        return Written(len(stale), sorted(changed))

    def _look(self, connection: Connection[Any], record_ids: Sequence[str]) -> dict[str, Hashes]:
        query = self._sql("SELECT record_id, number, hash FROM {table} WHERE record_id = {any_of}")
        return _by_record(connection.execute(query, [ids(record_ids)], binary=True).fetchall())

    def _locked(self, connection: Connection[Any], record_ids: Sequence[str]) -> dict[str, Hashes]:
        """The hashes of these records' chunks, which nobody else changes or removes until the transaction ends."""
        lock = self._sql(
            "SELECT record_id, number, hash FROM {table} WHERE record_id = {any_of} "
            "ORDER BY record_id, number FOR UPDATE"
        )
        return _by_record(connection.execute(lock, [ids(record_ids)], binary=True).fetchall())

    def _put(self, connection: Connection[Any], chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Chunks that may replace others, by a staging table."""
        if not chunks:
            return
        staging = sql.Identifier("pg_temp", "harrier_staging")
        connection.execute(
            self._sql("CREATE TEMP TABLE harrier_staging (LIKE {table} INCLUDING STORAGE) ON COMMIT DROP"), []
        )
        self._copy(connection, staging, chunks, vectors)
        columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        new = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in COLUMNS[2:])
        upsert = sql.SQL(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM {staging} ORDER BY record_id, number "
            "ON CONFLICT (record_id, number) DO UPDATE SET {new}"
        )
        # Sorted, as the locks are: two writers of the same records wait for each other in the same order.
        connection.execute(upsert.format(table=self._table.name, columns=columns, staging=staging, new=new), [])
        connection.execute("DROP TABLE pg_temp.harrier_staging")  # for the next write of a caller's transaction

    def _copy(
        self, connection: Connection[Any], into: sql.Identifier, chunks: Sequence[Chunk], vectors: Vectors
    ) -> None:
        columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(into, columns)
        with connection.cursor() as cursor, cursor.copy(copy) as copying:
            for block in copy_blocks(chunks, vectors, self._table.precision):
                copying.write(block)

    def _describe(self, connection: Connection[Any], chunks: Sequence[Chunk]) -> None:
        """Metadata of chunks whose texts, and so whose vectors, are those that are there."""
        if not chunks:
            return
        update = self._sql(
            "UPDATE {table} AS old SET metadata = (new.row ->> 2)::jsonb, start_at = (new.row ->> 3)::int, "
            "end_at = (new.row ->> 4)::int, hash = decode(new.row ->> 5, 'hex') "
            "FROM jsonb_array_elements(%s::jsonb) AS new (row) "
            "WHERE old.record_id = new.row ->> 0 AND old.number = (new.row ->> 1)::int"
        )
        rows = [(c.record_id, c.number, to_json(c.metadata).decode(), c.start, c.end, c.hash.hex()) for c in chunks]
        connection.execute(update, [json.dumps(rows)])

    def _remove(self, connection: Connection[Any], gone: list[tuple[str, int]]) -> None:
        if gone:
            delete = self._sql(
                "DELETE FROM {table} AS old USING jsonb_array_elements(%s::jsonb) AS gone (row) "
                "WHERE old.record_id = gone.row ->> 0 AND old.number = (gone.row ->> 1)::int"
            )
            connection.execute(delete, [json.dumps(gone)])

    def settle(self) -> None:
        """Build the indexes that are missing, which takes a fraction of the time that a load into them would.

        Not for a few rows, which are compared as fast, all of them: what is tried out first should not make the load
        that follows one into an index.
        """
        self._connections.run(self._settle)

    def _settle(self, connection: Connection[Any]) -> None:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [str(self)])
            there = connection.execute(INDEXES, self._names).fetchall()
            missing = [sql_ for method, sql_ in self._table.indexes().items() if (method,) not in there]
            if not missing or self._is_small(connection):
                return
            connection.execute("SELECT set_config('maintenance_work_mem', %s, true)", [_BUILD_MEMORY])
            for statement in missing:
                connection.execute(statement, [])
            connection.execute(self._sql("ANALYZE {table}"), [])

    def is_small(self) -> bool:
        """Whether it has so few rows that it needs no index."""
        return self._connections.run(self._is_small)

    def _is_small(self, connection: Connection[Any]) -> bool:
        return connection.execute(are_few(self._table.name), []).fetchone() == (True,)

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records; how many chunks that were."""
        return self._connections.run(lambda connection: self.delete_on(connection, record_ids))

    def delete_on(self, connection: Connection[Any], record_ids: Sequence[str]) -> int:
        """The same on a connection of the caller's, as part of its transaction if there is one."""
        delete = self._sql("DELETE FROM {table} WHERE record_id = {any_of}")
        with as_ours(connection):
            return connection.execute(delete, [ids(record_ids)]).rowcount

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
        with connection.transaction():
            connection.execute("SELECT set_config('hnsw.ef_search', %s, true)", [str(self._table.width(k))])
            if self._iterative:
                connection.execute("SELECT set_config('hnsw.iterative_scan', 'strict_order', true)")
            rows = connection.execute(query, values).fetchall()
            if len(rows) < k:  # an index may give up before it has found k; without it all are compared
                connection.execute("SELECT set_config('enable_indexscan', 'off', true)")
                rows = connection.execute(query, values).fetchall()
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
        return self._connections.run(lambda connection: connection.execute(query, bound, binary=True).fetchall())

    def count(self) -> int:
        """How many chunks there are."""
        query = self._sql("SELECT count(*) FROM {table}")
        [[number]] = self._rows(query, [])
        return int(number)

    def create_langchain_view(self, name: str) -> None:
        """A view, in the same schema, that langchain-postgres's PGVectorStore can search; it is not to be written."""
        statement = self._table.langchain_view(Name(self._names[0], _checked_name("view", name)))
        self._connections.run(lambda connection: connection.execute(statement, []))

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
        return f"{self._names[0]}.{self._names[1]}"

    def __repr__(self) -> str:
        return f"PgVectorStore({self._connections}, table={self._names[1]!r}, schema={self._names[0]!r})"

    # -- looking things up

    def _look_up(self, connection: Connection[Any]) -> tuple[int, dict[str, str], str | None] | None:
        """The table's oid, its columns with their types, and the comment on the one with the vectors."""
        rows = connection.execute(LOOK_UP, self._names).fetchall()
        if not rows:
            return None
        comment = next((comment for _, name, _, comment in rows if name == "embedding"), None)
        return rows[0][0], {name: kind for _, name, kind, _ in rows}, comment

    @property
    def _table(self) -> Table:
        if self._opened is None:
            raise SettingError(f"{self} was not opened; an Index does it, or store.open(encoder.space, write=...)")
        return self._opened[2]

    def _sql(self, text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(table=self._table.name, any_of=ANY_OF)


def _checked_name(what: str, name: str) -> str:
    if not name or "\0" in name or len(name.encode()) > 63:
        raise SettingError(f"{what} is a name of 1 to 63 bytes, not {name!r}")
    return name


def _by_record(rows: Sequence[tuple[str, int, bytes]]) -> dict[str, Hashes]:
    found: dict[str, Hashes] = {}
    for record_id, number, hash_ in rows:
        found.setdefault(record_id, {})[number] = bytes(hash_)
    return found
