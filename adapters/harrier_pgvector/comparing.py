"""The records that differ between two tables of chunks: all are compared once, and then those that were changed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, LiteralString

from psycopg import Connection, errors, sql

from harrier_core.errors import StoreError, StoreUnavailable, StoreWarning
from harrier_pgvector.connections import Connections
from harrier_pgvector.noting import Noting
from harrier_pgvector.opening import TableName
from harrier_pgvector.schema import ANY_OF, Name, ids
from harrier_pgvector.session import ask, transaction

# It keeps out writers, but not readers; later writers queue behind it.
WRITERS_OUT: LiteralString = "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE"
WAIT = "10s"  # for current writers
# For current readers. Later readers wait behind a lock on all, so it is requested only for moments, several times.
MOMENT, PAUSE, TRIES = "100ms", 0.2, 5
# If that fails, everything is rolled back, and writers get their turn for as many seconds before the next attempt.
TURN, ATTEMPTS = 1.0, 15

_ENDS = 10  # such requests, once there is nothing to exchange

_PAGE = 5_000  # records that are compared at once
_FEW = 10_000  # differing records after which all are compared again


class Comparison:
    """A comparison of two tables in the same schema."""

    def __init__(self, connections: Connections, live: TableName, new: TableName) -> None:
        self.connections = connections
        self._live = live
        self._new = new
        self._noting: Noting | None = None
        self._oids: list[int] = []
        self.is_known = False  # whether only noted records can differ

    @property
    def is_noting(self) -> bool:
        """Whether changes are noted."""
        return self._noting is not None

    def begin(self) -> None:
        """Note from now on which records change."""
        self._oids = self.connections.run(
            lambda connection: [each.find(connection).oid for each in (self._live, self._new)]
        )
        self._noting, self.is_known = Noting(self._live.schema), False
        self.connections.run(self._begin, writes=True)

    def _begin(self, connection: Connection[Any]) -> None:
        assert self._noting is not None  # noqa: S101  # it was just set
        with transaction(connection):
            if self._noting.is_whole(connection, self._oids):
                return  # the connection was lost after it was done
            self._noting = Noting(self._live.schema)  # the server may have crashed then, and emptied the notes
            connection.execute(f"SET LOCAL lock_timeout = '{WAIT}'")
            self._noting.begin(connection)
            for table in (self._new, self._live):  # while something else holds the new one, others can write
                with self.bounded(table):
                    self._noting.watch(connection, table.name)

    @contextmanager
    def bounded(self, table: TableName) -> Iterator[None]:
        """Raise StoreUnavailable if the table's writers, or those that build its indexes, are in the way for long."""
        try:
            yield
        except errors.LockNotAvailable:
            raise self.busy(f"writes to table {table}, or builds its indexes,") from None

    def busy(self, does: str) -> StoreUnavailable:
        """Return the error for something that was in the way for too long."""
        return StoreUnavailable(
            f"table {self._live} was not exchanged: a transaction that {does} has been running for a long time; try "
            "again"
        )

    def is_stale(self, connection: Connection[Any]) -> bool:
        """Return whether changes are noted, and all records must be compared nevertheless."""
        return self._noting is not None and self._noted(connection)[1] is None

    def renew(self) -> bool:
        """If all records must be compared, note changes again, and return True: nothing can be relied on any more."""
        if not self.connections.run(self.is_stale):
            return False
        self.end()
        self.begin()
        return True

    def end(self) -> None:
        """Note changes no longer, and remove what did so; if readers are in the way for long, let it do nothing."""
        noting, self._noting = self._noting, None
        if noting is None:
            return
        try:
            for _ in range(_ENDS):
                if self.connections.run(partial(self._ended, noting), writes=True):
                    return
                time.sleep(PAUSE)
            self.connections.run(partial(noting.silence, oids=self._oids), writes=True)
        except StoreError as error:
            warnings.warn(
                f"the triggers that note the changes of table {self._live} were not removed, and slow down its "
                f"writers until the next switch: {error}",
                StoreWarning,
                stacklevel=4,
            )

    def _ended(self, noting: Noting, connection: Connection[Any]) -> bool:
        with suppress(errors.LockNotAvailable):
            with transaction(connection):
                connection.execute(f"SET LOCAL lock_timeout = '{MOMENT}'")
                noting.end(connection, self._oids)
            return True
        return False

    def differing(self) -> Iterator[list[str]]:
        """Yield the ids of the records whose chunks differ, some at a time."""
        is_noting, noted = self.connections.run(self._noted)
        if noted is None:
            yield from self._among_all(is_noting=is_noting)
            return
        for begin in range(0, len(noted), _PAGE):
            some = noted[begin : begin + _PAGE]
            if page := self.connections.run(lambda connection, some=some: self._among(connection, some)):  # type: ignore[misc]
                yield page

    def _noted(self, connection: Connection[Any]) -> tuple[bool, list[str] | None]:
        """Return whether changes are noted, and the records to compare; None if all must be compared."""
        if self._noting is None or not self._noting.is_whole(connection, self._oids):
            return False, None  # someone has removed or disabled a trigger
        return True, self._noting.noted(connection) if self.is_known else None

    def _among_all(self, *, is_noting: bool) -> Iterator[list[str]]:
        self.is_known = False
        noting = self._noting if is_noting else None
        if noting:
            self.connections.run(noting.clear, writes=True)  # all of it was committed before, and is compared below
        number = 0
        last: str | None = ""
        while last is not None:
            after = last
            page, last = self.connections.run(lambda connection, after=after: self._page(connection, after))  # type: ignore[misc]
            number += len(page)
            if noting and page and number <= _FEW:
                self.connections.run(partial(noting.add, record_ids=page), writes=True)
            if page:
                yield page
        self.is_known = noting is not None and number <= _FEW

    def _page(self, connection: Connection[Any], after: str) -> tuple[list[str], str | None]:
        """Return which of the next records differ, and the last record that was compared, or None at the end."""
        query = "SELECT record_id FROM {live} WHERE number = 0 AND record_id > %s ORDER BY record_id LIMIT 1 OFFSET %s"
        row = ask(connection, sql.SQL(query).format(live=self._name(self._live)), [after, _PAGE - 1]).fetchone()
        last = None if row is None else str(row[0])
        bounds = sql.SQL("record_id > %s" if last is None else "record_id > %s AND record_id <= %s")
        return self._differing(connection, bounds, [after] if last is None else [after, last]), last

    def _among(self, connection: Connection[Any], record_ids: list[str]) -> list[str]:
        """Return which of these records differ."""
        return self._differing(connection, sql.SQL("record_id = {}").format(ANY_OF), [ids(record_ids)])

    def _differing(self, connection: Connection[Any], which: sql.Composable, bound: list[str]) -> list[str]:
        compare = sql.SQL(
            "SELECT DISTINCT record_id FROM (SELECT record_id, number, hash FROM {live} WHERE {which}) AS a "
            "FULL JOIN (SELECT record_id, number, hash FROM {new} WHERE {which}) AS b USING (record_id, number) "
            "WHERE a.hash IS DISTINCT FROM b.hash"
        ).format(live=self._name(self._live), new=self._name(self._new), which=which)
        return [record_id for (record_id,) in ask(connection, compare, bound * 2).fetchall()]

    def _name(self, table: TableName) -> Name:
        return Name(table.schema, table.name)
