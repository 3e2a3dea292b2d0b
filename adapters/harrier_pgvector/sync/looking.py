"""One query for all declared tables: which of them have something to do, and when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from psycopg import Connection, sql

from harrier_pgvector.schema import Name, literal
from harrier_pgvector.sync.catalog import SCHEMA


class Due(NamedTuple):
    """A declared table's state, and when it has something to do."""

    number: int
    state: str
    seconds: float | None  # until something is due; None if nothing is


# All names are qualified: the query does not justify a transaction that pins their path. Idle workers run it.
_CASE = """
    WHEN t.id OPERATOR(pg_catalog.=) {number} THEN CASE
        WHEN EXISTS (SELECT FROM {changes})
            OR EXISTS (SELECT FROM harrier_sync.scans AS s WHERE s.sync OPERATOR(pg_catalog.=) {number}) THEN {now}
        ELSE (SELECT pg_catalog.date_part('epoch'::pg_catalog.text,
            pg_catalog.min(q.due) OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp()) FROM {queue} AS q
            WHERE q.failed IS NULL)
    END"""


def due(connection: Connection[Any], numbers: Iterable[int]) -> list[Due]:
    """Return what is due in these declared tables, and which others there are."""
    cases = [
        sql.SQL(_CASE).format(
            number=literal(number),
            changes=Name(SCHEMA, f"changes_{number}"),
            queue=Name(SCHEMA, f"queue_{number}"),
            now=sql.SQL("0::pg_catalog.float8"),
        )
        for number in sorted(numbers)
    ]
    asked = sql.SQL("CASE {} END").format(sql.SQL("").join(cases)) if cases else sql.SQL("NULL::pg_catalog.float8")
    query = sql.SQL("SELECT t.id, t.state, {} FROM harrier_sync.tables AS t").format(asked)
    return [Due(*row) for row in connection.execute(query, []).fetchall()]
