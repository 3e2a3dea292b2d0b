"""The source's rows as records; and what becomes of it when the source is not what was declared any more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar

from psycopg import Connection, errors, sql

from harrier_core.errors import StoreError
from harrier_core.records import Record
from harrier_pgvector.connections import Connections
from harrier_pgvector.schema import literal
from harrier_pgvector.sync.queue import Batch, Lease
from harrier_pgvector.sync.source import Source

T = TypeVar("T")

_READ = 100  # rows at once


class SourceChanged(Exception):
    """The source is not what was declared any more: nothing of it can be read until somebody mends that."""


class Unreadable(StoreError):
    """Rows whose text or metadata cannot be computed; which of them is not said."""


class Rows:
    """The rows of a batch as records, read as they are needed; such as have no text, or are gone, are noted."""

    def __init__(self, connections: Connections, source: Source, batch: Batch) -> None:
        self._connections = connections
        self._source = source
        self._batch = batch

    def __iter__(self) -> Iterator[Record]:
        leases = [lease for lease in self._batch.leases.values() if lease not in self._batch.failed]
        for begin in range(0, len(leases), _READ):
            part = leases[begin : begin + _READ]
            found = self._read(part)
            for lease in part:
                text, metadata = found.get(lease.record_id) or (None, {})
                if text and text.strip():
                    yield Record(lease.record_id, text, metadata)
                elif lease not in self._batch.failed:
                    self._batch.without_text.add(lease.record_id)

    def _read(self, leases: Sequence[Lease]) -> dict[str, tuple[str | None, Any]]:
        """Rows by their records' ids; one that cannot be read is found by halves, and does not take others along."""
        try:
            return self._connections.run(of_source(lambda connection: self._fetch(connection, leases)))
        except Unreadable as error:
            if len(leases) == 1:
                self._batch.failed[leases[0]] = str(error)
                return {}
            half = len(leases) // 2
            return self._read(leases[:half]) | self._read(leases[half:])

    def _fetch(self, connection: Connection[Any], leases: Collection[Lease]) -> dict[str, tuple[str | None, Any]]:
        key = self._source.key
        joined = sql.SQL("JOIN {} ON {}").format(key.unnested("k"), key.equal("s", "k", source="s"))
        keys = [list(column) for column in zip(*(lease.key for lease in leases), strict=True)]
        rows = connection.execute(self._source.rows(joined), keys).fetchall()
        return {record_id: (text, metadata) for record_id, text, metadata in rows}


def of_source(work: Callable[[Connection[Any]], T]) -> Callable[[Connection[Any]], T]:
    """The same in a transaction that sees all of the source's rows or fails: a hidden one would seem to be deleted."""

    def run(connection: Connection[Any]) -> T:
        try:
            with connection.transaction():
                connection.execute("SELECT set_config('row_security', 'off', true)")
                return work(connection)
        except errors.DataError as error:  # its own message may quote a value
            raise Unreadable(f"has a text or metadata that cannot be computed: {_kind(error)}") from None
        except (errors.ProgrammingError, errors.NotSupportedError) as error:
            raise SourceChanged(
                f"its source cannot be read: {error.diag.message_primary}; mend that, or declare it anew"
            ) from None

    return run


def check(connection: Connection[Any], source: Source) -> None:
    """Whether the source has the columns that were declared; the triggers ask the same."""
    needed = [(column.name, column.type) for column in source.key.columns] + [(name, None) for name in source.watched]
    query = sql.SQL(
        "SELECT name FROM (VALUES {}) AS needed (name, type) WHERE NOT EXISTS (SELECT FROM pg_attribute AS a "
        "WHERE a.attrelid = %s AND a.attname = needed.name AND NOT a.attisdropped "
        "AND (needed.type IS NULL OR a.atttypid = to_regtype(needed.type)))"
    ).format(
        sql.SQL(", ").join(sql.SQL("({}, {}::text)").format(literal(name), literal(kind)) for name, kind in needed)
    )
    if missing := connection.execute(query, [source.oid]).fetchall():
        raise SourceChanged(
            f"its source {source} has no column {missing[0][0]!r} any more, or one of another type; bring it back, or "
            "declare it anew"
        )


def _kind(error: errors.Error) -> str:
    return f"{type(error).__name__} ({error.sqlstate})"
