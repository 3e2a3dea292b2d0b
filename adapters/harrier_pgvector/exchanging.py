"""One table takes the name of another, in one transaction: how an index changes its model while it is in use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, LiteralString

from psycopg import Connection, errors, sql

from harrier_core.errors import StoreMissing, StoreUnavailable, StoreUnsuitable
from harrier_core.store import OpenStore
from harrier_pgvector.connections import Connections, Held
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.opening import TableName
from harrier_pgvector.schema import COLUMNS, Name, written
from harrier_pgvector.session import ask, transaction
from harrier_pgvector.words import COLUMNS as WORDS

Last = Callable[[OpenStore, OpenStore], None]

# It keeps out writers, but not readers; later writers queue behind it.
_WRITERS_OUT: LiteralString = "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE"
_ALL_OUT: LiteralString = "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE"
_WAIT = "10s"  # for current writers
# For current readers. Later readers wait behind this lock, so it is requested only for moments, again and again.
_MOMENT, _PAUSE, _TRIES = "100ms", 0.2, 100

_PAGE = 5_000  # records that are compared at once

# The objects that belong to a table and would stay with it: a word for each, and its name.
_HANGING = """
    SELECT 'a trigger', tgname::text FROM pg_trigger WHERE tgrelid = %(oid)s AND NOT tgisinternal
    UNION ALL SELECT 'a policy', polname::text FROM pg_policy WHERE polrelid = %(oid)s
    UNION ALL SELECT 'row-level security', '' FROM pg_class WHERE oid = %(oid)s AND relrowsecurity
    UNION ALL SELECT 'partitions', '' FROM pg_class WHERE oid = %(oid)s AND relkind = 'p'
    UNION ALL SELECT 'a foreign key', conname::text FROM pg_constraint
        WHERE contype = 'f' AND %(oid)s IN (conrelid, confrelid)
    UNION ALL SELECT 'inheritance', inhrelid::regclass::text FROM pg_inherits WHERE %(oid)s IN (inhrelid, inhparent)
    UNION ALL SELECT 'a publication', p.pubname::text FROM pg_publication_rel r
        JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = %(oid)s
    UNION ALL SELECT DISTINCT 'a view', v.oid::regclass::text FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid
        JOIN pg_class v ON v.oid = w.ev_class WHERE d.classid = 'pg_rewrite'::regclass
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s AND v.oid NOT IN (%(oid)s, %(view)s)
    UNION ALL SELECT 'a column', attname::text FROM pg_attribute
        WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped AND attname <> ALL (%(columns)s)
    UNION ALL SELECT 'privileges on a column', attname::text FROM pg_attribute
        WHERE attrelid = %(oid)s AND attnum > 0 AND attacl IS NOT NULL
    LIMIT 1"""

# The privileges on a table of roles other than its owner: none if nothing was ever granted. 0 is PUBLIC.
_RIGHTS = """
    SELECT coalesce(r.rolname, ''), a.grantee = 0, a.privilege_type, a.is_grantable
    FROM pg_class c CROSS JOIN aclexplode(c.relacl) AS a LEFT JOIN pg_roles r ON r.oid = a.grantee
    WHERE c.oid = %s AND a.grantee <> c.relowner AND (a.grantee = 0 OR r.rolname IS NOT NULL)"""

_OWNER = "SELECT r.rolname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE c.oid = %s"


class TableExchange:
    """The exchange of a table for another one in the same schema."""

    def __init__(self, connections: Connections, live: TableName, new: TableName, kept: TableName) -> None:
        self._connections = connections
        self._live = live
        self._new = new
        self._kept = kept

    def problem(self) -> str | None:
        """Return why the exchange cannot be done and what to do, or None if it can be done."""
        return self._connections.run(self._problem)

    def _problem(self, connection: Connection[Any]) -> str | None:
        if self._there(connection, self._kept) is not None:
            return f"table {self._kept} is left over from an earlier switch; drop it first (--drop-old)"
        followed = self._followed(connection)
        if isinstance(followed, str):
            return followed
        found = self._live.find(connection)
        bound: Any = {"oid": found.oid, "columns": [*COLUMNS, *WORDS], "view": followed}
        row = ask(connection, _HANGING, bound).fetchone()
        if row is None:
            return None
        what = f"{row[0]} {row[1]!r}" if row[1] else row[0]
        return f"table {self._live} has {what}, which the new table would lack; remove it first"

    def _followed(self, connection: Connection[Any]) -> int | str:
        """Return the oid of a live sync's view, 0 without a sync, or why the sync prevents the exchange."""
        from harrier_pgvector.dropping import followed
        from harrier_pgvector.sync.exchanging import lag
        from harrier_pgvector.sync.objects import view_of

        source = followed(connection, self._live)
        new = None if self._there(connection, self._new) is None else followed(connection, self._new)
        if source is None and new is None:
            return 0
        if source != new:
            source, table = source or new, self._live if source else self._new
            return (
                f"a live sync of {source} writes to table {table}, but no sync of that source writes to the other "
                f"one; declare one to table {self._new} with the new model, and switch once its workers have caught up"
            )
        if (left := lag(connection, (self._new.schema, self._new.name))) is not None:
            return f"table {self._new} has not caught up: {left}; run a worker with its model, and try again"
        view = view_of((self._live.schema, self._live.name)).as_string(connection).replace("%%", "%")
        [[oid]] = ask(connection, "SELECT coalesce(to_regclass(%s)::oid, 0)", [view]).fetchall()
        return int(oid)

    def share(self) -> None:
        """Give the new table the owner and the grants of the other one, before it is filled."""

        def take(connection: Connection[Any]) -> None:
            with transaction(connection):
                self._take_rights(connection, self._oid(connection, self._live), self._oid(connection, self._new))

        self._connections.run(take, writes=True)

    def differing(self) -> Iterator[list[str]]:
        """Yield the ids of the records whose chunks differ between the two tables."""
        last: str | None = ""
        while last is not None:
            after = last
            page, last = self._connections.run(lambda connection, after=after: self._page(connection, after))  # type: ignore[misc]
            if page:
                yield page

    def _page(self, connection: Connection[Any], after: str) -> tuple[list[str], str | None]:
        """Return which of the next records differ, and the last record that was compared, or None at the end."""
        names = {"live": self._name(self._live), "new": self._name(self._new)}
        ids = sql.SQL(
            "SELECT record_id FROM {live} WHERE number = 0 AND record_id > %s ORDER BY record_id LIMIT 1 OFFSET %s"
        )
        row = ask(connection, ids.format(**names), [after, _PAGE - 1]).fetchone()
        last = None if row is None else str(row[0])
        bounds = sql.SQL("record_id > %s" if last is None else "record_id > %s AND record_id <= %s")
        compare = sql.SQL(
            "SELECT DISTINCT record_id FROM (SELECT record_id, number, hash FROM {live} WHERE {bounds}) AS a "
            "FULL JOIN (SELECT record_id, number, hash FROM {new} WHERE {bounds}) AS b USING (record_id, number) "
            "WHERE a.hash IS DISTINCT FROM b.hash"
        )
        bound = [after] if last is None else [after, last]
        rows = ask(connection, compare.format(**names, bounds=bounds), bound * 2).fetchall()
        return [record_id for (record_id,) in rows], last

    def run(self, old: OpenStore, new: OpenStore, last: Last) -> None:  # noqa: ARG002
        """Keep writers out, call `last`, and exchange the names: all in one transaction, or nothing.

        `last` works in that transaction as well. With other connections it might wait forever: a pool may have only
        one, or have lent all others to the writers that wait here.
        """
        oids = self._connections.run(
            lambda connection: (self._oid(connection, self._live), self._oid(connection, self._new))
        )
        self._connections.run(lambda connection: self._run(connection, oids, last), writes=True)

    def _run(self, connection: Connection[Any], oids: tuple[int, int], last: Last) -> None:
        live, new = oids
        if self._there(connection, self._live) == new and self._there(connection, self._kept) == live:
            return  # the connection was lost after it was done
        with transaction(connection):
            # `last` encodes, and the connection is idle meanwhile.
            connection.execute(f"SET LOCAL lock_timeout = '{_WAIT}'; SET LOCAL idle_in_transaction_session_timeout = 0")
            try:
                connection.execute(sql.SQL(_WRITERS_OUT).format(self._name(self._live)), [])
            except errors.LockNotAvailable:
                raise self._busy("writes to it") from None
            if (problem := self._problem(connection)) is not None:
                raise StoreUnsuitable(problem)
            if (self._oid(connection, self._live), self._oid(connection, self._new)) != oids:
                raise StoreUnavailable(f"table {self._live} or {self._new} was replaced in the meantime; try again")
            with self._holding(connection) as held:
                last(*(OpenTable(held, each, each.look(connection)) for each in (self._live, self._new)))
            self._take_rights(connection, live, new)
            self._rename(connection, views=bool(self._followed(connection)))

    @contextmanager
    def _holding(self, connection: Connection[Any]) -> Iterator[Held]:
        """Run all operations on this connection."""
        held, others = Held(connection), self._connections
        self._connections = held
        try:
            yield held
        finally:
            self._connections = others

    def _rename(self, connection: Connection[Any], *, views: bool) -> None:
        from harrier_pgvector.sync.exchanging import rename_views

        rename = sql.SQL("ALTER TABLE {} RENAME TO {}")
        for _ in range(_TRIES):
            with suppress(errors.LockNotAvailable), transaction(connection):  # a savepoint, whose locks end with it
                connection.execute(f"SET LOCAL lock_timeout = '{_MOMENT}'")
                for each in (self._live, self._new):
                    connection.execute(sql.SQL(_ALL_OUT).format(self._name(each)), [])
                connection.execute(rename.format(self._name(self._live), Name(self._kept.name)), [])
                connection.execute(rename.format(self._name(self._new), Name(self._live.name)), [])
                if views:
                    rename_views(
                        connection, *((each.schema, each.name) for each in (self._live, self._new, self._kept))
                    )
                return
            time.sleep(_PAUSE)
        raise self._busy("reads it")

    def _busy(self, does: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"table {self._live} was not exchanged: a transaction that {does} has been running for a long time; try "
            "again"
        )

    def _take_rights(self, connection: Connection[Any], live: int, new: int) -> None:
        """Give the new table the owner and the grants of the other one, and no others."""
        table = self._name(self._new)
        wanted, found = (ask(connection, _RIGHTS, [oid]).fetchall() for oid in (live, new))
        if set(wanted) == set(found):  # so that a role that is not the owner can continue
            wanted = found = []
        for role, public, _, _ in found:
            connection.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(table, _grantee(role, public=public)), [])
        for role, public, right, grantable in wanted:
            grant = sql.SQL("GRANT {} ON {} TO {}{}").format(
                written(right), table, _grantee(role, public=public),
                sql.SQL(" WITH GRANT OPTION" if grantable else ""),
            )  # fmt: skip
            connection.execute(grant, [])
        [[owner]], [[other]] = (ask(connection, _OWNER, [oid]).fetchall() for oid in (live, new))
        if owner != other:
            connection.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(table, Name(owner)), [])

    def _name(self, table: TableName) -> Name:
        return Name(table.schema, table.name)

    def _oid(self, connection: Connection[Any], table: TableName) -> int:
        return table.find(connection).oid

    def _there(self, connection: Connection[Any], table: TableName) -> int | None:
        with suppress(StoreMissing):
            return self._oid(connection, table)
        return None


def _grantee(role: str, *, public: bool) -> sql.Composable:
    return sql.SQL("PUBLIC") if public else Name(role)
