"""One table takes the name of another, in one transaction: how an index changes its model while it is in use."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, LiteralString

from psycopg import Connection, errors, sql

from harrier_core.errors import StoreMissing, StoreUnavailable, StoreUnsuitable, StoreWarning
from harrier_core.store import BEFORE, OpenStore
from harrier_pgvector import comparing
from harrier_pgvector.attached import hanging, own, published, take_rights, take_settings
from harrier_pgvector.building import is_small, take_time
from harrier_pgvector.comparing import MOMENT, PAUSE, WAIT, WRITERS_OUT, Comparison
from harrier_pgvector.connections import Connections, Held
from harrier_pgvector.noting import forget
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.opening import TableName
from harrier_pgvector.schema import Name
from harrier_pgvector.session import ask, transaction

Last = Callable[[OpenStore, OpenStore], None]

_ALL_OUT: LiteralString = "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE"

# What ends the transaction for which writers wait. While `last` encodes a window, the connection is idle.
_GONE = {
    "idle_in_transaction_session_timeout": "5min",
    "tcp_keepalives_idle": "10s",
    "tcp_keepalives_interval": "5s",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30s",
}
_CHECK = "5s"  # how often the server checks, during a statement, that the client is there

# Whether a session that uses one of the tables waits for any lock, and whether one is idle in its transaction.
_READERS: LiteralString = """
    SELECT coalesce(bool_or(EXISTS (SELECT FROM pg_locks w WHERE w.pid = h.pid AND NOT w.granted)), false),
        coalesce(bool_or(a.state LIKE 'idle in transaction%%'), false)
    FROM pg_locks h LEFT JOIN pg_stat_activity a ON a.pid = h.pid
    WHERE h.locktype = 'relation' AND h.granted AND h.pid <> pg_backend_pid() AND h.relation = ANY(%s::oid[])
        AND h.database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


class _InTheWayError(Exception):
    """A reader uses one of the tables for too long, or waits for a lock; or all records must be compared first."""


