"""Declaring a table whose rows are to be embedded, and looking after it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Self

from psycopg import Connection, Cursor, errors, sql
from psycopg_pool import ConnectionPool

from harrier_core import Chunking
from harrier_core.errors import SettingError, StoreMissing, StoreUnavailable, StoreUnsuitable
from harrier_pgvector.connections import Connections
from harrier_pgvector.rows import Precision
from harrier_pgvector.schema import LOOK_UP, Name, Table, literal, written
from harrier_pgvector.store import PgVectorStore
from harrier_pgvector.sync.declaration import Declaration, declarations, to_json, view_of
from harrier_pgvector.sync.objects import CATALOG, CHANNEL, LAYOUT_OF, SCHEMA, Objects, drop, layout_fits
from harrier_pgvector.sync.queue import look_through
from harrier_pgvector.sync.source import COLUMNS_OF, Source, find
from harrier_pgvector.sync.status import SyncFailure, SyncStatus, status_of

if TYPE_CHECKING:
    from types import TracebackType

    from harrier_core.space import EmbeddingSpace

# CREATE TRIGGER waits for whoever writes to the source, and all who come later wait for it.
_LOCK_TIMEOUT = "10s"

_FAMILY = """
    WITH RECURSIVE family (oid) AS (
        SELECT %s::oid UNION SELECT inhrelid FROM pg_inherits JOIN family ON inhparent = oid
    )
    SELECT n.nspname, c.relname FROM family f JOIN pg_class c ON c.oid = f.oid
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')"""


