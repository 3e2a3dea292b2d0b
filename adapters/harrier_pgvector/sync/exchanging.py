"""Two live syncs of one source, one of which takes over from the other: the checks and renames for the exchange."""

from __future__ import annotations

from typing import Any

from psycopg import Connection, sql

from harrier_pgvector.schema import Name
from harrier_pgvector.session import transaction
from harrier_pgvector.sync.declaration import declarations
from harrier_pgvector.sync.objects import view_of
from harrier_pgvector.sync.status import status_of


def lag(connection: Connection[Any], target: tuple[str, str]) -> str | None:
    """Return what a table of chunks still lacks of its source, or None if its sync has caught up."""
    with transaction(connection):
        [declared] = [each for each in declarations(connection, ()) if each.target == target]
        status = status_of(connection, declared)
    if status.state != "active":
        return f"its sync is {status.state}"
    waiting = status.pending + status.leased
    if status.unscanned or waiting:
        return f"its sync has about {max(status.unscanned, waiting):,} rows left"
    return f"{status.failed:,} rows could not be embedded" if status.failed else None


def rename_views(
    connection: Connection[Any], live: tuple[str, str], new: tuple[str, str], kept: tuple[str, str]
) -> None:
    """Rename the views of the tables as the tables are renamed."""
    for before, after in ((live, kept), (new, live)):
        rename = sql.SQL("ALTER VIEW IF EXISTS {} RENAME TO {}")
        connection.execute(rename.format(view_of(before), Name(view_of(after)._obj[1])), [])
