"""A declared table as it is stored in the database, where every worker reads it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypedDict

from psycopg import Connection
from psycopg.rows import dict_row

from harrier_core import Chunking
from harrier_pgvector.sync.catalog import is_there
from harrier_pgvector.sync.session import WRITTEN
from harrier_pgvector.sync.source import COLUMNS_OF, Columns, Key, KeyColumn, Source
from harrier_pgvector.sync.trust import STRANGERS, TYPE_OWNERS, refuse_strangers

State = Literal["active", "paused", "broken"]

# A table with its partitions, and the tables that inherit from it.
FAMILY = """
    WITH RECURSIVE family (oid) AS (
        SELECT {} UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN family AS f ON i.inhparent = f.oid
    )"""

# For the family: all members, their owners, those in which not all four triggers would fire, and a digest of when their
# triggers and their places in the family were last changed. A trigger that was off for a moment, or a partition that
# was out of the family, may have missed changes; only this tells. (A rescan after a restore is all that it costs.)
_FAMILY_FACTS = """
    SELECT coalesce(jsonb_agg(c.oid::bigint ORDER BY c.oid), '[]') AS members, array_agg(c.relowner) AS owners,
        coalesce(jsonb_agg(jsonb_build_array(n.nspname, c.relname) ORDER BY n.nspname, c.relname) FILTER (WHERE 4 > (
            SELECT count(*) FROM pg_trigger AS g WHERE g.tgrelid = c.oid AND g.tgenabled IN ('O', 'A')
            AND g.tgfoid = to_regprocedure(format('harrier_sync.note_%s()', t.id))
        )), '[]') AS unnoticed,
        encode(sha256(convert_to(coalesce(string_agg(concat_ws(' ', c.oid, (
            SELECT string_agg(concat_ws(' ', g.oid, g.xmin), ' ' ORDER BY g.oid) FROM pg_trigger AS g
            WHERE g.tgrelid = c.oid AND g.tgfoid = to_regprocedure(format('harrier_sync.note_%s()', t.id))
        ), (
            SELECT string_agg(concat_ws(' ', i.inhparent, i.xmin), ' ' ORDER BY i.inhparent) FROM pg_inherits AS i
            WHERE i.inhrelid = c.oid
        )), ',' ORDER BY c.oid), ''), 'UTF8')), 'hex') AS noticing
    FROM family JOIN pg_class AS c ON c.oid = family.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p')"""

_KEY = """
    SELECT coalesce(jsonb_agg(a.attname ORDER BY k.place), '[]')
    FROM pg_index AS i JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place) ON k.place <= i.indnkeyatts
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = t.source AND i.indisprimary"""

_ALL = """
    SELECT t.id AS number, t.source::oid AS source, t.state, t.reason, t.seen,
        obj_description(q.oid, 'pg_class') AS declared,
        o.rolname::text AS owner, o.rolsuper AS by_superuser, o.rolname = session_user AS by_us,
        {strangers} AS strangers,
        ({columns}) AS columns, f.members AS family, f.unnoticed, f.noticing, ({key}) AS key,
        sc.relrowsecurity AND NOT tc.relrowsecurity AS exposed,
        CASE WHEN sc.oid IS NOT NULL THEN ARRAY[sn.nspname, sc.relname] END AS source_name,
        CASE WHEN tc.oid IS NOT NULL THEN ARRAY[tn.nspname, tc.relname] END AS target_name
    FROM harrier_sync.tables AS t
    LEFT JOIN pg_class AS q ON q.oid = to_regclass(format('harrier_sync.queue_%s', t.id))
    LEFT JOIN pg_class AS g ON g.oid = to_regclass(format('harrier_sync.changes_%s', t.id))
    LEFT JOIN pg_roles AS o ON o.oid = q.relowner
    LEFT JOIN pg_class AS sc ON sc.oid = t.source LEFT JOIN pg_namespace AS sn ON sn.oid = sc.relnamespace
    LEFT JOIN pg_class AS tc ON tc.oid = t.target LEFT JOIN pg_namespace AS tn ON tn.oid = tc.relnamespace
    CROSS JOIN LATERAL ({family}) AS f
    ORDER BY t.id"""