class TableExchange:
    """The exchange of a table for another one in the same schema."""

    def __init__(self, connections: Connections, live: TableName, new: TableName, kept: TableName) -> None:
        self._connections = connections
        self._live = live
        self._new = new
        self._kept = kept
        self._comparison = Comparison(connections, live, new)

    def problem(self) -> str | None:
        """Return why the exchange cannot be done and what to do, or None if it can be done."""
        problem, publication = self._connections.run(
            lambda connection: (self._problem(connection), published(connection, _names(self._live)))
        )
        if publication is not None and problem is None:
            warnings.warn(
                f"publication {publication!r} sends table {self._live} to its subscribers; after the switch they get "
                "the new model's vectors under that name",
                StoreWarning,
                stacklevel=3,
            )
        return problem

    def _problem(self, connection: Connection[Any]) -> str | None:
        if self._there(connection, self._kept) is not None:
            how = "drop it first (--drop-old)" if self._kept.name.endswith(BEFORE) else "drop it first (harrier drop)"
            return f"table {self._kept} is left over from an earlier switch or re-embedding; {how}"
        if (problem := self._problem_of_syncs(connection)) is not None:
            return problem
        live = self._oid(connection, self._live)
        if (what := hanging(connection, live, self._view(connection, self._live))) is not None:
            return f"table {self._live} has {what}, which the new table would lack; remove it first"
        return None

    def _refuse_lacking(self, connection: Connection[Any]) -> None:
        """Raise StoreUnsuitable if the new table lacks something of the owner's. While it is filled, it may."""
        if (what := own(connection, self._oid(connection, self._live), self._oid(connection, self._new))) is not None:
            raise StoreUnsuitable(
                f"table {self._live} has {what}, which table {self._new} lacks; create it there too, or remove it"
            )
        live, new = (each.look(connection) for each in (self._live, self._new))
        if live.has_words and not new.has_words:
            raise StoreUnsuitable(
                f"table {self._live} can be searched by word, and table {self._new} cannot; add its words first, with "
                "'harrier keywords' and its URL or add_keywords()"
            )

    def _refuse_unindexed(self, connection: Connection[Any]) -> None:
        """Raise StoreUnavailable if searches would compare all vectors of a large table, unlike before."""
        live, new = (each.look(connection) for each in (self._live, self._new))
        if live.is_indexed and not new.is_indexed and not is_small(connection, new.table):
            raise StoreUnavailable(
                f"table {self._live} has an index of its vectors, which could not be built for table {self._new}; try "
                "again when nothing else writes to that table"
            )

    def _problem_of_syncs(self, connection: Connection[Any]) -> str | None:
        """Return why live syncs of the tables prevent the exchange, or None."""
        from harrier_pgvector.dropping import followed
        from harrier_pgvector.sync.exchanging import problem

        source = followed(connection, self._live)
        new = None if self._there(connection, self._new) is None else followed(connection, self._new)
        if source is None and new is None:
            return None
        if source != new:
            source, table = source or new, self._live if source else self._new
            return (
                f"a live sync of {source} writes to table {table}, but no sync of that source writes to the other "
                f"one; declare one to table {self._new} with the new model, and switch once its workers have caught up"
            )
        return self._behind(problem(connection, _names(self._live), _names(self._new)))

    def _behind(self, why: str | None) -> str | None:
        return None if why is None else f"table {self._new} has not caught up: {why}"

    def _is_followed(self, connection: Connection[Any]) -> bool:
        """Return whether a live sync writes to the new table, which then may not be locked until it has caught up."""
        from harrier_pgvector.dropping import followed

        return followed(connection, self._new) is not None

    def _wait_for_sync(self, connection: Connection[Any]) -> None:
        """Wait until the new table's sync has done all that the other one may have done."""
        from harrier_pgvector.sync.exchanging import wait

        if (why := self._behind(wait(connection, _names(self._new)))) is not None:
            raise StoreUnsuitable(why)

    def _view(self, connection: Connection[Any], table: TableName) -> int:
        """Return the oid of the view that a live sync has made of a table, or 0."""
        from harrier_pgvector.dropping import followed
        from harrier_pgvector.sync.objects import view_of

        if followed(connection, table) is None:
            return 0
        view = view_of(_names(table)).as_string(connection).replace("%%", "%")
        [[oid]] = ask(connection, "SELECT coalesce(to_regclass(%s)::oid, 0)", [view]).fetchall()
        return int(oid)

    def share(self) -> None:
        """Give the new table the owner and the grants of the other one, before it is filled."""

        def take(connection: Connection[Any]) -> None:
            with transaction(connection):
                self._take_rights(connection, self._oid(connection, self._live), self._oid(connection, self._new))

        self._connections.run(take, writes=True)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note which records change in the meantime, so that `differing` compares all of them only once."""
        self._connections.run(self._refuse_lacking)
        try:
            self._comparison.begin()
            yield
        finally:
            self._comparison.end()

    def differing(self) -> Iterator[list[str]]:
        """Yield the ids of the records whose chunks differ between the two tables."""
        return self._comparison.differing()

    def run(self, old: OpenStore, new: OpenStore, last: Last) -> None:
        """Keep writers out, call `last`, and exchange the names: all in one transaction, or nothing.

        `last` works in that transaction as well. With other connections it might wait forever: a pool may have only
        one, or have lent all others to the writers that wait here. While a reader is in the way, writers get their turn
        between two attempts, and `last` does what it can meanwhile, so that less is left for the next attempt.
        """
        oids = self._connections.run(
            lambda connection: (self._oid(connection, self._live), self._oid(connection, self._new))
        )
        self._connections.run(self._refuse_unindexed)
        for attempt in range(comparing.ATTEMPTS):
            if attempt:
                time.sleep(comparing.TURN)
            if self._comparison.renew() or attempt:
                with suppress(StoreUnavailable):  # others write meanwhile; what is left is done below
                    last(old, new)
            is_known = self._comparison.is_known

            def run(connection: Connection[Any], *, is_known: bool = is_known) -> None:
                self._comparison.is_known = is_known  # again, if the first attempt was rolled back
                self._run(connection, oids, last)

            try:
                self._connections.run(run, writes=True)
            except _InTheWayError:
                self._comparison.is_known = is_known
            else:
                return
        raise self._comparison.busy("reads it")

    def _run(self, connection: Connection[Any], oids: tuple[int, int], last: Last) -> None:
        live, new = oids
        if self._there(connection, self._live) == new and self._there(connection, self._kept) == live:
            return  # the connection was lost after it was done
        if self._comparison.is_stale(connection):  # the connection was lost before, and the notes with it
            raise _InTheWayError
        with transaction(connection):
            take_time(connection)
            self._limit(connection)
            connection.execute(f"SET LOCAL lock_timeout = '{WAIT}'")
            # The new table first: while something else holds it, others can write to the live one.
            followed = self._is_followed(connection)
            for each in (self._live,) if followed else (self._new, self._live):
                self._keep_writers_out(connection, each)
            if followed:
                self._wait_for_sync(connection)
                self._keep_writers_out(connection, self._new)
            if (problem := self._problem(connection)) is not None:
                raise StoreUnsuitable(problem)
            self._refuse_lacking(connection)
            if (self._oid(connection, self._live), self._oid(connection, self._new)) != oids:
                raise StoreUnavailable(f"table {self._live} or {self._new} was replaced in the meantime; try again")
            with self._holding(connection) as held:
                last(*(OpenTable(held, each, each.look(connection)) for each in (self._live, self._new)))
            self._take_rights(connection, live, new)
            self._rename(connection, oids, views=self._take_rights_of_views(connection))

    def _limit(self, connection: Connection[Any]) -> None:
        """Have the server end the transaction, for which writers wait, if this process hangs or its machine is gone."""
        connection.execute("; ".join(f"SET LOCAL {name} = '{value}'" for name, value in _GONE.items()))
        with suppress(errors.UndefinedObject, errors.InvalidParameterValue), transaction(connection):
            connection.execute(f"SET LOCAL client_connection_check_interval = '{_CHECK}'")  # 14, and not everywhere

    def _keep_writers_out(self, connection: Connection[Any], table: TableName) -> None:
        with self._comparison.bounded(table):
            connection.execute(sql.SQL(WRITERS_OUT).format(self._name(table)), [])

    @contextmanager
    def _holding(self, connection: Connection[Any]) -> Iterator[Held]:
        """Run all operations on this connection."""
        held, others = Held(connection), self._connections
        self._connections = self._comparison.connections = held
        try:
            yield held
        finally:
            self._connections = self._comparison.connections = others

    def _rename(self, connection: Connection[Any], oids: tuple[int, int], *, views: bool) -> None:
        from harrier_pgvector.sync.exchanging import rename_views

        rename = sql.SQL("ALTER TABLE {} RENAME TO {}")
        for _ in range(comparing.TRIES):
            [[waits, is_idle]] = ask(connection, _READERS, [list(oids)]).fetchall()
            if waits:  # most likely for us, because it writes as well
                break
            if is_idle:  # while we wait for it, Postgres would end its transaction, as a deadlock, if it wrote
                time.sleep(PAUSE)
                continue
            with suppress(errors.LockNotAvailable), transaction(connection):  # a savepoint, whose locks end with it
                connection.execute(f"SET LOCAL lock_timeout = '{MOMENT}'")
                for each in (self._live, self._new):
                    connection.execute(sql.SQL(_ALL_OUT).format(self._name(each)), [])
                forget(connection, oids)
                connection.execute(rename.format(self._name(self._live), Name(self._kept.name)), [])
                connection.execute(rename.format(self._name(self._new), Name(self._live.name)), [])
                if views:
                    rename_views(
                        connection, *((each.schema, each.name) for each in (self._live, self._new, self._kept))
                    )
                return
            time.sleep(PAUSE)
        raise _InTheWayError

    def _take_rights(self, connection: Connection[Any], live: int, new: int) -> None:
        """Give the new table the owner, the grants and the settings of the other one."""
        take_rights(connection, self._name(self._new), live, new)
        take_settings(connection, self._name(self._new), live, new)

    def _take_rights_of_views(self, connection: Connection[Any]) -> bool:
        """Give the view of the new table the owner and the grants of the other one; return whether there are views."""
        from harrier_pgvector.sync.objects import view_of

        live, new = (self._view(connection, each) for each in (self._live, self._new))
        if live and new:
            take_rights(connection, view_of(_names(self._new)), live, new)
        return bool(live or new)

    def _name(self, table: TableName) -> Name:
        return Name(*_names(table))

    def _oid(self, connection: Connection[Any], table: TableName) -> int:
        return table.find(connection).oid

    def _there(self, connection: Connection[Any], table: TableName) -> int | None:
        with suppress(StoreMissing):
            return self._oid(connection, table)
        return None


def _names(table: TableName) -> tuple[str, str]:
    return table.schema, table.name
