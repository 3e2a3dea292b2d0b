"""Connections to Postgres: a pool, patience while a server is away, errors that tell no text and no password."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import psycopg
from psycopg import Connection, Cursor, InterfaceError, OperationalError, capabilities, errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import PipelineStatus
from psycopg.rows import tuple_row
from psycopg_pool import ConnectionPool, PoolClosed

from harrier_core.errors import SettingError, StoreError, StoreFull, StoreUnavailable, StoreUnsuitable

T = TypeVar("T")

# What passes by itself: a restart, a fail-over, too many guests, two writers in each other's way.
_PASSING = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.TooManyConnections,
    errors.DeadlockDetected,
    errors.SerializationFailure,
)
_CONNECTION = "08"  # the class of states that mean a lost connection; one that was never made has no state
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_MOST = 10  # connections; Postgres has a hundred by default, for everybody


class Connections:
    """A pool of our own to a connection string, or somebody else's."""

    def __init__(self, place: str | ConnectionPool[Any], retry_for: float) -> None:
        self._conninfo = checked_conninfo(place) if isinstance(place, str) else ""
        self._pool: ConnectionPool[Any] | None = None if isinstance(place, str) else place
        self._own = isinstance(place, str)
        self._retry_for = retry_for
        # Whose the pool's connections and threads are: none of them survives a fork.
        self._process = os.getpid() if self._pool is not None and not self._pool.closed else None
        self._locks: dict[int, threading.Lock] = {}
        self._closed = threading.Event()

    def run(self, work: Callable[[Connection[Any]], T]) -> T:
        """What `work` returns; it runs again, from its beginning, if the connection was lost or the server is away."""
        until, pause = time.monotonic() + self._retry_for, _FIRST_PAUSE
        pool = self._connected()
        while True:
            sound = False
            try:
                with pool.connection(timeout=max(1.0, until - time.monotonic())) as connection, as_ours(connection):
                    try:
                        return work(connection)
                    except psycopg.Error:
                        sound = not connection.closed
                        raise
            except PoolClosed:
                raise StoreUnavailable("this store is closed; make another one") from None
            except (psycopg.Error, InterfaceError) as error:
                if not _passes(error, sound=sound) or time.monotonic() >= until:
                    _translate(error, sound=sound)
            # With a part of chance, so that those who were in each other's way are not so again.
            if self._closed.wait(pause * random.uniform(0.5, 1.0)):
                raise StoreUnavailable("this store was closed while it waited for its server") from None
            pause = min(2 * pause, _LONGEST_PAUSE)

    @property
    def _inherited(self) -> bool:
        """Whether this process was forked from the one that connected."""
        return self._process not in (None, os.getpid())

    @property
    def _lock(self) -> threading.Lock:
        """Of each process its own: that of a parent may be held, by a thread that is not here."""
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _connected(self) -> ConnectionPool[Any]:
        if self._inherited:
            raise StoreUnavailable(f"{self} was connected before this process was forked; open the store after it")
        with self._lock:
            if self._closed.is_set():
                raise StoreUnavailable("this store is closed; make another one")
            if self._pool is None:
                # The first one by itself, for its error: a pool would try for half a minute and then not say why.
                try:
                    psycopg.connect(self._conninfo).close()
                except OperationalError as error:
                    _translate(error)
                # Without prepared statements, which a pooler between us and the server may not know.
                settings = {"autocommit": True, "prepare_threshold": None, "client_encoding": "utf8"}
                check = ConnectionPool.check_connection
                self._process = os.getpid()
                self._pool = ConnectionPool(
                    self._conninfo, kwargs=settings, min_size=0, max_size=_MOST, check=check, open=True
                )
            elif self._process is None:
                self._process = os.getpid()
            return self._pool

    def close(self) -> None:
        """Close our own pool; a forked process leaves it to the one that made it."""
        if self._inherited:
            return
        self._closed.set()
        with self._lock:
            if self._own and self._pool is not None:
                self._pool.close()

    def __str__(self) -> str:
        if not self._own:
            return "a pool"
        said = {name: value for name, value in conninfo_to_dict(self._conninfo).items() if name != "password"}
        return repr(" ".join(f"{name}={value}" for name, value in said.items() if value))


@contextmanager
def as_ours(connection: Connection[Any]) -> Iterator[None]:
    """A connection as this package's statements take it; afterwards it is again as its owner made it."""
    if capabilities.has_pipeline() and connection.info.pipeline_status != PipelineStatus.OFF:
        raise SettingError("the connection is in pipeline mode, in which no rows are copied; use it outside of that")
    if connection.info.encoding != "utf-8":  # copied rows are, and Postgres would take them for something else
        raise SettingError(
            f"the connection's client_encoding is {connection.info.encoding}, not utf-8; connect with "
            "client_encoding='utf8'"
        )
    theirs = connection.row_factory, connection.cursor_factory, connection.prepare_threshold
    connection.row_factory, connection.cursor_factory, connection.prepare_threshold = tuple_row, Cursor, None
    try:
        yield
    finally:
        connection.row_factory, connection.cursor_factory, connection.prepare_threshold = theirs


def checked_conninfo(conninfo: str) -> str:
    """The same, if libpq can read it, whose own error would quote it."""
    try:
        conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        raise SettingError(
            "the connection string is neither a URL, postgresql://user@host/database, nor a list of settings, "
            "host=... dbname=..."  # and it may hold a password: it is not shown
        ) from None
    return conninfo


def _passes(error: Exception, *, sound: bool) -> bool:
    """Whether it may pass by itself; what the driver refuses on a sound connection does not."""
    state = getattr(error, "sqlstate", None)
    lost = not sound if state is None else state.startswith(_CONNECTION)
    return (lost and isinstance(error, OperationalError | InterfaceError)) or isinstance(error, _PASSING)


def _translate(error: Exception, *, sound: bool = False) -> NoReturn:
    """The same in our words; the server's own detail may quote a row, and is left out."""
    state = getattr(error, "sqlstate", None)
    said = getattr(getattr(error, "diag", None), "message_primary", None) or str(error).strip().splitlines()[0]
    if isinstance(error, errors.InsufficientPrivilege):
        raise StoreUnsuitable(f"the database user has not the right: {said}; grant it, or use another user") from None
    if isinstance(error, errors.ReadOnlySqlTransaction):
        raise StoreUnsuitable(f"this Postgres, or its user, may only read ({said}); connect to the primary") from None
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn | errors.UndefinedObject):
        raise StoreUnsuitable(f"something is missing in the database: {said}") from None
    if isinstance(error, errors.DiskFull):
        raise StoreFull(
            f"the disk of the Postgres server is full ({said}); make room and run the same again: what is stored stays"
        ) from None
    if _passes(error, sound=sound):
        raise StoreUnavailable(f"Postgres cannot be reached: {said}") from None
    raise StoreError(f"Postgres refused ({state or type(error).__name__}): {said}") from None
