"""The schema harrier_sync: its layout, and all statements on the tables that are shared by all declared tables.

Unless stated otherwise, functions run in a pinned transaction of the caller's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection, errors, sql
from psycopg.types.json import Jsonb

from harrier_core.errors import StoreMissing, StoreUnsuitable
from harrier_pgvector.schema import LOCK, Name, literal
from harrier_pgvector.sync.trust import STRANGERS, refuse_strangers

SCHEMA = "harrier_sync"
CHANNEL = "harrier_sync"
_LAYOUT = "Harrier Kit's live sync, layout 2"

# Without IF NOT EXISTS: a role that may not create schemas gets the error only if the schema is missing.
CREATE = [
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
    """Return whether anything is declared in this database; raise an error if its schema cannot be used."""
    row = connection.execute(_FOUND).fetchone()
    if row is None:
        return False
    layout, owners = row
    _check_layout(layout)
    refuse_strangers(f"schema {SCHEMA}", owners, trust)
    return True


def _check_layout(layout: str | None) -> None:
    if layout != _LAYOUT:
        raise StoreUnsuitable(
            f"schema {SCHEMA} was created by an incompatible release of Harrier Kit ({layout or 'no layout'}); upgrade "
            "the kit everywhere, or drop the declared tables and declare them again"
        )


def source_of(connection: Connection[Any], target: int) -> str | None:
    """Return the name of the source that a table of chunks follows, if any; target: its oid.

    The schema may belong to any role, because none of its code runs: COPY neither plans a query, which would evaluate
    indexes, nor reads a view, and it fails where a policy would apply.
    """
    row = connection.execute(_FOUND).fetchone()
    if row is None:
        return None
    _check_layout(row[0])
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        cursor.execute("SET LOCAL row_security = off")
        with cursor.copy("COPY harrier_sync.tables (source, target) TO STDOUT (FORMAT binary)") as copying:
            copying.set_types(["oid", "oid"])
            sources = {followed: source for source, followed in copying.rows()}
    if target not in sources:
        return None
    [name] = connection.execute("SELECT %s::oid::regclass::text", [sources[target]]).fetchone() or ("",)
    return str(name)


def drop_if_empty(connection: Connection[Any]) -> None:
    """Drop the schema unless something is declared in it."""
    if connection.execute("SELECT NOT EXISTS (SELECT FROM harrier_sync.tables)").fetchone() == (True,):
        connection.execute("DROP SCHEMA harrier_sync CASCADE")


def wake(connection: Connection[Any]) -> None:
    """Wake the listening workers, once the transaction is committed."""
    connection.execute("SELECT pg_notify(%s, '')", [CHANNEL])


# -- declared tables


def lock(connection: Connection[Any]) -> None:
    """Wait until no one else declares a table. Only roles that may write to the catalog can take this lock."""
    connection.execute("LOCK TABLE harrier_sync.tables IN SHARE ROW EXCLUSIVE MODE")


def lock_if_free(connection: Connection[Any], number: int) -> bool:
    """Lock a declared table's row, and return whether it was free.

    The lock is on a row because any role can take, and keep, an advisory lock.
    """
    query = "SELECT FROM harrier_sync.tables WHERE id = %s FOR NO KEY UPDATE SKIP LOCKED"
    return connection.execute(query, [number]).rowcount > 0


def insert(source: str, target: str, seen: str) -> sql.Composed:
    """Return the statement that adds a declared table and returns its number."""
    statement = "INSERT INTO harrier_sync.tables (source, target, seen) VALUES ({}, {}, {}) RETURNING id"
    return sql.SQL(statement).format(literal(source), literal(target), literal(seen))


def lock_chunks(connection: Connection[Any], target: tuple[str, str]) -> None:
    """Lock a table of chunks as its writers do, before rows of its queue: a fold must not wait for what we wait for."""
    try:
        connection.execute(sql.SQL(LOCK).format(table=Name(*target)), [])
    except errors.UndefinedTable:
        raise StoreMissing(f"there is no table {'.'.join(target)}") from None


def refuse_renamed(connection: Connection[Any], number: int, target: tuple[str, str]) -> None:
    """Raise StoreMissing if a declared table's chunks are no longer in the table of this name.

    After an exchange the name belongs to another sync's table. Call it once that table is written, and thereby locked.
    """
    query = """
        SELECT FROM harrier_sync.tables AS t
        JOIN pg_class AS c ON c.oid = t.target JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE t.id = %s AND n.nspname = %s AND c.relname = %s"""
    if connection.execute(query, [number, *target]).rowcount == 0:
        raise StoreMissing(f"table {'.'.join(target)} was renamed; try again")


def delete(number: int) -> list[sql.Composed]:
    """Return the statements that remove a declared table and its scans."""
    return [
        sql.SQL("DELETE FROM harrier_sync.scans WHERE sync = {}").format(literal(number)),
        sql.SQL("DELETE FROM harrier_sync.tables WHERE id = {}").format(literal(number)),
    ]


def set_state(connection: Connection[Any], number: int, state: str, among: Collection[str]) -> bool:
    """Set a declared table's state if it is one of `among`, and return whether it was."""
    update = "UPDATE harrier_sync.tables SET state = %s, reason = NULL WHERE id = %s AND state = ANY(%s)"
    return connection.execute(update, [state, number, list(among)]).rowcount > 0