for name, part in {
    "{strangers}": STRANGERS.format(
        f"f.owners || ARRAY[q.relowner, g.relowner, tc.relowner] || {TYPE_OWNERS.format('t.source')}"
    ),
    "{columns}": COLUMNS_OF.format("t.source"),
    "{key}": _KEY,
    "{family}": FAMILY.format("t.source::oid") + _FAMILY_FACTS,
}.items():
    _ALL = _ALL.replace(name, part)


class Seen(TypedDict):
    """The structure of the source when all of its rows were last to be read."""

    columns: Columns  # those from which its texts and metadata are made
    family: list[int]  # itself and its partitions
    noticing: str  # a digest of when the triggers and the partitions were changed


@dataclass(frozen=True, slots=True)
class Facts:
    """The database's current report about a declared table."""

    columns: Columns
    family: list[int]
    unnoticed: list[list[str]]  # members of the family whose changes no triggers record
    noticing: str  # a digest of when the triggers and the partitions were changed
    key: list[str]  # the columns of the source's primary key
    exposed: bool  # the source has row-level security, and the chunks have none
    strangers: list[str]  # roles other than this one that own a part of it, and are not superusers


@dataclass(frozen=True, slots=True)
class Declaration:
    """A declared table: its source, its chunks, and the way they are kept in sync."""

    number: int
    source: Source
    source_there: bool  # False if it was dropped
    target: tuple[str, str]  # schema and name
    target_there: bool
    chunking: Chunking | None
    notify: bool
    row_security: bool  # whether the chunks must have it if the source has it
    outdated: bool  # its triggers do not notice changes of columns that were added to a row that is used as a whole
    owner: str  # the role that declared it
    reads_as: str | None  # the role whose rights count for the source; None for the worker's own
    state: State
    reason: str | None
    seen: Seen | None
    facts: Facts

    @property
    def name(self) -> str:
        """Its name: that of the table of its chunks."""
        return ".".join(self.target)

    @property
    def now(self) -> Seen:
        """The current state, to be compared with `seen`."""
        return {"columns": self.facts.columns, "family": self.facts.family, "noticing": self.facts.noticing}

    def settings(self, *, read_only: bool) -> dict[str, str]:
        """Return the settings of a transaction that reads the source: it sees all rows, or fails."""
        chosen = {
            **WRITTEN,
            "application_name": f"harrier-sync {self.name}".encode()[:63].decode(errors="ignore"),
            # A hidden row would seem to be deleted.
            "row_security": "off",
        }
        if read_only:
            chosen["transaction_read_only"] = "on"
        if self.reads_as is not None:
            chosen["role"] = self.reads_as
        return chosen

    def ailment(self) -> str | None:
        """Return why changes of the source would be missed or misinterpreted, or None if they would not."""
        declared = [column.name for column in self.source.key.columns]
        if self.facts.key != declared:
            now = f"({', '.join(self.facts.key)})" if self.facts.key else "missing"
            return (
                f"the primary key of its source {self.source} is {now}, and was ({', '.join(declared)}) when it was "
                "declared; restore it, or declare it again with replace"
            )
        if self.facts.unnoticed:
            tables = ", ".join(".".join(names) for names in self.facts.unnoticed[:3])
            return (
                f"changes of {tables} are not detected, because triggers are missing or disabled; enable them, or add "
                "them with 'harrier sync rescan'"
            )
        if self.outdated:
            return (
                "its text is made of whole rows, and it was declared before changes of added columns were noticed; "
                "declare it again with replace"
            )
        if self.facts.exposed and self.row_security:
            return (
                f"its source {self.source} has row-level security and its chunks have none; enable it on {self.name}, "
                "or declare it again with replace"
            )
        return None

    def refuse_strangers(self, trust: Collection[str]) -> None:
        """Raise an error if a part of it belongs to a role that is not trusted."""
        refuse_strangers(f"the content of {self.name}", self.facts.strangers, trust)


