"""Two live syncs of one source, one of which takes over from the other: the checks and renames for the exchange."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from psycopg import Connection, sql

from harrier_pgvector.schema import Name
from harrier_pgvector.session import transaction
from harrier_pgvector.sync.declaration import Declaration, declarations
from harrier_pgvector.sync.objects import Objects, view_of
from harrier_pgvector.sync.status import SyncStatus, status_of

Names = tuple[str, str]  # of a table: schema and name

# Seconds that the longest waiting row may have waited. A sync that is further behind will not catch up in a moment.
_BEHIND = 10.0
# How long the other table's workers wait for this one's to catch up.
_TRIES, _PAUSE = 200, 0.05


def problem(connection: Connection[Any], live: Names, new: Names) -> str | None:
    """Return why a table of chunks cannot take over from one with a sync of the same source, or None if it can.

    A sync with work left is no problem, because it continues afterwards, unless it is far behind. Nor is a row that
    could not be embedded, unless the other table has it.
    """
    with transaction(connection):
        declared = _declared(connection, new)
        status = status_of(connection, declared)
        if status.state != "active":
            return f"its sync is {status.state}; resume or repair it, and try again"
        if _is_scanning(connection, declared) or (status.oldest or 0.0) > _BEHIND:
            return _left(status)
        failed = connection.execute(_failed(declared, live), []).fetchall()
    if not failed:
        return None
    rows = f"{len(failed):,} row{'s' * (len(failed) > 1)}"
    return f"{rows} of table {'.'.join(live)} could not be embedded, such as {failed[0][0]!r}; change or delete them"


def wait(connection: Connection[Any], new: Names) -> str | None:
    """Wait until a table of chunks has all that was committed to its source before; return what is left, or None.

    If the other table cannot change meanwhile, no reader can have seen anything in it that the new table lacks.
    """
    [[now]] = connection.execute("SELECT clock_timestamp()").fetchall()
    declared = _declared(connection, new)
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE)
        if not _is_waiting(connection, declared, now):
            return None
    return _left(status_of(connection, declared))


def _declared(connection: Connection[Any], target: Names) -> Declaration:
    [declared] = [each for each in declarations(connection, ()) if each.target == target]
    return declared


def _left(status: SyncStatus) -> str:
    left = max(status.unscanned, status.pending + status.leased)
    return f"its sync has about {left:,} rows left; run a worker with its model, and try again"


def _is_scanning(connection: Connection[Any], declared: Declaration) -> bool:
    """Return whether rows are yet to be found that a scan looks for."""
    query = "SELECT EXISTS (SELECT FROM harrier_sync.scans WHERE sync = %s)"
    return connection.execute(query, [declared.number]).fetchone() == (True,)


def _is_waiting(connection: Connection[Any], declared: Declaration, until: datetime) -> bool:
    """Return whether a row waits that was changed until then."""
    if _is_scanning(connection, declared):
        return True
    query = sql.SQL(
        "SELECT EXISTS (SELECT FROM {} WHERE at <= %s) OR EXISTS (SELECT FROM {} WHERE failed IS NULL AND since <= %s)"
    )
    changes, queue = _tables(declared)
    return connection.execute(query.format(changes, queue), [until, until]).fetchone() == (True,)


def _failed(declared: Declaration, live: Names) -> sql.Composed:
    """Return the query for the records that could not be embedded and that the other table has."""
    query = """
        SELECT c.record_id FROM {queue} AS q JOIN {live} AS c ON c.record_id = {record_id} COLLATE "C" AND c.number = 0
        WHERE q.failed IS NOT NULL ORDER BY 1"""
    record_id = sql.SQL("({})").format(declared.source.key.record_id("q"))
    return sql.SQL(query).format(queue=_tables(declared)[1], live=Name(*live), record_id=record_id)


def _tables(declared: Declaration) -> tuple[Name, Name]:
    objects = Objects(declared.number, declared.source)
    return objects.changes, objects.queue


def rename_views(connection: Connection[Any], live: Names, new: Names, kept: Names) -> None:
    """Rename the views of the tables as the tables are renamed."""
    for before, after in ((live, kept), (new, live)):
        rename = sql.SQL("ALTER VIEW IF EXISTS {} RENAME TO {}")
        connection.execute(rename.format(view_of(before), Name(view_of(after)._obj[1])), [])
