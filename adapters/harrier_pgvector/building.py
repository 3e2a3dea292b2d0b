"""Build the indexes of a table once a load is over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from psycopg import Connection, errors, sql

from harrier_core.errors import StoreError
from harrier_pgvector.catalogs import BUILD_MEMORY, INDEXES, WRITERS
from harrier_pgvector.opening import TableName
from harrier_pgvector.schema import Table, are_few
from harrier_pgvector.session import ask, transaction
from harrier_pgvector.typed import create_index

# CREATE INDEX waits for all writers of the table, and all later writers wait for it.
_LOCK_TIMEOUT = "10s"
# The wait for another builder is longer, so that the indexes exist when an ingest ends.
_BUILDER_TIMEOUT = "10min"
# How often to check for other writers, and seconds between two checks.
_LOOKS, _BETWEEN_LOOKS = 10, 0.05
_TRANSACTION_TIMEOUT = 170_000  # the first version that has this setting


def is_small(connection: Connection[Any], table: Table) -> bool:
    """Return whether a table has so few rows that it needs no index."""
    return ask(connection, are_few(table.name), []).fetchone() == (True,)


def build(connection: Connection[Any], table: Table, name: TableName) -> None:
    """Build the missing indexes, unless there are few rows or another session writes; one builder at a time."""
    if not _missing(connection, table, name) or is_small(connection, table):
        return
    if _is_written_to(connection, table):
        raise StoreError("another session is writing to it; the last of several loads builds them")
    with transaction(connection):
        take_time(connection)
        # Unlike an advisory lock, only roles that may change the table can hold it.
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(table.name), [])
        ask(connection, BUILD_MEMORY, table.names, settings={"lock_timeout": _LOCK_TIMEOUT})
        for statements in _missing(connection, table, name):
            _build(connection, statements)
        connection.execute(sql.SQL("ANALYZE {}").format(table.name), [])


def _missing(connection: Connection[Any], table: Table, name: TableName) -> list[list[sql.Composed]]:
    """Return the statements that create each missing index."""
    there = ask(connection, INDEXES, table.names).fetchall()
    missing = [[statement] for index, statement in table.indexes(name.hnsw).items() if index not in there]
    return missing + [create_index(table.name, name.schema, key) for key in name.missing_keys(connection)]


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
    limits = ["statement_timeout"]
    if connection.info.server_version >= _TRANSACTION_TIMEOUT:
        limits.append("transaction_timeout")
    settings = [*(f"SET LOCAL {limit} = 0" for limit in limits), f"SET LOCAL lock_timeout = '{_BUILDER_TIMEOUT}'"]
    connection.execute("; ".join(settings))


def _build(connection: Connection[Any], statements: Sequence[sql.Composed]) -> None:
    try:
        with transaction(connection):
            for statement in statements:
                connection.execute(statement, [])
    except errors.DiskFull:
        # Shared memory is full: containers have 64 MB of it by default, which is too little for parallel workers.
        connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
        for statement in statements:
            connection.execute(statement, [])
