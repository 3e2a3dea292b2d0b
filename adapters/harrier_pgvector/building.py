"""Build the indexes of a table once a load is over."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from psycopg import Connection, errors, sql
from psycopg.pq import TransactionStatus

from harrier_core.errors import StoreError
from harrier_pgvector.catalogs import BUILD_MEMORY, INDEXES, UNFINISHED, WRITERS
from harrier_pgvector.opening import TableName
from harrier_pgvector.schema import BESIDE, Name, Table, are_few
from harrier_pgvector.session import PATH, ask, transaction
from harrier_pgvector.typed import create_index

# CREATE INDEX waits for all writers of the table, and all later writers wait for it.
_LOCK_TIMEOUT = "10s"
# The wait for another builder is longer, so that the indexes exist when an ingest ends.
_BUILDER_TIMEOUT = "10min"
# How long to wait for another builder that blocks no one: longer than it takes to stop autovacuum. Dropping the rest of
# an interrupted build takes a lock for which all users of the table wait.
_SHORTLY, _MOMENT = "2s", "100ms"
# How often to check for other writers, and seconds between two checks.
_LOOKS, _BETWEEN_LOOKS = 10, 0.05
_TRANSACTION_TIMEOUT = 170_000  # the first version that has this setting


def is_small(connection: Connection[Any], table: Table) -> bool:
    """Return whether a table has so few rows that it needs no index."""
    return ask(connection, are_few(table.name), []).fetchone() == (True,)


def build(connection: Connection[Any], table: Table, name: TableName, *, beside: bool = False) -> None:
    """Build the missing indexes, unless there are few rows or another session writes; one builder at a time.

    In a table whose vectors have an index, which is in use, the others are built while others write. beside: all are.
    """
    if not _missing(connection, table, name) or is_small(connection, table):
        return
    if _can_build_beside(connection) and (beside or table.nearest in ask(connection, INDEXES, table.names).fetchall()):
        with suppress(errors.FeatureNotSupported):  # partitioned tables do not support it
            # One that blocks no one may wait for as long as others take.
            if _build_beside(connection, table, name, "0" if beside else _LOCK_TIMEOUT):
                return
    if _is_written_to(connection, table):
        raise StoreError("another session is writing to it; the last of several loads builds them")
    with transaction(connection):
        take_time(connection)
        # Unlike an advisory lock, only roles that may change the table can hold it.
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(table.name), [])
        ask(connection, BUILD_MEMORY, [True, *table.names], settings={"lock_timeout": _LOCK_TIMEOUT})
        for statements in _missing(connection, table, name):
            _build(connection, statements)
        connection.execute(sql.SQL("ANALYZE {}").format(table.name), [])


def _missing(
    connection: Connection[Any], table: Table, name: TableName, beside: int | None = None
) -> list[list[sql.Composed]]:
    """Return the statements that create each missing index. beside: the table's oid, to do so while others write."""
    there = ask(connection, INDEXES, table.names).fetchall()
    missing = [[statement] for index, statement in table.indexes(name.hnsw, beside).items() if index not in there]
    return missing + [create_index(table.name, name.schema, key, beside) for key in name.missing_keys(connection)]


def _can_build_beside(connection: Connection[Any]) -> bool:
    """Return whether it is in no transaction, and the session is its own: that of a pooler may soon be another's."""
    if not connection.autocommit or connection.info.transaction_status != TransactionStatus.IDLE:
        return False
    return connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchone() == (connection.info.backend_pid,)


def _build_beside(connection: Connection[Any], table: Table, name: TableName, lock_timeout: str) -> bool:
    """Build while others write. Return False if a transaction, even one on other tables, was in the way for long."""
    _drop_unfinished(connection, table)
    with _at_leisure(connection, table, lock_timeout):
        for statements in _missing(connection, table, name, name.find(connection).oid):
            try:
                _run(connection, statements)
            except errors.DiskFull:  # see _build
                _drop_unfinished(connection, table)
                _set(connection, {"max_parallel_maintenance_workers": "0"})
                _run(connection, statements)
            except errors.LockNotAvailable:
                _drop_unfinished(connection, table)
                return False
        _run(connection, [sql.SQL("ANALYZE {}").format(table.name)])
    if _missing(connection, table, name):
        raise StoreError("another session is building them")
    return True


def _drop_unfinished(connection: Connection[Any], table: Table) -> None:
    """Drop what interrupted builds have left; one in progress holds the lock, and raises StoreError."""
    try:
        with transaction(connection):
            connection.execute(f"SET LOCAL lock_timeout = '{_SHORTLY}'")
            connection.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(table.name), [])
            connection.execute(f"SET LOCAL lock_timeout = '{_MOMENT}'")
            for (index,) in ask(connection, UNFINISHED, [*table.names, BESIDE]).fetchall():
                connection.execute(sql.SQL("DROP INDEX {}").format(Name(table.names[0], index)), [])
    except errors.LockNotAvailable:
        raise StoreError("another session is building indexes, or uses it for long; try again") from None


@contextmanager
def _at_leisure(connection: Connection[Any], table: Table, lock_timeout: str) -> Iterator[None]:
    """Change the session's settings for a build that cannot run in a transaction, and restore them."""
    ours = {**dict.fromkeys(_limits(connection), "0"), "lock_timeout": lock_timeout, "search_path": PATH}
    names = [*ours, "maintenance_work_mem", "max_parallel_maintenance_workers"]
    # All names are qualified: the search path is one of the settings.
    read = "SELECT each, pg_catalog.current_setting(each) FROM pg_catalog.unnest(%s::pg_catalog.text[]) AS n (each)"
    theirs = dict(connection.execute(read, [names]).fetchall())
    try:
        _set(connection, ours)
        ask(connection, BUILD_MEMORY, [False, *table.names])
        yield
    finally:
        if not connection.closed:
            _set(connection, theirs)


def _set(connection: Connection[Any], settings: dict[str, str]) -> None:
    query = "SELECT pg_catalog.set_config(key, value, false) FROM pg_catalog.json_each_text(%s::pg_catalog.json)"
    connection.execute(query, [json.dumps(settings)])


def _is_written_to(connection: Connection[Any], table: Table) -> bool:
    """Return whether another session is writing right now. A loader that waits for vectors between writes is missed."""
    for look in range(_LOOKS):
        if look:
            time.sleep(_BETWEEN_LOOKS)
        if ask(connection, WRITERS, table.names).fetchone() == (True,):
            return True
    return False


def take_time(connection: Connection[Any]) -> None:
    """Lift the limits on statements for a build, which takes longer than any search."""
    limits = [f"SET LOCAL {limit} = 0" for limit in _limits(connection)]
    connection.execute("; ".join([*limits, f"SET LOCAL lock_timeout = '{_BUILDER_TIMEOUT}'"]))


def _limits(connection: Connection[Any]) -> list[str]:
    has_both = connection.info.server_version >= _TRANSACTION_TIMEOUT
    return ["statement_timeout", "transaction_timeout"] if has_both else ["statement_timeout"]


def _build(connection: Connection[Any], statements: Sequence[sql.Composed]) -> None:
    try:
        with transaction(connection):
            _run(connection, statements)
    except errors.DiskFull:
        # Shared memory is full: containers have 64 MB of it by default, which is too little for parallel workers.
        connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
        _run(connection, statements)


def _run(connection: Connection[Any], statements: Sequence[sql.Composed]) -> None:
    for statement in statements:
        connection.execute(statement, [])