def set_broken(connection: Connection[Any], number: int, reason: str) -> None:
    """Record why nothing can be done for a declared table, unless it is paused."""
    update = (
        "UPDATE harrier_sync.tables SET state = 'broken', reason = %s "
        "WHERE id = %s AND (state = 'active' OR state = 'broken' AND reason <> %s)"
    )
    connection.execute(update, [reason, number, reason])


def set_seen(
    connection: Connection[Any], number: int, seen: Mapping[str, object], before: Mapping[str, object] | None
) -> bool:
    """Store what a source now consists of, and return whether no one else did so first."""
    update = "UPDATE harrier_sync.tables SET seen = %s WHERE id = %s AND seen IS NOT DISTINCT FROM %s"
    values = [Jsonb(seen), number, None if before is None else Jsonb(before)]
    return connection.execute(update, values).rowcount > 0


# -- scans: of all rows of a source, and of chunks whose rows are gone


class Scan(NamedTuple):
    """A scan in progress."""

    number: int
    kind: str  # all, orphans, or missed: changes that the triggers could not read
    position: list[str] | None  # the last key or record id that was looked at


def start_scans(connection: Connection[Any], number: int) -> None:
    """Have workers scan all rows, and scan all chunks for those whose row is gone."""
    query = """
        WITH waiting AS MATERIALIZED (
            SELECT kind FROM harrier_sync.scans WHERE sync = %s AND position IS NULL FOR UPDATE SKIP LOCKED
        )
        INSERT INTO harrier_sync.scans (sync, kind) SELECT %s, kind FROM (VALUES ('orphans'), ('all')) AS k (kind)
        WHERE kind NOT IN (SELECT kind FROM waiting)"""
    connection.execute(query, [number, number])


def next_scan(connection: Connection[Any], number: int) -> Scan | None:
    """Lock a declared table's next scan that no one else works on, and return it."""
    query = (
        "SELECT id, kind, position FROM harrier_sync.scans WHERE sync = %s "
        "ORDER BY kind = 'all', id LIMIT 1 FOR UPDATE SKIP LOCKED"
    )
    row = connection.execute(query, [number]).fetchone()
    return None if row is None else Scan(*row)


def advance_scan(connection: Connection[Any], scan: Scan, position: list[str] | None, found: int) -> None:
    """Store how far a scan has got."""
    update = "UPDATE harrier_sync.scans SET position = %s, found = found + %s::bigint WHERE id = %s"
    connection.execute(update, [position, found, scan.number])


def end_scan(connection: Connection[Any], scan: Scan) -> None:
    """Remove a scan."""
    connection.execute("DELETE FROM harrier_sync.scans WHERE id = %s", [scan.number])


def rows_scanned(connection: Connection[Any], number: int) -> int | None:
    """Return how many rows the scans of all rows have found; None if there is no such scan."""
    query = "SELECT sum(found) FROM harrier_sync.scans WHERE sync = %s AND kind = 'all'"
    [found] = connection.execute(query, [number]).fetchone() or [None]
    return None if found is None else int(found)


# -- workers

# All names are qualified: the statement does not justify a transaction that pins their path.
_SEEN = """
    WITH gone AS (
        DELETE FROM harrier_sync.workers AS w WHERE w.seen_at OPERATOR(pg_catalog.<)
            (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::pg_catalog.interval)
    )
    INSERT INTO harrier_sync.workers (id, name, seen_at, rates) VALUES (%s, %s, pg_catalog.now(), %s)
    ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, rates = excluded.rates"""


def set_worker(
    connection: Connection[Any], worker: UUID, name: str, rates: Mapping[str, float], lasting_errors: Mapping[str, str]
) -> None:
    """Report that a worker is alive, its rows per second, and errors, by table number; it runs in no transaction."""
    connection.execute(_SEEN, [worker, name, Jsonb({**rates, "errors": lasting_errors})])


def delete_worker(connection: Connection[Any], worker: UUID) -> None:
    """Remove a worker that is ending."""
    connection.execute("DELETE FROM harrier_sync.workers WHERE id = %s", [worker])


class Workers(NamedTuple):
    """The workers that were seen recently, as far as one table is concerned."""

    number: int
    rate: float  # rows per second of all of them
    error: str | None  # one that lasts, of one of them


def workers(connection: Connection[Any], number: int, seconds: float) -> Workers:
    """Return what the workers that were seen within the given seconds report about one table."""
    query = (
        "SELECT count(*), coalesce(sum((rates ->> %s)::float8), 0), max(rates -> 'errors' ->> %s) "
        "FROM harrier_sync.workers WHERE seen_at > now() - %s::float8 * interval '1 second'"
    )
    return Workers(*connection.execute(query, [str(number), str(number), seconds]).fetchone() or (0, 0.0, None))
