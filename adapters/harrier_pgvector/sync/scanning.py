"""Scan a source: page by page for rows that were missed, and for its structure after it was changed."""

from __future__ import annotations

from typing import Any

from psycopg import Connection, sql

from harrier_pgvector.connections import Connections
from harrier_pgvector.schema import Name
from harrier_pgvector.sync import catalog
from harrier_pgvector.sync.declaration import Declaration
from harrier_pgvector.sync.queue import Queue, scanned_fully
from harrier_pgvector.sync.reading import SourceChanged, Unreadable, check, of_source


def scan(connections: Connections, declaration: Declaration, queue: Queue) -> bool:
    """Do the next page of a scan: of all rows, or of all chunks for those whose row is gone.

    Return whether there was one.
    """

    def page(connection: Connection[Any]) -> bool:
        found = catalog.next_scan(connection, declaration.number)
        if found is not None:
            _scan_page(connection, declaration, queue, found)
        return found is not None

    try:
        return connections.run(of_source(page, declaration, read_only=False))
    except Unreadable:
        raise SourceChanged(
            f"its table of chunks, {declaration.name}, holds records whose ids are not keys of its source; remove them"
        ) from None


def _scan_page(connection: Connection[Any], declaration: Declaration, queue: Queue, found: catalog.Scan) -> None:
    if found.kind == "missed":
        check(connection, declaration.source)
        catalog.end_scan(connection, found)
        catalog.start_scans(connection, declaration.number)
        return
    if found.position is None:
        queue.start_over(connection)
    if found.kind == "all":
        number, last = queue.queue_rows(connection, found.position)
    else:
        number, last = queue.queue_orphans(connection, Name(*declaration.target), found.position)
    if scanned_fully(number):
        catalog.end_scan(connection, found)
    else:
        catalog.advance_scan(connection, found, last, number)


def look_again(connections: Connections, declaration: Declaration) -> None:
    """Check whether a broken table was fixed; scan all rows if it was, or if the source now consists of other parts."""

    def look(connection: Connection[Any]) -> None:
        check(connection, declaration.source)
        if ailment := declaration.ailment():
            raise SourceChanged(ailment)
        connection.execute(declaration.source.rows(sql.SQL("LIMIT 0")), [])
        repaired = catalog.set_state(connection, declaration.number, "active", among=["broken"])
        # Only one worker does so.
        is_other = declaration.now != declaration.seen and catalog.set_seen(
            connection, declaration.number, declaration.now, declaration.seen
        )
        if repaired or is_other:
            catalog.start_scans(connection, declaration.number)

    connections.run(of_source(look, declaration, read_only=False))
