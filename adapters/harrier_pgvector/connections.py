"""Connections to Postgres: retries while a server is unreachable, and errors that reveal no texts and no passwords."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import Connection, InterfaceError, errors
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolClosed

from harrier_core.errors import SettingError, StoreUnavailable
from harrier_core.retrying import Backoff
from harrier_pgvector.failures import is_lost, is_transient, translate
from harrier_pgvector.pool import Pool
from harrier_pgvector.session import as_ours, autocommitting

T = TypeVar("T")

CLOSED = "this store is closed; create a new one"

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_STANDBY_WAIT = 5.0  # seconds for a standby to become the primary, if no primary was ever seen

# The parts of a connection string that a repr may show. Others may be secrets, or contain one.
_SHOWN = ("user", "host", "hostaddr", "port", "dbname", "service")


class Connections:
    """A pool of our own for a connection string, or one that the caller owns."""

    def __init__(self, place: str | ConnectionPool[Any], retry_for: float) -> None:
        self._conninfo = checked_conninfo(place) if isinstance(place, str) else ""
        self._own: Pool | None = None
        self._theirs = None if isinstance(place, str) else place
        self._retry_for = retry_for
        # The process that owns the connections: none of them survives a fork.
        self._process = os.getpid() if self._theirs is not None and not self._theirs.closed else None
        self._locks: dict[int, threading.Lock] = {}
        self._closed = threading.Event()
        self._seen_writable = False  # whether a server that takes writes was reached before

    def run(self, work: Callable[[Connection[Any]], T], *, writes: bool = False) -> T:
        """Return the result of `work`, which runs again from its beginning if the connection or the server is lost.

        writes: if it succeeds, the server is known to take writes, and later read-only states are waited out.
        """
        begin, backoff = time.monotonic(), Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._check_usable()
        unpaused = self._theirs.max_size if self._theirs else 0
        while True:
            state = _State()
            try:
                with self._connection(begin + self._retry_for) as connection, state.watching(connection):
                    result = work(connection)
                    self._seen_writable = self._seen_writable or writes or _is_writable(connection)
                    return result
            except PoolClosed:
                raise StoreUnavailable(CLOSED) from None
            except (psycopg.Error, InterfaceError) as error:
                if time.monotonic() >= begin + self._patience(error, state):
                    translate(error, sound=state.sound)
                lost = is_lost(error, sound=state.sound)
            if lost and self._own:
                self._own.forget()
            # In a caller's pool, many connections in a row may be lost, and no pause is needed between them.
            unpaused -= 1
            if lost and unpaused >= 0:
                continue
            if self._closed.wait(backoff.pause()):
                raise StoreUnavailable("this store was closed while it waited for the server") from None

    def _patience(self, error: Exception, state: _State) -> float:
        """Return for how many seconds an operation that ends in this error is retried."""
        if isinstance(error, errors.ReadOnlySqlTransaction):
            # A switch-over takes a few seconds. There is no wait for a server or user that may never write.
            return self._retry_for if self._seen_writable else _STANDBY_WAIT * state.standby
        if not is_transient(error, sound=state.sound) or (self._own is not None and not self._own.reached):
            return 0.0
        return self._retry_for

    @property
    def _inherited(self) -> bool:
        """Whether this process was forked from the one that connected."""
        return self._process not in (None, os.getpid())

    @property
    def _lock(self) -> threading.Lock:
        """The lock of this process: the parent's may be held, by a thread that does not exist here."""
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _check_usable(self) -> None:
        if self._inherited:
            raise StoreUnavailable(
                f"{self} was connected before this process was forked; open the store after the fork"
            )
        with self._lock:
            if self._closed.is_set():
                raise StoreUnavailable(CLOSED)
            if self._theirs is None and self._own is None:
                self._own = Pool(self._conninfo)
            if self._process is None:
                self._process = os.getpid()

    @contextmanager
    def _connection(self, until: float) -> Iterator[Connection[Any]]:
        if self._own is not None:
            with self._own.connection(until) as connection:
                yield connection
        elif self._theirs is not None:
            patience = max(1.0, until - time.monotonic())
            with self._theirs.connection(timeout=patience) as connection, autocommitting(connection):
                yield connection

    def close(self) -> None:
        """Close our own connections; a forked process leaves them to the one that made them."""
        if self._inherited:
            return
        self._closed.set()
        with self._lock:
            if self._own is not None:
                self._own.close()

    def __str__(self) -> str:
        if self._theirs is not None:
            return "a pool"
        said = {name: value for name, value in conninfo_to_dict(self._conninfo).items() if name in _SHOWN}
        return repr(" ".join(f"{name}={value}" for name, value in said.items() if value))


class Held(Connections):
    """A connection that another thread uses: all work is part of its transaction, and threads take turns."""

    def __init__(self, connection: Connection[Any]) -> None:
        super().__init__("", 0.0)
        self._lent = connection
        self._turn = threading.RLock()

    def run(self, work: Callable[[Connection[Any]], T], *, writes: bool = False) -> T:  # noqa: ARG002
        """Return the result of `work`. An error is not translated: the owner of the connection decides what to do."""
        with self._turn:
            return work(self._lent)


class _State:
    """The state of a connection when an operation failed."""

    sound = False
    standby = True  # or unknown: servers before 14 do not report it, and some poolers do not pass it on

    @contextmanager
    def watching(self, connection: Connection[Any]) -> Iterator[None]:
        """Use a connection as this package does, and record its state after an error."""
        with as_ours(connection):
            try:
                yield
            except psycopg.Error as error:
                self.sound = not connection.closed
                if self.sound and isinstance(error, errors.ReadOnlySqlTransaction):
                    self.standby = _reported(connection, "in_hot_standby") != "off"
                    connection.close()  # another session may be on another server, or have more privileges
                raise


def _is_writable(connection: Connection[Any]) -> bool:
    """Return whether the server says that it takes writes."""
    return _reported(connection, "in_hot_standby") == _reported(connection, "default_transaction_read_only") == "off"


def _reported(connection: Connection[Any], setting: str) -> str:
    return (connection.pgconn.parameter_status(setting.encode()) or b"").decode()


def checked_conninfo(conninfo: str) -> str:
    """Return it unchanged if libpq can read it; libpq's own error would quote it."""
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        raise SettingError(
            "the connection string is neither a URL, postgresql://user@host/database, nor a list of settings, "
            "host=... dbname=..."  # not shown: it may contain a password
        ) from None
    if not all(each.strip().isdecimal() for each in str(given.get("port") or "").split(",") if each):
        raise SettingError(  # libpq would quote it, although it is part of a password with an unescaped colon or slash
            "the port in the connection string is not a number; in a URL, escape special characters in the password"
        )
    return conninfo
