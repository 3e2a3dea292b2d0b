"""The schema harrier_sync: its tables, its layout, and whether it can be trusted.

SQL code of a table's owner runs with the rights of whoever reads or writes the table: triggers, defaults, and the
functions of index expressions, which Postgres evaluates when it plans a query. SET ROLE does not confine such code,
because it may say RESET ROLE. Tables of other roles are therefore left alone unless these are superusers or are named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from psycopg import Connection

from harrier_core.errors import StoreUnsuitable

SCHEMA = "harrier_sync"
CHANNEL = "harrier_sync"
_LAYOUT = "Harrier Kit's live sync, layout 2"


class StrangersError(StoreUnsuitable):
    """Something belongs to a role that is not trusted."""


# Not IF NOT EXISTS: a role that may not create schemas gets the error only if there is none.
CATALOG = [
    "CREATE SCHEMA harrier_sync",
    f"COMMENT ON SCHEMA harrier_sync IS '{_LAYOUT.replace(chr(39), chr(39) * 2)}'",
    """
    CREATE TABLE harrier_sync.tables (
        id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        source regclass NOT NULL,
        target regclass NOT NULL UNIQUE,
        state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'broken')),
        reason text,
        seen jsonb,
        created_at timestamptz NOT NULL DEFAULT now()
    )""",
    """
    CREATE TABLE harrier_sync.scans (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        sync integer NOT NULL,
        kind text NOT NULL CHECK (kind IN ('all', 'orphans', 'missed')),
        position text[],
        found bigint NOT NULL DEFAULT 0
    )""",
    """
    CREATE TABLE harrier_sync.workers (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        seen_at timestamptz NOT NULL,
        rates jsonb NOT NULL
    )""",
]

# Owners who are neither superusers nor this session's own role. current_user would not do: it can be reset.
STRANGERS = """
    ARRAY(SELECT r.rolname::text FROM pg_roles AS r
        WHERE r.oid = ANY({}) AND NOT r.rolsuper AND r.rolname <> session_user ORDER BY 1)"""

# Who owns the types of a table's columns, and what those are made of. Checks of a domain, and casts to text and json,
# are code of the type's owner, who may add them at any time.
TYPE_OWNERS = """
    ARRAY(WITH RECURSIVE kinds (oid) AS (
        SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = {} AND a.attnum > 0 AND NOT a.attisdropped
        UNION SELECT part.oid FROM kinds JOIN pg_type AS y ON y.oid = kinds.oid CROSS JOIN LATERAL (
            SELECT y.typbasetype UNION ALL SELECT y.typelem
            UNION ALL SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = y.typrelid AND a.attnum > 0
        ) AS part (oid) WHERE part.oid <> 0
    ) SELECT y.typowner FROM kinds JOIN pg_type AS y ON y.oid = kinds.oid)"""

_FOUND = """
    SELECT obj_description(n.oid, 'pg_namespace'), {strangers}
    FROM pg_namespace AS n WHERE n.nspname = 'harrier_sync'""".replace(
    "{strangers}",
    STRANGERS.format(
        "n.nspowner || ARRAY(SELECT c.relowner FROM pg_class AS c WHERE c.relnamespace = n.oid "
        "AND c.relname IN ('tables', 'scans', 'workers'))"
    ),
)


def is_there(connection: Connection[Any], trust: Collection[str]) -> bool:
    """Whether anything is declared in this database; an error if it cannot be worked with."""
    row = connection.execute(_FOUND).fetchone()
    if row is None:
        return False
    layout, owners = row
    if layout != _LAYOUT:
        raise StoreUnsuitable(
            f"schema {SCHEMA} was created by an incompatible release of Harrier Kit ({layout or 'no layout'}); upgrade "
            "the kit everywhere, or drop what is declared and declare it again"
        )
    refuse_strangers(f"schema {SCHEMA}", owners, trust)
    return True


def refuse_strangers(what: str, owners: Iterable[str], trust: Collection[str]) -> None:
    """Raise an error if some of these owners are not trusted."""
    if unknown := [owner for owner in owners if owner not in trust]:
        raise StrangersError(
            f"{what} belongs to role {unknown[0]}, whose SQL code would run with the rights of this connection; "
            f"connect as {unknown[0]}, or trust that role by name (trust=, --trust)"
        )
