"""Read the source's rows as records, and distinguish an unreadable row from a changed source."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from psycopg import Connection, errors, sql

from harrier_core.errors import StoreError, StoreUnsuitable
from harrier_core.records import Record
from harrier_pgvector.connections import Connections
from harrier_pgvector.sync.batch import Lease
from harrier_pgvector.sync.declaration import Declaration
from harrier_pgvector.sync.session import configure, pinned, unlimited
from harrier_pgvector.sync.source import Source

T = TypeVar("T")

_READ = 100  # rows at once

# Classes of errors that depend on a row's values: data, cardinality, constraints of domains, functions that raise
# (PL/pgSQL and other languages), limits such as the size of a value.
_OF_A_ROW = frozenset({"21", "22", "23", "2F", "38", "39", "54", "P0"})
# Classes of errors that are transient, or say nothing about rows: connections, conflicts, resources, intervention.
_OF_NONE = frozenset({"08", "40", "53", "55", "57", "58"})


class SourceChanged(Exception):
    """The source no longer matches its declaration: none of it can be read until someone fixes that."""


class SourceRenamed(SourceChanged):
    """The source has another name by now, and its old one may be that of another table."""


class Unreadable(StoreError):
    """Rows whose text or metadata cannot be computed; it does not say which."""


class _StandbyError(errors.ReadOnlySqlTransaction):
    """The server is a standby, whose rows may be out of date. The connection is closed, and another one is tried."""


class _Unclear(Unreadable):
    """An error that may be due to the rows or to the source; other rows will tell. Its message is its kind."""


class Rows:
    """Leased rows as records, read as they are needed.

    Rows for which it yields no record are in `without_text`, if they have no text or are gone, or in `unreadable`, with
    the reason.
    """

    def __init__(self, connections: Connections, declaration: Declaration, leases: Sequence[Lease]) -> None:
        self.without_text: set[str] = set()
        self.unreadable: dict[str, str] = {}
        self._connections = connections
        self._declaration = declaration
        self._source = declaration.source
        self._leases = leases
        self._readable = False  # whether any row was readable
        self._unclear: str | None = None

    def __iter__(self) -> Iterator[Record]:
        for begin in range(0, len(self._leases), _READ):
            part = self._leases[begin : begin + _READ]
            found = self._read(part)
            if self._unclear and not self._readable:
                raise SourceChanged(
                    f"no row of its source can be read: {self._unclear}; fix the functions of its text, which "
                    "run with search_path = pg_catalog, pg_temp and must set another one, or qualify their names"
                )
            for lease in part:
                text, metadata = found.get(lease.record_id) or (None, {})
                if text and text.strip():
                    yield Record(lease.record_id, text, metadata)
                elif lease.record_id not in self.unreadable:
                    self.without_text.add(lease.record_id)

    def _read(self, leases: Sequence[Lease]) -> dict[str, tuple[str | None, Any]]:
        """Return rows by their record ids. Unreadable ones are found by bisection, and the others are read."""
        try:
            read = of_source(lambda connection: self._fetch(connection, leases), self._declaration, read_only=True)
            found = self._connections.run(read)
        except Unreadable as error:
            if len(leases) == 1:
                self._note(leases[0], error)
                return {}
            half = len(leases) // 2
            return self._read(leases[:half]) | self._read(leases[half:])
        self._readable = self._readable or bool(found)
        return found

    def _note(self, lease: Lease, error: Unreadable) -> None:
        reason = str(error)
        if isinstance(error, _Unclear):
            self._unclear, reason = reason, f"has a text or metadata that cannot be computed: {reason}"
        self.unreadable[lease.record_id] = reason

    def _fetch(self, connection: Connection[Any], leases: Collection[Lease]) -> dict[str, tuple[str | None, Any]]:
        keys = [list(column) for column in zip(*(lease.key for lease in leases), strict=True)]
        rows = connection.execute(self._source.rows_of_keys(), keys).fetchall()
        return {record_id: (text, metadata) for record_id, text, metadata in rows}


def of_source(
    action: Callable[[Connection[Any]], T], declaration: Declaration, *, read_only: bool
) -> Callable[[Connection[Any]], T]:
    """Wrap an action in a transaction that sees all of the source's rows or fails, with its declarer's rights."""

    def run(connection: Connection[Any]) -> T:
        try:
            with _as_declarer(connection, declaration, read_only=read_only):
                result = action(connection)
                _refuse_renamed(connection, declaration.source)
                return result
        except _StandbyError:
            raise
        except errors.Error as error:
            if error.sqlstate is None or _class(error) in _OF_NONE:
                raise
            with pinned(connection):
                _refuse_renamed(connection, declaration.source)
            if _class(error) in _OF_A_ROW:  # its own message may quote a value
                raise Unreadable(f"has a text or metadata that cannot be computed: {_kind(error)}") from None
            if reason := _cannot_be_planned(connection, declaration):
                raise SourceChanged(f"its source cannot be read: {reason}; fix that, or declare it again") from None
            if not read_only:  # then it had another cause
                raise
            raise _Unclear(_kind(error)) from None

    return run


@contextmanager
def _as_declarer(connection: Connection[Any], declaration: Declaration, *, read_only: bool) -> Iterator[None]:
    with pinned(connection):
        # A pooler between us and several servers may send a transaction that only reads to a standby. There, a row that
        # was just changed has its earlier text, and a new one seems to be deleted.
        if connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
            raise _StandbyError("the server is a standby, which may lag behind")
        try:
            configure(connection, unlimited(connection) | declaration.settings(read_only=read_only))
        except errors.InsufficientPrivilege:
            raise StoreUnsuitable(
                f"role {declaration.owner} declared {declaration.name}, and its source is read with the rights of that "
                f"role, which {connection.info.user} cannot assume; run GRANT {declaration.owner} TO "
                f"{connection.info.user}, or run the worker as {declaration.owner}"
            ) from None
        yield


def _refuse_renamed(connection: Connection[Any], source: Source) -> None:
    """Raise SourceRenamed if the source no longer has the name by which it was read.

    What was read under that name is locked until the transaction ends, so no one can rename it before this check.
    """
    query = (
        "SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE c.oid = %s AND n.nspname = %s AND c.relname = %s"
    )
    if connection.execute(query, [source.oid, source.schema, source.table]).rowcount == 0:
        raise SourceRenamed(f"its source {source} was renamed or dropped")


def _cannot_be_planned(connection: Connection[Any], declaration: Declaration) -> str | None:
    """Return why not even a query for none of its rows works; it looks at no row, so the message quotes none."""
    try:
        with _as_declarer(connection, declaration, read_only=True):
            connection.execute(declaration.source.rows(sql.SQL("LIMIT 0")), [])
    except _StandbyError:
        raise
    except errors.Error as error:
        if error.sqlstate is None or _class(error) in _OF_NONE:
            raise
        return error.diag.message_primary or _kind(error)
    return None


def check(connection: Connection[Any], source: Source) -> None:
    """Raise unless the source has the columns that were declared; the triggers check the same.

    Earlier declarations have types with modifiers, as have their queues.
    """
    needed = [(column.name, column.type) for column in source.key.columns] + [(name, None) for name in source.watched]
    query = (
        "SELECT name FROM unnest(%s::text[], %s::text[]) AS needed (name, type) WHERE NOT EXISTS (SELECT FROM "
        "pg_attribute AS a WHERE a.attrelid = %s AND a.attname = needed.name AND NOT a.attisdropped "
        "AND (needed.type IS NULL OR a.atttypid = to_regtype(needed.type) AND needed.type IN ("
        "format_type(a.atttypid, NULL), format_type(a.atttypid, -1), format_type(a.atttypid, a.atttypmod))))"
    )
    names, types = zip(*needed, strict=True)
    if missing := connection.execute(query, [list(names), list(types), source.oid]).fetchall():
        raise SourceChanged(
            f"its source {source} has no column {missing[0][0]!r} now, or its type has changed; restore it, or "
            "declare it again"
        )


def _kind(error: errors.Error) -> str:
    return f"{type(error).__name__} ({error.sqlstate})"


def _class(error: errors.Error) -> str:
    return (error.sqlstate or "")[:2]
