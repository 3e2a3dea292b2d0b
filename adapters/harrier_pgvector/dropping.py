"""Drop a table of chunks, and the views that the kit made of it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from psycopg import Connection, errors, sql

from harrier_core.errors import StoreMissing, StoreUnavailable, StoreUnsuitable
from harrier_pgvector.opening import TableName
from harrier_pgvector.schema import VIEW_STAMP, Name
from harrier_pgvector.session import ask, transaction
from harrier_pgvector.sync import catalog

# DROP TABLE waits for all users of the table, and all later ones wait for it.
_LOCK_TIMEOUT = "10s"

# Views of the table that are marked as the kit's. Only a catalog is read, which runs no foreign code.
_VIEWS = """
    SELECT DISTINCT n.nspname, v.relname FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class JOIN pg_namespace n ON n.oid = v.relnamespace
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %s
        AND v.relkind = 'v' AND obj_description(v.oid, 'pg_class') = %s"""

_ROLES = "SELECT current_user, pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'harrier_sync'"


def drop(connection: Connection[Any], name: TableName) -> None:
    """Drop the table if it exists: all of it or nothing."""
    table = Name(name.schema, name.name)
    with suppress(StoreMissing), transaction(connection):
        name.find(connection)  # before anyone has to wait for the lock
        try:
            connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table), [])
        except errors.UndefinedTable:  # it was dropped at this very moment
            raise name.missing() from None
        except errors.LockNotAvailable:
            raise StoreUnavailable(
                f"table {name} was not dropped: a transaction has been using it for more than "
                f"{_LOCK_TIMEOUT}; try again"
            ) from None
        oid = name.find(connection).oid
        _check_followed(connection, name)
        views = ask(connection, _VIEWS, [oid, VIEW_STAMP]).fetchall()
        try:
            for view in views:
                connection.execute(sql.SQL("DROP VIEW {}").format(Name(*view)), [])
            connection.execute(sql.SQL("DROP TABLE {}").format(table), [])
        except errors.DependentObjectsStillExist as error:
            others = "; ".join((error.diag.message_detail or "").splitlines())
            raise StoreUnsuitable(f"table {name} was not dropped: {others}; drop what depends on it first") from None


def followed(connection: Connection[Any], name: TableName) -> str | None:
    """Return the name of the source whose chunks a live sync keeps in the table, or None.

    Raise StoreUnsuitable if this role may not read what is declared.
    """
    oid = name.find(connection).oid
    try:
        with transaction(connection):
            return catalog.source_of(connection, oid)
    except (errors.InsufficientPrivilege, errors.WrongObjectType):
        [role, owner] = ask(connection, _ROLES, []).fetchone() or ("", "")
        raise StoreUnsuitable(
            f"role {role} may not read whether a live sync writes to table {name}; connect as role {owner}, or grant "
            f"{role} USAGE on schema {catalog.SCHEMA} and SELECT on {catalog.SCHEMA}.tables"
        ) from None


def _check_followed(connection: Connection[Any], name: TableName) -> None:
    source = None
    with suppress(StoreUnsuitable):  # the view of a sync depends on the table, which then cannot be dropped anyway
        source = followed(connection, name)
    if source is not None:
        raise StoreUnsuitable(
            f"table {name} was not dropped: a live sync keeps the chunks of {source} in it; drop the sync first with "
            "TableSync(...).drop() or 'harrier sync drop'"
        )
