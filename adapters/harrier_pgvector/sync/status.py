"""The status of declared tables, from their queues and workers."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql
from psycopg_pool import ConnectionPool

from harrier_pgvector.connections import Connections
from harrier_pgvector.schema import Name
from harrier_pgvector.sync import catalog
from harrier_pgvector.sync.catalog import SCHEMA
from harrier_pgvector.sync.declaration import Declaration, Lost, declarations_and_lost
from harrier_pgvector.sync.session import named, run
from harrier_pgvector.sync.trust import StrangersError

_ALIVE = 60.0  # seconds since a worker was seen


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """The status of a declared table; rows are rows of the source."""

    table: str
    source: str
    # active, paused, broken, untrusted if it belongs to a role that is not trusted, or failing if it is active, but a
    # worker reports an error that lasts
    state: str
    reason: str | None  # why it is broken, untrusted or failing
    pending: int  # waiting rows; one that was changed three times may count as three
    leased: int  # of these, being worked on
    failed: int  # set aside, until they are changed or retried
    unscanned: int  # estimate of the rows that a back-fill has not reached yet
    oldest: float | None  # seconds since the longest waiting row was changed
    rate: float  # rows per second, of all workers, over the last minute
    workers: int  # seen recently
    chunks: int  # estimate of how many are stored

    @property
    def left(self) -> int:
        """The number of rows still to be embedded."""
        return self.pending + self.unscanned

    @property
    def seconds_left(self) -> float | None:
        """The remaining time at the rate of the last minute; None if nothing moves."""
        return 0.0 if not self.left else self.left / self.rate if self.rate else None


@dataclass(frozen=True, slots=True)
class SyncFailure:
    """A row that was set aside."""

    record_id: str
    reason: str
    attempts: int


def sync_statuses(place: str | ConnectionPool[Any], *, trust: Collection[str] = ()) -> list[SyncStatus]:
    """Return the status of all declared tables of a database; trust: roles that may own them, as for a worker."""

    def statuses(connection: Connection[Any]) -> list[SyncStatus]:
        return [_if_trusted(connection, each, trust) for each in declarations_and_lost(connection, trust)]

    with closing(Connections(named(place), retry_for=10.0)) as connections:
        return run(connections, statuses)


def _if_trusted(connection: Connection[Any], declared: Declaration | Lost, trust: Collection[str]) -> SyncStatus:
    if isinstance(declared, Lost):
        return _unknown(declared, "broken", declared.reason)
    try:
        declared.refuse_strangers(trust)
    except StrangersError as error:
        return _unknown(declared, "untrusted", str(error))
    return status_of(connection, declared)


def _unknown(declared: Declaration | Lost, state: str, reason: str) -> SyncStatus:
    return SyncStatus(
        table=declared.name,
        source=str(declared.source),
        state=state,
        reason=reason,
        pending=0,
        leased=0,
        failed=0,
        unscanned=0,
        oldest=None,
        rate=0.0,
        workers=0,
        chunks=0,
    )


def status_of(connection: Connection[Any], declared: Declaration) -> SyncStatus:
    """Return the status of one of them."""
    queue, changes = Name(SCHEMA, f"queue_{declared.number}"), Name(SCHEMA, f"changes_{declared.number}")
    counted = sql.SQL(
        """
        SELECT (SELECT count(*) FROM {changes}) + count(*) FILTER (WHERE failed IS NULL AND NOT {leased}),
            count(*) FILTER (WHERE failed IS NULL AND {leased}), count(*) FILTER (WHERE failed IS NOT NULL),
            extract(epoch FROM clock_timestamp()
                - least(min(since) FILTER (WHERE failed IS NULL), (SELECT min(at) FROM {changes})))::float8
        FROM {queue}"""
    ).format(queue=queue, changes=changes, leased=sql.SQL("(token IS NOT NULL AND due > clock_timestamp())"))
    counts = connection.execute(counted, []).fetchone() or (0, 0, 0, None)
    scanned, unscanned = catalog.rows_scanned(connection, declared.number), 0
    if scanned is not None and declared.source_there:
        unscanned = max(0, _about(connection, declared.source.name) - scanned)
    workers = catalog.workers(connection, declared.number, _ALIVE)
    # An error does not matter while there is nothing to do.
    failing = workers.error if declared.state == "active" and counts[0] + counts[1] + unscanned else None
    return SyncStatus(
        table=declared.name,
        source=str(declared.source),
        state="failing" if failing else declared.state,
        reason=failing or declared.reason,
        pending=counts[0],
        leased=counts[1],
        failed=counts[2],
        unscanned=unscanned,
        oldest=counts[3],
        rate=workers.rate,
        workers=workers.number,
        chunks=_about(connection, Name(*declared.target)) if declared.target_there else 0,
    )


def _about(connection: Connection[Any], table: sql.Identifier) -> int:
    """Return the planner's estimate of the number of rows, which costs nothing."""
    explain = sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {}").format(table)
    [[plan]] = connection.execute(explain, []).fetchone() or [[{"Plan": {"Plan Rows": 0}}]]
    return int(plan["Plan"]["Plan Rows"])
