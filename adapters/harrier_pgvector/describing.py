"""What a database says of a table of chunks, whichever model it belongs to."""

from __future__ import annotations

from typing import Any

from psycopg import Connection, sql

from harrier_core.errors import StoreError, StoreMissing
from harrier_core.store import Facts
from harrier_pgvector.building import is_small
from harrier_pgvector.opening import TableName
from harrier_pgvector.schema import INDEXES, SIZE
from harrier_pgvector.session import ask


def describe(connection: Connection[Any], name: TableName) -> Facts:
    """Return what is known of a table. Raise StoreMissing if there is none."""
    try:
        opened = name.look(connection)
    except StoreMissing:
        raise
    except StoreError as error:  # a table that is not one of the kit's, or a newer kit's
        return Facts(None, health=str(error))
    table = opened.table
    [chunks] = _row(connection, sql.SQL("SELECT count(*) FROM {}").format(table.name), [])
    [size] = _row(connection, SIZE, table.names)
    indexed = table.nearest in ask(connection, INDEXES, table.names).fetchall()
    health = "fine"
    if not is_small(connection, table):
        missing = ", ".join(repr(key[0]) for key in name.keys if key not in opened.typed.keys)
        if not indexed:
            health = "its searches use no index; run an ingest to its end, which builds it"
        elif missing:
            health = f"filters on {missing} have no index of their own; run an ingest to its end, which builds it"
    return Facts(opened.space, chunks, indexed, size, health)


def _row(connection: Connection[Any], query: Any, bound: Any) -> tuple[Any, ...]:  # noqa: ANN401  # as psycopg has it
    row: tuple[Any, ...] = ask(connection, query, bound).fetchone() or (None,)
    return row
