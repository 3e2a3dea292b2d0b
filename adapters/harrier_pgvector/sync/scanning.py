"""Look through a source: page by page for rows that were missed, and at what it is made of after it was changed."""

from __future__ import annotations

from typing import Any

from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from harrier_pgvector.connections import Connections
from harrier_pgvector.schema import Name
from harrier_pgvector.sync.declaration import Declaration
from harrier_pgvector.sync.queue import Queue, look_through, scanned_fully
from harrier_pgvector.sync.reading import SourceChanged, Unreadable, check, of_source


def scan(connections: Connections, declaration: Declaration, queue: Queue) -> bool:
    """Do a page of what has to be looked through: all rows, or all chunks for those that have no row any more."""

    def page(connection: Connection[Any]) -> bool:
        next_ = (
            "SELECT id, kind, position FROM harrier_sync.scans WHERE sync = %s "
            "ORDER BY kind = 'all', id LIMIT 1 FOR UPDATE SKIP LOCKED"
        )
        row = connection.execute(next_, [declaration.number]).fetchone()
        if row is not None:
            _scan_page(connection, declaration, queue, *row)
        return row is not None

    try:
        return connections.run(of_source(page, declaration, read_only=False))
    except Unreadable:
        raise SourceChanged(
            f"its table of chunks, {declaration.name}, holds records whose ids are no keys of its source; remove them"
        ) from None


def _scan_page(
    connection: Connection[Any],
    declaration: Declaration,
    queue: Queue,
    scan: int,
    kind: str,
    position: list[str] | None,
) -> None:
    if kind == "missed":
        check(connection, declaration.source)
        connection.execute("DELETE FROM harrier_sync.scans WHERE id = %s", [scan])
        look_through(connection, declaration.number)
        return
    if position is None:
        queue.start_over(connection)
    if kind == "all":
        number, last = queue.queue_rows(connection, position)
    else:
        number, last = queue.queue_orphans(connection, Name(*declaration.target), position)
    if scanned_fully(number):
        connection.execute("DELETE FROM harrier_sync.scans WHERE id = %s", [scan])
    else:
        update = "UPDATE harrier_sync.scans SET position = %s, found = found + %s::bigint WHERE id = %s"
        connection.execute(update, [last, number, scan])


def look_again(connections: Connections, declaration: Declaration) -> None:
    """Look whether a broken table was mended, and at all rows, if it was or if the source is made of others now."""
    mend = "UPDATE harrier_sync.tables SET state = 'active', reason = NULL WHERE id = %s AND state = 'broken'"
    see = "UPDATE harrier_sync.tables SET seen = %s WHERE id = %s AND seen IS NOT DISTINCT FROM %s"
    number, before = declaration.number, declaration.seen

    def look(connection: Connection[Any]) -> None:
        check(connection, declaration.source)
        if ailment := declaration.ailment():
            raise SourceChanged(ailment)
        connection.execute(declaration.source.rows(sql.SQL("LIMIT 0")), [])
        changed = connection.execute(mend, [number]).rowcount
        if declaration.now != before:  # one worker notices
            seen = [Jsonb(declaration.now), number, None if before is None else Jsonb(before)]
            changed += connection.execute(see, seen).rowcount
        if changed:
            look_through(connection, number)

    connections.run(of_source(look, declaration, read_only=False))