class TableSync:
    """A table of chunks that follows another table. Making one connects to nothing and declares nothing yet."""

    def __init__(self, place: str | ConnectionPool[Any], *, table: str = "documents", schema: str = "public") -> None:
        """The table of the chunks, in the database of a connection string or of a psycopg pool."""
        self._connections = Connections(place, retry_for=10.0)
        self._target = schema, table

    # -- declaring

    def create(
        self,
        source: str,
        space: EmbeddingSpace,
        *,
        text: str | Sequence[str],
        metadata: Sequence[str] = (),
        chunking: Chunking | None = None,
        precision: str = "float16",
        wake: str = "notify",
        replace: bool = False,
        prune: bool = False,
        dry_run: bool = False,
    ) -> str:
        """Have workers keep the chunks of a source from now on; returns the SQL that does it.

        source: TABLE or SCHEMA.TABLE, with a primary key. space: `encoder.space`. text: a column, or an SQL expression
        over one row, or several of them, which are joined by blank lines. metadata: columns that come along, and can be
        searched by. chunking: 512 tokens unless it says otherwise. wake: with "poll" nothing is announced, and workers
        find changes when they look for them. replace: declare anew what was declared before; texts that stay the same
        are not embedded again. prune: the table holds other records already, and may lose them. dry_run: try all of it
        in a transaction that is rolled back.
        """
        if wake not in ("notify", "poll"):
            raise SettingError(f"wake is 'notify' or 'poll', not {wake!r}")
        wanted = _Wanted(
            source,
            space,
            [text] if isinstance(text, str) else list(text),
            list(metadata),
            chunking or Chunking(),
            precision,
            wake == "notify",
            replace,
            prune,
        )
        return self._connections.run(lambda connection: self._create(connection, wanted, dry_run=dry_run))

    def _create(self, connection: Connection[Any], wanted: _Wanted, *, dry_run: bool) -> str:
        said: list[str] = []
        with _impatient(connection), connection.transaction(force_rollback=dry_run):
            # One at a time: two that make the schema at once would see an error that says nothing to their users.
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('harrier_sync', 0))")
            run = _Run(connection, said)
            _open_catalog(connection, run)
            found = find(connection, wanted.source, wanted.text, wanted.metadata)
            self._open_target(connection, run, wanted)
            self._declare(connection, run, wanted, found)
        return ";\n\n".join(said) + ";"

    def _open_target(self, connection: Connection[Any], run: _Run, wanted: _Wanted) -> None:
        store = PgVectorStore(
            self._connections, table=self._target[1], schema=self._target[0], precision=wanted.precision
        )
        if not connection.execute(LOOK_UP, self._target).fetchall():
            kind: Precision = "vector" if wanted.precision == "float32" else "halfvec"
            made = Table(*self._target, wanted.space.dimensions, kind).create(wanted.space.to_json())
            run.tell([sql.SQL("CREATE EXTENSION IF NOT EXISTS vector"), *made])
        store.open_on(connection, wanted.space, write=True)

    def _declare(self, connection: Connection[Any], run: _Run, wanted: _Wanted, source: Source) -> None:
        before = self._declared(connection)
        if before is not None:
            if not wanted.replace:
                raise SettingError(
                    f"table {self} follows {before.source} already; declare it anew with replace, or drop it first"
                )
            run(drop(before.number, view_of(self._target)))
        insert = sql.SQL("INSERT INTO harrier_sync.tables (source, target, declared) VALUES ({}, {}, {}) RETURNING id")
        [columns] = connection.execute(sql.SQL(COLUMNS_OF).format(literal(source.oid)), []).fetchone() or [{}]
        declared = to_json(source, columns, self._target, wanted.chunking)
        names = (sql.Identifier(*name).as_string() for name in ((source.schema, source.table), self._target))
        values = *map(literal, names), literal(json.dumps(declared))
        [number] = run([insert.format(*values)]).fetchone() or [0]
        objects = Objects(number, source)
        family = connection.execute(_FAMILY, [source.oid]).fetchall()
        version = connection.info.server_version
        run(objects.create(family, Name(*self._target), view_of(self._target), notify=wanted.notify, version=version))
        self._check_strangers(connection, objects, prune=wanted.prune)
        look_through(connection, number)
        connection.execute("SELECT pg_notify(%s, '')", [CHANNEL])

    def _check_strangers(self, connection: Connection[Any], objects: Objects, *, prune: bool) -> None:
        """What the table holds already, and the source does not: from other sources, or deleted while nobody looked."""
        strangers = sql.SQL("FROM {} AS t WHERE NOT EXISTS (SELECT FROM {} AS s WHERE {} = t.record_id)").format(
            Name(*self._target), objects.source.name, objects.source.key.record_id("s", source=True)
        )
        # All rows or an error: one that row-level security hides would seem to be deleted.
        connection.execute("SELECT set_config('row_security', 'off', true)")
        held = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(Name(*self._target))
        if connection.execute(held, []).fetchone() == (False,):
            return  # whoever may not see all rows may declare all the same
        if prune:
            connection.execute(sql.SQL("DELETE ") + strangers, [])
        elif row := connection.execute(sql.SQL("SELECT record_id ") + strangers + sql.SQL(" LIMIT 1"), []).fetchone():
            raise SettingError(
                f"table {self} holds records that {objects.source} does not have, such as {row[0]!r}; use another "
                "table, or have them removed with prune"
            )

    def drop(self, *, chunks: bool = False) -> None:
        """Remove triggers, queue and view, and with `chunks` the table of the chunks as well."""

        def run(connection: Connection[Any]) -> None:
            with _impatient(connection):
                found = self._found(connection)
                for statement in drop(found.number, view_of(found.target)):
                    connection.execute(statement, [])
                if chunks:
                    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(Name(*self._target)), [])
                if connection.execute("SELECT NOT EXISTS (SELECT FROM harrier_sync.tables)").fetchone() == (True,):
                    connection.execute("DROP SCHEMA harrier_sync CASCADE")

        self._connections.run(run)

    # -- looking after it

    def status(self) -> SyncStatus:
        """How it stands."""
        return self._connections.run(lambda connection: status_of(connection, self._found(connection)))

    def failures(self, most: int = 100) -> list[SyncFailure]:
        """Rows that were put aside, and why."""

        def run(connection: Connection[Any]) -> list[SyncFailure]:
            objects = self._objects(connection)
            query = sql.SQL("SELECT {}, failed, attempts FROM {} AS q WHERE failed IS NOT NULL LIMIT {}").format(
                objects.source.key.record_id("q"), objects.queue, literal(most)
            )
            return [SyncFailure(*row) for row in connection.execute(query, []).fetchall()]

        return self._connections.run(run)

    def retry(self) -> int:
        """Try again what was put aside, or waits for another attempt; how many rows those are."""
        update = (
            "UPDATE {} SET failed = NULL, error = NULL, attempts = 0, due = now(), version = version + 1 "
            "WHERE token IS NULL AND (failed IS NOT NULL OR attempts > 0)"
        )

        def run(connection: Connection[Any]) -> int:
            with connection.transaction():
                number = connection.execute(sql.SQL(update).format(self._objects(connection).queue), []).rowcount
                connection.execute("SELECT pg_notify(%s, '')", [CHANNEL])
                return number

        return self._connections.run(run)

    def rescan(self) -> None:
        """Have workers look at every row: for changes that no trigger saw, as of a partition that was attached."""

        def run(connection: Connection[Any]) -> None:
            with connection.transaction():
                look_through(connection, self._found(connection).number)
                connection.execute("SELECT pg_notify(%s, '')", [CHANNEL])

        self._connections.run(run)

    def pause(self) -> None:
        """Have workers leave it alone; changes are noted all the same."""
        self._set_state("paused", among=("active", "broken"))

    def resume(self) -> None:
        """Have workers go on with it."""
        self._set_state("active", among=("paused",))

    def _set_state(self, state: str, among: tuple[str, ...]) -> None:
        def run(connection: Connection[Any]) -> None:
            with connection.transaction():
                update = "UPDATE harrier_sync.tables SET state = %s, reason = NULL WHERE id = %s AND state = ANY(%s)"
                connection.execute(update, [state, self._found(connection).number, list(among)])
                connection.execute("SELECT pg_notify(%s, '')", [CHANNEL])

        self._connections.run(run)

    # -- finding it

    def _declared(self, connection: Connection[Any]) -> Declaration | None:
        return next((each for each in declarations(connection) if each.target == self._target), None)

    def _found(self, connection: Connection[Any]) -> Declaration:
        found = self._declared(connection)
        if found is None:
            raise StoreMissing(f"table {self} follows no other table; declare that first")
        return found

    def _objects(self, connection: Connection[Any]) -> Objects:
        found = self._found(connection)
        return Objects(found.number, found.source)

    def close(self) -> None:
        """Close our own connections."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __str__(self) -> str:
        return ".".join(self._target)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The arguments of `create`."""

    source: str
    space: EmbeddingSpace
    text: list[str]
    metadata: list[str]
    chunking: Chunking
    precision: str
    notify: bool
    replace: bool
    prune: bool


