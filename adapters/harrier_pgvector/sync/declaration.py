"""A declared table as it stands in harrier_sync.tables, where every worker reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from psycopg import Connection
from psycopg.rows import dict_row

from harrier_core import Chunking
from harrier_pgvector.schema import Name
from harrier_pgvector.sync.source import COLUMNS_OF, Columns, Key, KeyColumn, Source

State = Literal["active", "paused", "broken"]

THERE = "SELECT to_regclass('harrier_sync.tables') IS NOT NULL"

_ALL = """
    SELECT t.id AS number, t.source::oid AS source, t.declared, t.state, t.reason,
        ({columns}) AS columns,
        CASE WHEN sc.oid IS NOT NULL THEN ARRAY[sn.nspname, sc.relname] END AS source_name,
        CASE WHEN tc.oid IS NOT NULL THEN ARRAY[tn.nspname, tc.relname] END AS target_name
    FROM harrier_sync.tables t
    LEFT JOIN pg_class sc ON sc.oid = t.source LEFT JOIN pg_namespace sn ON sn.oid = sc.relnamespace
    LEFT JOIN pg_class tc ON tc.oid = t.target LEFT JOIN pg_namespace tn ON tn.oid = tc.relnamespace
    ORDER BY t.id""".replace("{columns}", COLUMNS_OF.format("t.source"))


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is to be kept in step with what, and how."""

    number: int
    source: Source
    source_there: bool  # or somebody dropped it
    target: tuple[str, str]  # schema and name
    target_there: bool
    chunking: Chunking | None
    state: State
    reason: str | None
    columns_seen: Columns | None  # those of the source that it is made of, when all rows were to be read last
    columns: Columns  # and now

    @property
    def name(self) -> str:
        """What it is called: by the table of its chunks."""
        return ".".join(self.target)


def declarations(connection: Connection[Any]) -> list[Declaration]:
    """All of this database."""
    if connection.execute(THERE).fetchone() != (True,):
        return []
    with connection.cursor(row_factory=dict_row) as cursor:
        return [_declaration(**row) for row in cursor.execute(_ALL).fetchall()]


def _declaration(
    *,
    number: int,
    source: int,
    source_name: list[str] | None,
    target_name: list[str] | None,
    declared: Mapping[str, Any],
    state: State,
    reason: str | None,
    columns: Columns | None,
) -> Declaration:
    """A table that is gone goes by the name that it had."""
    schema, table = source_name or declared["source"]
    found = Source(
        source,
        schema,
        table,
        Key(tuple(KeyColumn(**column) for column in declared["key"])),
        declared["text"],
        tuple(declared["metadata"]),
        tuple(declared["watched"]),
    )
    return Declaration(
        number=number,
        source=found,
        source_there=source_name is not None,
        target=tuple(target_name or declared["target"]),
        target_there=target_name is not None,
        chunking=Chunking(**declared["chunking"]) if declared["chunking"] else None,
        state=state,
        reason=reason,
        columns_seen=declared.get("columns"),
        columns=found.needed(columns or {}),
    )


def to_json(source: Source, columns: Columns, target: tuple[str, str], chunking: Chunking | None) -> dict[str, Any]:
    """What is stored of it."""
    return {
        "source": [source.schema, source.table],
        "target": target,
        "key": [asdict(column) for column in source.key.columns],
        "text": source.text,
        "metadata": source.metadata,
        "watched": source.watched,
        "columns": source.needed(columns),
        "chunking": asdict(chunking) if chunking else None,
    }


def view_of(target: tuple[str, str]) -> Name:
    """The view beside a table of chunks."""
    return Name(target[0], f"{target[1]}_by_key")
