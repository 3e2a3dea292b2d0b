"""The database's description of a table of chunks, whichever model it belongs to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection, sql

from harrier_core.errors import SpaceError, StoreError, StoreMissing
from harrier_core.indexes import Hnsw
from harrier_core.layout import Precision, StoreLayout
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Facts
from harrier_pgvector.building import is_small
from harrier_pgvector.catalogs import HNSW, INDEXES, SIZE
from harrier_pgvector.opening import TableName
from harrier_pgvector.schema import BY_WORD
from harrier_pgvector.session import ask
from harrier_pgvector.typed import kinds_of

# Tables whose vectors have a comment; a partition is part of another table.
_COMMENTED = """
    SELECT n.nspname, c.relname, col_description(c.oid, a.attnum) FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'embedding' AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND col_description(c.oid, a.attnum) IS NOT NULL
    ORDER BY 1, 2"""

# The note that an ingest leaves for readers, in the comment on the column `hash`. Writing it waits for anyone who is
# building an index or vacuuming the table, but no longer than this.
_INGESTED, _PATIENCE = "harrier-kit: ingested ", "1s"
_NOTE = """
    SELECT max(col_description(c.oid, a.attnum)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'hash' AND NOT a.attisdropped
    WHERE n.nspname = %s AND c.relname = %s"""


def describe(connection: Connection[Any], name: TableName) -> Facts:
    """Return the facts about a table. Raise StoreMissing if it does not exist."""
    try:
        opened = name.look(connection)
    except StoreMissing:
        raise
    except StoreError as error:  # a table that is not one of the kit's, or that of a newer kit
        return Facts(None, health=str(error))
    table = opened.table
    [chunks, records] = _row(
        connection, sql.SQL("SELECT count(*), count(*) FILTER (WHERE number = 0) FROM {}").format(table.name), []
    )
    [size] = _row(connection, SIZE, table.names)
    there = ask(connection, INDEXES, table.names).fetchall()
    indexed = table.nearest in there
    health = "fine"
    if not is_small(connection, table):
        missing = ", ".join(repr(key[0]) for key in name.keys if key not in opened.typed.keys)
        if not indexed:
            health = "searches use no vector index; complete an ingest to build it"
        elif missing:
            health = f"filters on {missing} have no index; complete an ingest to build it"
        elif opened.has_words and BY_WORD not in there:
            health = "searches by word use no index; complete an ingest to build it"
    if table.words is not None and not opened.has_words:
        health = opened.words_problem
    [noted] = _row(connection, _NOTE, table.names)
    return Facts(opened.space, chunks, indexed, size, health, records, opened.has_words, _time(noted))


def note_ingest(connection: Connection[Any], name: TableName, when: datetime) -> None:
    """Record when an ingest changed the table, in a comment on a column; only the table's owner can."""
    said = sql.Literal(f"{_INGESTED}{when.isoformat(timespec='seconds')}")
    comment = sql.SQL("COMMENT ON COLUMN {}.hash IS {}").format(name.look(connection).table.name, said)
    ask(connection, comment, [], settings={"lock_timeout": _PATIENCE})


def _time(noted: str | None) -> datetime | None:
    """Return the time in a comment, or None if it was not written by the kit."""
    if noted is None or not noted.startswith(_INGESTED):
        return None
    try:
        return datetime.fromisoformat(noted.removeprefix(_INGESTED))
    except ValueError:
        return None


def layout_of(connection: Connection[Any], name: TableName) -> StoreLayout:
    """Return the layout of a table. Raise StoreMissing if it does not exist."""
    opened = name.look(connection)
    precision: Precision = "float16" if opened.table.precision == "halfvec" else "float32"
    [settings] = _row(connection, HNSW, opened.table.names)
    named = dict(each.split("=", 1) for each in settings or ())
    numbers = {key: int(value) for key, value in named.items() if key in ("m", "ef_construction")}
    kinds = kinds_of(opened.typed.keys)
    return StoreLayout(precision, Hnsw(**numbers) if numbers else None, kinds, opened.has_words)


def tables(connection: Connection[Any]) -> list[tuple[str, str]]:
    """Return the schemas and names of the tables whose vectors have a space, as the kit's tables do."""
    found = ask(connection, _COMMENTED, []).fetchall()
    return [(schema, name) for schema, name, comment in found if _is_space(comment)]


def _is_space(comment: str) -> bool:
    try:
        EmbeddingSpace.from_json(comment)
    except SpaceError:
        return False
    return True


def _row(connection: Connection[Any], query: Any, bound: Any) -> tuple[Any, ...]:  # noqa: ANN401  # as psycopg has it
    row: tuple[Any, ...] = ask(connection, query, bound).fetchone() or (None,)
    return row