@contextmanager
def _impatient(connection: Connection[Any]) -> Iterator[None]:
    """In a transaction that does not wait for long transactions of others, while all who come later wait for it."""
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
            yield
    except errors.LockNotAvailable:
        raise StoreUnavailable(
            f"the table is in use by a transaction that has been running for more than {_LOCK_TIMEOUT}, and triggers "
            "cannot be added or removed meanwhile; try again"
        ) from None


class _Run:
    """Runs statements, and remembers how they read."""

    def __init__(self, connection: Connection[Any], said: list[str]) -> None:
        self._connection = connection
        self._said = said

    def __call__(self, statements: Sequence[sql.SQL | sql.Composed]) -> Cursor[Any]:
        self.tell(statements)
        return [self._connection.execute(statement, []) for statement in statements][-1]

    def tell(self, statements: Sequence[sql.Composable]) -> None:
        """Remember only: they are run elsewhere."""
        texts = (statement.as_string(self._connection).replace("%%", "%") for statement in statements)
        self._said += [dedent(text).strip() for text in texts]


def _open_catalog(connection: Connection[Any], run: _Run) -> None:
    row = connection.execute(LAYOUT_OF).fetchone()
    if row is None:
        run([written(statement) for statement in CATALOG])
    elif not layout_fits(row[0]):
        raise StoreUnsuitable(
            f"the schema {SCHEMA} is not of this release of Harrier Kit ({row[0] or 'it says nothing'}); update the "
            "kit everywhere, or drop what is declared and declare it anew"
        )
