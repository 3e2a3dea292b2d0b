"""Transactions of the live sync: where names are looked up, how values are written, and whose rights apply."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool

from harrier_pgvector.connections import Connections, checked_conninfo
from harrier_pgvector.session import transaction

T = TypeVar("T")

# The search path of the store's transactions.
PATH = "pg_catalog, pg_temp"

_TRANSACTION_TIMEOUT = 170_000  # the version of Postgres that introduced it

# One statement for any number of settings, with the same text each time.
_SET = "SELECT pg_catalog.set_config(key, value, true) FROM pg_catalog.json_each_text(%s::pg_catalog.json)"

# Texts and metadata must not depend on who writes them: workers with different settings would undo each other's work.
WRITTEN = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "xmloption": "content",
    "lc_monetary": "C",
}


def configure(connection: Connection[Any], settings: dict[str, str]) -> None:
    """Change settings until the end of the transaction, in their order."""
    connection.execute(_SET, [json.dumps(settings)])


@contextmanager
def pinned(connection: Connection[Any], settings: dict[str, str] | None = None) -> Iterator[None]:
    """Run a transaction as the store does, READ COMMITTED and with only Postgres's own names; plus settings."""
    with transaction(connection):
        if settings:
            configure(connection, settings)
        yield


def unlimited(connection: Connection[Any]) -> dict[str, str]:
    """Return the settings of a transaction whose statements take as long as they need.

    Work that a limit ended would be as much the next time. A lock_timeout stays as it is: it lets a worker go on with
    other tables.
    """
    has_both = connection.info.server_version >= _TRANSACTION_TIMEOUT
    return dict.fromkeys(["statement_timeout", "transaction_timeout"] if has_both else ["statement_timeout"], "0")


def run(connections: Connections, action: Callable[[Connection[Any]], T], *, limited: bool = True) -> T:
    """Return the result of an action, which runs in a pinned transaction, again if the connection is lost.

    limited: limits of the role or the database on the time of statements apply.
    """

    def in_transaction(connection: Connection[Any]) -> T:
        with pinned(connection, None if limited else unlimited(connection)):
            return action(connection)

    return connections.run(in_transaction)


def named(place: str | ConnectionPool[Any]) -> str | ConnectionPool[Any]:
    """Return a place whose connections are identified in pg_stat_activity; a pool stays as its owner made it."""
    return named_conninfo(place) if isinstance(place, str) else place


def named_conninfo(conninfo: str) -> str:
    """Return a connection string with a name for pg_stat_activity, unless it has one already."""
    return make_conninfo(checked_conninfo(conninfo), fallback_application_name="harrier-sync")


def of_primary(conninfo: str) -> str:
    """Return a connection string that leads to a server that takes writes, if there are several."""
    chosen = conninfo_to_dict(conninfo).get("target_session_attrs")
    return make_conninfo(conninfo, target_session_attrs="primary" if chosen == "primary" else "read-write")
