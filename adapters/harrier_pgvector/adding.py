"""Add words to the chunks of a table that was made without them, while others read and write.

Each step checks what is there, so that after a crash the next call resumes where the last one stopped:

1. the columns are added, empty, which takes a moment; from then on, all writers write words
2. chunks without words get theirs, some at a time
3. a constraint refuses rows without words; those written by transactions that began before get theirs
4. the index is built, without blocking anyone
5. the comment on the weights says that all rows have their words, and searches begin to use them
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg import Connection, errors, sql

from harrier_core.errors import StoreUnavailable, StoreUnsuitable
from harrier_core.lexical import VERSION
from harrier_core.records import Chunk
from harrier_pgvector.building import is_small, take_time
from harrier_pgvector.catalogs import BUILD_MEMORY, INDEXES
from harrier_pgvector.schema import BY_WORD, OF_WORDS, Name
from harrier_pgvector.session import ask, transaction
from harrier_pgvector.writing import send

if TYPE_CHECKING:
    from harrier_core.space import EmbeddingSpace
    from harrier_pgvector.connections import Connections
    from harrier_pgvector.opening import Opened, TableName
    from harrier_pgvector.schema import Table

_ROWS = 200  # per transaction, which holds their locks for a few hundredths of a second
# A statement that changes the table waits for all transactions that use it, and all later ones wait for it.
_LOCK_TIMEOUT, _LOCK_ATTEMPTS, _LOCK_PAUSE = "2s", 15, 0.5

_REQUIRED = """
    SELECT bool_and(a.attnotnull) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s AND a.attname IN ('terms', 'lex') AND NOT a.attisdropped"""
_INVALID = """
    SELECT x.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
    WHERE NOT i.indisvalid AND n.nspname = %s AND c.relname = %s AND a.attname = 'terms'"""
_UNWORDED = """
    SELECT record_id, number, text FROM {table} WHERE (record_id, number) > (%s::text, %s::int) AND lex IS NULL
    ORDER BY record_id, number LIMIT %s FOR UPDATE"""
_REQUIRE = """
    ALTER TABLE {table} DROP CONSTRAINT IF EXISTS harrier_words,
    ADD CONSTRAINT harrier_words CHECK (terms IS NOT NULL AND lex IS NOT NULL) NOT VALID"""


def add_words(connections: Connections, name: TableName, space: EmbeddingSpace, tell: Callable[[int], None]) -> None:
    """Take all steps. Call `tell` with the number of chunks that have their words so far."""
    adding = _Adding(connections, name, space, tell)
    adding.add_columns()
    adding.fill()
    adding.require()
    adding.build()
    adding.finish()


class _Adding:
    """The steps of adding words."""

    def __init__(
        self, connections: Connections, name: TableName, space: EmbeddingSpace, tell: Callable[[int], None]
    ) -> None:
        self._connections = connections
        self._name = name
        self._space = space
        self._tell = tell
        self._told = 0

    def add_columns(self) -> None:
        """Add the columns unless they are there; recreate those of an older version."""
        self._change(self._add_columns)

    def _add_columns(self, connection: Connection[Any]) -> None:
        opened = self._open(connection)
        table, version = opened.table, opened.words_version
        if table.words is not None and version is not None and version > VERSION:
            raise StoreUnsuitable(opened.words_problem)
        if table.words is not None and version is not None and version < VERSION:
            connection.execute(table.format("ALTER TABLE {table} DROP COLUMN terms, DROP COLUMN lex"), [])
        elif table.words is not None:
            return
        elif taken := [each for each in ("terms", "lex") if each in opened.found.columns]:
            raise StoreUnsuitable(
                f"table {self._name} has another column {taken[0]!r}, and search by word needs that name; rename it"
            )
        connection.execute(table.add_words(), [])

    def fill(self) -> None:
        """Add words until every chunk has them."""
        worded = self._connections.run(lambda connection: self._number(connection, "count(lex)"))
        self._say(worded)
        last, found = ("", -1), True
        while found:  # in a pass over all keys, which ends when a step finds none
            found = False
            while keys := self._connections.run(partial(self._fill, last=last), writes=True):
                last, found = keys[-1], True
                worded += len(keys)
                self._say(worded)
            last = ("", -1)

    def _fill(self, connection: Connection[Any], last: tuple[str, int]) -> list[tuple[str, int]]:
        """Add words to the next chunks by their keys, and return those keys."""
        with transaction(connection):
            take_time(connection)  # finding that no chunk lacks words takes a full scan
            connection.execute("SET LOCAL row_security = off")  # raises an error if some rows cannot be seen
            table = self._open(connection).table
            rows = connection.execute(table.format(_UNWORDED), [*last, _ROWS]).fetchall()
            if rows:
                chunks = [Chunk(record_id, number, text, {}, 0, 0) for record_id, number, text in rows]
                send(connection, *table.fill_words(chunks))
        return [(record_id, number) for record_id, number, _ in rows]

    def require(self) -> None:
        """Refuse rows without words from now on, and add words to those written until now."""
        if self._connections.run(self._is_required):
            return
        self._change(lambda connection: self._run(connection, self._open(connection).table.format(_REQUIRE)))
        self.fill()
        self._connections.run(self._validate)
        self._change(self._require)

    def _is_required(self, connection: Connection[Any]) -> bool:
        return bool(ask(connection, _REQUIRED, self._names).fetchone() == (True,))

    def _validate(self, connection: Connection[Any]) -> None:
        with transaction(connection):
            take_time(connection)
            validate = self._open(connection).table.format("ALTER TABLE {table} VALIDATE CONSTRAINT harrier_words")
            self._run(connection, validate)

    def _require(self, connection: Connection[Any]) -> None:
        table = self._open(connection).table
        self._run(connection, table.require_words())
        self._run(connection, table.format("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS harrier_words"))

    def build(self) -> None:
        """Build the index, unless the table has so few rows that it needs none."""
        self._connections.run(self._build)

    def _build(self, connection: Connection[Any]) -> None:
        table = self._open(connection).table
        if is_small(connection, table):
            return
        self._drop_invalid(connection)
        if self._is_built(connection):
            return
        create = table.indexes()[BY_WORD]
        if connection.autocommit:
            with suppress(errors.FeatureNotSupported):  # partitioned tables do not support it
                self._create_beside_writers(connection, table)
                return
        with transaction(connection):
            take_time(connection)
            self._run(connection, table.format("LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE"))
            ask(connection, BUILD_MEMORY, [True, *self._names])
            if not self._is_built(connection):
                self._run(connection, create)

    def _create_beside_writers(self, connection: Connection[Any], table: Table) -> None:
        """Build the index while others write. It cannot run in a transaction, so the user's time limits apply."""
        try:
            create = table.format("CREATE INDEX CONCURRENTLY ON {table} {of_words}", of_words=OF_WORDS)
            connection.execute(create, [])
        except (errors.QueryCanceled, errors.LockNotAvailable):
            raise StoreUnavailable(
                f"the index of the words of {self._name} was cancelled, for example by statement_timeout or "
                "lock_timeout; lift the limit for this user, and try again"
            ) from None

    def _is_built(self, connection: Connection[Any]) -> bool:
        return BY_WORD in ask(connection, INDEXES, self._names).fetchall()

    def _drop_invalid(self, connection: Connection[Any]) -> None:
        """Drop the index that a killed build left behind. Wait for a build in progress, which holds the lock."""
        if not ask(connection, _INVALID, self._names).fetchall():
            return
        with transaction(connection):
            take_time(connection)
            lock = self._open(connection).table.format("LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE")
            self._run(connection, lock)
            for (index,) in ask(connection, _INVALID, self._names).fetchall():
                self._run(connection, sql.SQL("DROP INDEX {}").format(Name(self._name.schema, index)))

    def finish(self) -> None:
        """Record that all rows have their words, if that is true of the table that now has the name."""
        self._connections.run(self._finish)

    def _finish(self, connection: Connection[Any]) -> None:
        with transaction(connection):
            take_time(connection)
            self._run(connection, sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(Name(*self._names)))
            if not self._is_required(connection):
                raise StoreUnavailable(
                    f"table {self._name} was replaced while words were added to its chunks; try again"
                )
            table = self._open(connection).table
            self._run(connection, table.format("ANALYZE {table}"))
            self._run(connection, table.stamp_words())
            number = self._number(connection, "count(*)")
        self._say(number)

    # -- shared by the steps

    @property
    def _names(self) -> Sequence[str]:
        return self._name.schema, self._name.name

    def _open(self, connection: Connection[Any]) -> Opened:
        return self._name.open(connection, self._space, create=False)

    def _change(self, change: Callable[[Connection[Any]], None]) -> None:
        """Change the table in a transaction that does not make others wait long for the table's current users."""
        for attempt in range(_LOCK_ATTEMPTS):
            if attempt:
                time.sleep(_LOCK_PAUSE)
            if self._connections.run(lambda connection: self._changed(connection, change), writes=True):
                return
        raise StoreUnavailable(
            f"table {self._name} is in use by a long-running transaction, and cannot be changed meanwhile; try again"
        )

    def _changed(self, connection: Connection[Any], change: Callable[[Connection[Any]], None]) -> bool:
        with suppress(errors.LockNotAvailable):
            with transaction(connection):
                connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                change(connection)
            return True
        return False

    def _number(self, connection: Connection[Any], what: str) -> int:
        with transaction(connection):
            take_time(connection)
            query = self._open(connection).table.format("SELECT {what} FROM {table}", what=sql.SQL(what))
            [number] = ask(connection, query, []).fetchone() or (0,)
        return int(number)

    def _run(self, connection: Connection[Any], statement: sql.Composed) -> None:
        connection.execute(statement, [])

    def _say(self, number: int) -> None:
        """Report a number, which never decreases, although others may remove chunks in the meantime."""
        self._told = max(self._told, number)
        self._tell(self._told)
