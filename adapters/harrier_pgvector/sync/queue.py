"""The queue of one declared table: changes folded into it, rows leased from it, and their outcomes.

A lease is a token on a row and a time. A worker whose lease expired finds that out in the transaction that would have
written. A row that changed in the meantime stays in the queue. It is written nevertheless: no one else has written it
since it was read, and a row that changes all the time would never be written otherwise. Rows are locked in the order of
their keys or skipped, so that no two transactions wait for each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, LiteralString
from uuid import UUID

from psycopg import Connection, sql

from harrier_pgvector.schema import Name, literal
from harrier_pgvector.sync import catalog
from harrier_pgvector.sync.batch import Lease
from harrier_pgvector.sync.objects import Objects

# The work of one transaction: a few tenths of a second.
_FOLDED, _SCANNED = 20_000, 5_000

# A row that was leased before and not given back may have killed its worker. It is retried among fewer neighbours each
# time, so that these are done before it is given up.
_WEIGHT = sql.SQL("CASE attempts WHEN 0 THEN 1 WHEN 1 THEN 16 WHEN 2 THEN 256 ELSE 4096 END")
_LATER = sql.SQL("statement_timestamp() + %s::float8 * interval '1 second'")


class Queue:
    """One declared table's queue. Every method runs on a connection of the caller's."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._key = objects.source.key

    def _sql(self, text: LiteralString, **more: sql.Composable) -> sql.Composed:
        names = {
            "queue": self._objects.queue,
            "changes": self._objects.changes,
            "names": self._key.names(),
            "keys": self._key.names("q"),
            "record_id": self._key.record_id("q"),
            "texts": self._key.texts("q"),
            "number": literal(self._objects.number),
        }
        return sql.SQL(text).format(**names, **more)

    # -- adding

    def fold(self, connection: Connection[Any]) -> None:
        """Move changes into the queue; one worker at a time, because the others would only wait.

        The lock is on a row because any role can take, and keep, an advisory lock.
        """
        fold = self._sql(
            """
            WITH gone AS (
                DELETE FROM {changes} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {changes} LIMIT {most}))
                RETURNING {names}, at
            )
            INSERT INTO {queue} AS q ({names}, since)
            SELECT {names}, min(at) FROM gone GROUP BY {names} ORDER BY {names}
            ON CONFLICT ({names}) DO UPDATE SET version = q.version + 1::bigint, priority = 0, attempts = 0,
                failed = NULL, error = NULL, due = CASE WHEN q.token IS NULL THEN excluded.due ELSE q.due END""",
            most=literal(_FOLDED),
        )
        if catalog.lock_if_free(connection, self._objects.number):
            connection.execute(fold, [])

    def claim(self, connection: Connection[Any], most: int, token: UUID, seconds: float) -> list[Lease]:
        """Lease the next rows: changes before a back-fill, those due longest first."""
        claim = self._sql(
            """
            WITH next AS MATERIALIZED (
                SELECT {names}, priority, due, attempts FROM {queue}
                WHERE failed IS NULL AND due <= statement_timestamp()
                ORDER BY priority, due LIMIT %s FOR UPDATE SKIP LOCKED
            ), counted AS (
                SELECT *, sum({weight}) OVER (ORDER BY priority, due, {names}) AS weight,
                    row_number() OVER (ORDER BY priority, due, {names}) AS place FROM next
            )
            UPDATE {queue} AS q SET token = %s, attempts = q.attempts + 1::smallint, due = {later}
            FROM counted AS c WHERE {same} AND (c.weight <= %s OR c.place = 1)
            RETURNING {record_id}, {texts}, q.version, q.attempts, q.error""",
            weight=_WEIGHT,
            later=_LATER,
            same=self._key.equal("q", "c"),
        )
        rows = connection.execute(claim, [most, token, seconds, most]).fetchall()
        return [Lease(record_id, tuple(key), *rest) for record_id, key, *rest in rows]

    # -- removing: in the transaction that writes

    def hold(self, connection: Connection[Any], token: UUID, leases: Collection[Lease]) -> dict[str, bool]:
        """Lock the rows that are still leased, skipping those that someone is changing right now.

        Return for each of them, by its record id, whether it is unchanged. Others stay in the queue.
        """
        hold = self._sql(
            """
            SELECT {record_id}, q.version = c.version FROM {leased} JOIN {queue} AS q ON {same}
            WHERE q.token = %s FOR UPDATE OF q SKIP LOCKED""",
            leased=self._key.unnested("c", "version"),
            same=self._key.equal("q", "c"),
        )
        bound = [*self._bound(leases), [lease.version for lease in leases], token]
        return dict(connection.execute(hold, bound).fetchall())

    def remove(self, connection: Connection[Any], leases: Collection[Lease]) -> None:
        """Take held and unchanged rows out of the queue."""
        delete = "DELETE FROM {queue} AS q USING {leased} WHERE {same}"
        query = self._sql(delete, leased=self._key.unnested("c"), same=self._key.equal("q", "c"))
        connection.execute(query, self._bound(leases))

    def fail(self, connection: Connection[Any], token: UUID, reasons: Mapping[Lease, str]) -> None:
        """Set rows aside, with the reason, until they are changed or retried on request."""
        held = self.hold(connection, token, reasons)
        own = [lease for lease in reasons if held.get(lease.record_id)]
        update = self._sql(
            "UPDATE {queue} AS q SET token = NULL, failed = %s FROM {leased} WHERE {same}",
            leased=self._key.unnested("c"),
            same=self._key.equal("q", "c"),
        )
        for reason in {reasons[lease] for lease in own}:
            connection.execute(update, [reason, *self._bound(each for each in own if reasons[each] == reason)])

    def give_back(
        self,
        connection: Connection[Any],
        token: UUID,
        leases: Collection[Lease],
        *,
        after: float = 0.0,
        error: str | None = None,
    ) -> None:
        """Release rows that are still leased, to be retried later; with an error it counts as an attempt."""
        update = self._sql(
            """
            UPDATE {queue} AS q SET token = NULL, due = {later},
                attempts = greatest(q.attempts - %s::smallint, 0::smallint), error = coalesce(%s, q.error)
            FROM (
                SELECT {keys} FROM {leased} JOIN {queue} AS q ON {joined} WHERE q.token = %s
                ORDER BY {keys} FOR UPDATE OF q
            ) AS c WHERE {same}""",
            later=_LATER,
            leased=self._key.unnested("l"),
            joined=self._key.equal("q", "l"),
            same=self._key.equal("q", "c"),
        )
        connection.execute(update, [after, 0 if error else 1, error, *self._bound(leases), token])

    def extend(self, connection: Connection[Any], token: UUID, leases: Collection[Lease], seconds: float) -> None:
        """Extend leases, for work that takes longer."""
        update = self._sql(
            """
            UPDATE {queue} AS q SET due = {later}
            FROM (
                SELECT {keys} FROM {leased} JOIN {queue} AS q ON {joined} WHERE q.token = %s
                FOR UPDATE OF q SKIP LOCKED
            ) AS c WHERE {same}""",
            later=_LATER,
            leased=self._key.unnested("l"),
            joined=self._key.equal("q", "l"),
            same=self._key.equal("q", "c"),
        )
        connection.execute(update, [seconds, *self._bound(leases), token])

    def _bound(self, leases: Iterable[Lease]) -> list[list[str]]:
        keys = [lease.key for lease in leases]
        return [list(column) for column in zip(*keys, strict=True)] if keys else [[] for _ in self._key.columns]

    def left(self, connection: Connection[Any]) -> bool:
        """Return whether there is anything to do, now or later."""
        query = self._sql(
            "SELECT EXISTS (SELECT FROM {changes}) OR EXISTS (SELECT FROM {queue} WHERE failed IS NULL) "
            "OR EXISTS (SELECT FROM harrier_sync.scans WHERE sync = {number})"
        )
        return connection.execute(query, []).fetchone() == (True,)

    # -- scans: of all rows, and of chunks without a row

    def start_over(self, connection: Connection[Any]) -> None:
        """Queue rows in progress or set aside once more, because what they depend on has changed."""
        update = self._sql(
            """
            UPDATE {queue} AS q SET version = q.version + 1::bigint, failed = NULL, attempts = 0,
                due = CASE WHEN q.token IS NULL THEN statement_timestamp() ELSE q.due END
            FROM (
                SELECT {names} FROM {queue} WHERE token IS NOT NULL OR failed IS NOT NULL ORDER BY {names} FOR UPDATE
            ) AS c WHERE {same}""",
            same=self._key.equal("q", "c"),
        )
        connection.execute(update, [])

    def queue_rows(self, connection: Connection[Any], position: list[str] | None) -> tuple[int, list[str] | None]:
        """Queue the source's next rows after a key; return how many there were, and the last one's key."""
        key = self._key
        behind = sql.SQL("WHERE ({}) > ({})").format(key.source_names("s"), key.values()) if position else sql.SQL("")
        query = self._sql(
            """
            WITH page AS MATERIALIZED (
                SELECT {of_source} FROM {source} AS s {behind} ORDER BY {of_source} LIMIT {most}
            ), queued AS (
                INSERT INTO {queue} ({names}, priority) SELECT p.*, 1 FROM page AS p ORDER BY {of_page}
                ON CONFLICT DO NOTHING
            )
            SELECT count(*) OVER (), {texts_of_page} FROM page AS p ORDER BY {backwards} LIMIT 1""",
            of_source=key.source_names("s"),
            source=self._objects.source.name,
            behind=behind,
            most=literal(_SCANNED),
            of_page=key.source_names("p"),
            texts_of_page=key.texts("p", source=True),
            backwards=sql.SQL(", ").join(sql.SQL("{} DESC").format(Name("p", each.name)) for each in key.columns),
        )
        row = connection.execute(query, position or []).fetchone()
        return (row[0], row[1]) if row else (0, None)

    def queue_orphans(
        self, connection: Connection[Any], target: Name, position: list[str] | None
    ) -> tuple[int, list[str] | None]:
        """Queue the next chunks' records that have no row; return how many were looked at, and the last one's id."""
        query = self._sql(
            """
            WITH page AS MATERIALIZED (
                SELECT DISTINCT record_id FROM {target} WHERE record_id > %s ORDER BY record_id LIMIT {most}
            ), keyed AS (SELECT {parsed} FROM page AS p), queued AS (
                INSERT INTO {queue} ({names}) SELECT {of_page} FROM keyed AS k ({names})
                WHERE NOT EXISTS (SELECT FROM {source} AS s WHERE {same}) ORDER BY {of_page} ON CONFLICT DO NOTHING
            )
            SELECT count(*) OVER (), record_id FROM page ORDER BY record_id DESC LIMIT 1""",
            target=target,
            most=literal(_SCANNED),
            parsed=self._key.of_record_id(sql.SQL("p.record_id")),
            of_page=self._key.names("k"),
            source=self._objects.source.name,
            same=self._key.equal("s", "k", source="s"),
        )
        row = connection.execute(query, [position[0] if position else ""]).fetchone()
        return (row[0], [row[1]]) if row else (0, None)


def scanned_fully(number: int) -> bool:
    """Return whether a scan that found this many rows at once was the last one."""
    return number < _SCANNED