@dataclass(frozen=True, slots=True)
class Lost:
    """A declared table whose declaration is missing or unreadable. The others continue."""

    number: int
    source: str
    name: str  # that of the table of its chunks
    state: State  # as it is stored

    @property
    def reason(self) -> str:
        """What is wrong, and what to do."""
        return (
            f"harrier_sync.queue_{self.number} or the comment on it, which keeps the declaration, is missing or cannot "
            "be read; restore it, or remove the row from harrier_sync.tables and declare it again"
        )


def declarations(connection: Connection[Any], trust: Collection[str]) -> list[Declaration]:
    """Return all declarations of this database, in a pinned transaction of the caller's."""
    return [each for each in declarations_and_lost(connection, trust) if isinstance(each, Declaration)]


def declarations_and_lost(connection: Connection[Any], trust: Collection[str]) -> list[Declaration | Lost]:
    """Return all declarations of this database, and tables that have lost theirs, in a pinned transaction."""
    if not is_there(connection, trust):
        return []
    with connection.cursor(row_factory=dict_row) as cursor:
        return [_declaration_or_lost(row) for row in cursor.execute(_ALL).fetchall()]


def _declaration_or_lost(row: dict[str, Any]) -> Declaration | Lost:
    if row["declared"] is not None and row["owner"] is not None:
        with suppress(ValueError, KeyError, TypeError):
            return _declaration(**row)
    names = (row["source_name"] or [], row["target_name"] or [f"number {row['number']}"])
    source, target = (".".join(each) for each in names)
    return Lost(row["number"], source, target, row["state"])


def _declaration(
    *,
    number: int,
    source: int,
    source_name: list[str] | None,
    target_name: list[str] | None,
    declared: str,
    owner: str,
    by_superuser: bool,
    by_us: bool,
    state: State,
    reason: str | None,
    seen: Seen | None,
    columns: Columns | None,
    family: list[int],
    unnoticed: list[list[str]],
    noticing: str,
    key: list[str],
    exposed: bool | None,
    strangers: list[str],
) -> Declaration:
    """Return a declaration from its row. A dropped table is called by the name that it had."""
    said = json.loads(declared)
    schema, table = source_name or said["source"]
    found = Source(
        source,
        schema,
        table,
        Key(tuple(KeyColumn(**column) for column in said["key"])),
        said["text"],
        tuple(said["metadata"]),
        tuple(said["watched"]),
        said.get("whole", False),
    )
    return Declaration(
        number=number,
        source=found,
        source_there=source_name is not None,
        target=tuple(target_name or said["target"]),
        target_there=target_name is not None,
        chunking=Chunking(**said["chunking"]) if said["chunking"] else None,
        notify=said["notify"],
        row_security=said["row_security"],
        outdated="whole" not in said and "s.*" in said["text"],
        owner=owner,
        # A superuser's role is not assumed: a worker with fewer rights must not gain any.
        reads_as=None if by_us or by_superuser else owner,
        state=state,
        reason=reason,
        seen=seen,
        facts=Facts(found.needed(columns or {}), family, unnoticed, noticing, key, bool(exposed), strangers),
    )


def to_json(
    source: Source,
    target: tuple[str, str],
    chunking: Chunking | None,
    *,
    notify: bool,
    row_security: bool,
) -> str:
    """Return the JSON in which it is stored."""
    return json.dumps(
        {
            "source": [source.schema, source.table],
            "target": target,
            "key": [asdict(column) for column in source.key.columns],
            "text": source.text,
            "metadata": source.metadata,
            "watched": source.watched,
            "whole": source.whole,
            "chunking": asdict(chunking) if chunking else None,
            "notify": notify,
            "row_security": row_security,
        }
    )


def seen_first(source: Source, columns: Columns, family: Sequence[int]) -> Mapping[str, Any]:
    """Return the state of a newly declared source, whose rows are all to be read for the first time.

    It does not have triggers yet. The first look completes the state, and adds no scan to those that are yet to begin.
    """
    return {"columns": source.needed(columns), "family": sorted(family)}
