"""Our own connections: opened by the threads that need them, and never waited for without a limit.

psycopg's pool opens connections in the background, and waits longer after each failure: after a restart of the server a
caller has to wait for that, and the reason for a failure appears only in the log. Here each caller opens its own.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg import Connection, OperationalError
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.waiting import WAIT_R, WAIT_W
from psycopg_pool import PoolClosed, PoolTimeout

from harrier_pgvector.session import ask

T = TypeVar("T")

_MOST = 10  # connections; Postgres has a hundred by default, for all clients
_IDLE = 600.0  # seconds after which an unused connection is closed when the next one is requested
_OLD = 3600.0  # seconds after which a connection is not reused, so that changes of names and privileges take effect

_LONGEST_CONNECT = 10  # seconds for one host, so that another attempt is possible within a minute
_LEAST_WAIT = 2.0  # seconds; libpq treats a connect_timeout of 1 as 2
_PROBE_WAIT = 5.0
# Messages of a server that is there, but has no room for another client: in English if its lc_messages is.
_FULL = ("too many connections for", "too many clients already", "remaining connection slots are reserved")

# A peer that vanishes silently is noticed after half a minute or a minute, not after hours.
_SETTINGS = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
    "fallback_application_name": "harrier-kit",
}


class Patient(Connection[Any]):
    """A connection that waits for an answer as long as the server works on it, but no longer."""

    patience = _PROBE_WAIT  # seconds of silence after which to check whether the server works on an answer
    still_works: Callable[[Patient], bool] | None = None  # checks that

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:  # noqa: ANN401
        """Wait as psycopg does, and watch the time."""
        return super().wait(self._watched(gen), *args, **options)

    def _watched(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        silent_since, suspected = time.monotonic(), False
        try:
            state = next(gen)
            while True:
                ready = yield state  # also after each tenth of a second, which some psycopg releases take for an answer
                if ready and self._is_ready(state):
                    silent_since, suspected = time.monotonic(), False
                elif suspected:  # and the answer did not arrive during the check
                    self._give_up(time.monotonic() - silent_since)
                elif time.monotonic() - silent_since > self.patience:
                    suspected = self.still_works is None or not self.still_works(self)
                    silent_since = silent_since if suspected else time.monotonic()
                state = gen.send(ready)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def _is_ready(self, state: int) -> bool:
        """Return whether the socket is ready to read or write, as psycopg requested."""
        if not hasattr(select, "poll"):  # on Windows
            return True
        wanted = (state & WAIT_R, select.POLLIN), (state & WAIT_W, select.POLLOUT)
        poll = select.poll()
        poll.register(self.fileno(), sum(event for waits, event in wanted if waits))
        return bool(poll.poll(0))

    def _give_up(self, silent: float) -> None:
        self.close()
        raise OperationalError(f"the server did not answer for {silent:.0f} seconds")


class Pool:
    """A limited number of connections for one connection string. Any number of threads may request one."""

    def __init__(self, conninfo: str) -> None:
        self._connector = _Connector(conninfo)
        self._free = threading.Semaphore(_MOST)
        self._lock = threading.Lock()
        self._idle: list[tuple[float, float, Patient]] = []  # idle since, opened at
        self._closed = False

    @property
    def reached(self) -> bool:
        """Whether a server has ever answered."""
        return self._connector.reached

    @contextmanager
    def connection(self, until: float) -> Iterator[Patient]:
        """Yield a connection for exclusive use, waiting for it until a time of the monotonic clock."""
        if not self._free.acquire(timeout=max(_LEAST_WAIT, until - time.monotonic())):
            raise PoolTimeout(f"all {_MOST} connections are in use")
        try:
            made, connection = self._take() or (time.monotonic(), self._connector.connect(until - time.monotonic()))
            connection.patience = max(_LEAST_WAIT, (until - time.monotonic()) / 2)  # leaves time for another attempt
            try:
                yield connection
            finally:
                self._put_back(made, connection)
        finally:
            self._free.release()

    def forget(self) -> None:
        """Close the idle connections: one was lost, and the others probably are, too."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, _, connection in idle:
            connection.close()

    def close(self) -> None:
        """Close all connections, those in use as soon as they are returned."""
        self._closed = True
        self.forget()

    def _take(self) -> tuple[float, Patient] | None:
        now = time.monotonic()
        with self._lock:
            if self._closed:
                raise PoolClosed("the pool is closed")
            old = [each for each in self._idle if now - each[0] > _IDLE or now - each[1] > _OLD]
            self._idle = [each for each in self._idle if each not in old]
            taken = self._idle.pop() if self._idle else None
        for _, _, connection in old:
            connection.close()
        return taken[1:] if taken else None

    def _put_back(self, made: float, connection: Patient) -> None:
        if connection.info.transaction_status != TransactionStatus.IDLE:
            connection.close()
        with self._lock:
            if not connection.closed and not self._closed:
                self._idle.append((time.monotonic(), made, connection))
                return
        connection.close()

    def __del__(self) -> None:
        """Close the connections of a store that was never closed."""
        self.close()


class _Connector:
    """Makes connections. It keeps no reference to them, so that a pool that is no longer used is collected at once."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        given = conninfo_to_dict(conninfo)
        self._settings: dict[str, Any] = {name: value for name, value in _SETTINGS.items() if name not in given}
        self._hosts = str(given.get("host") or os.environ.get("PGHOST") or "").count(",") + 1
        self._bounded = "connect_timeout" in given or "PGCONNECT_TIMEOUT" in os.environ  # by the user's own setting
        self.reached = False

    def connect(self, seconds: float) -> Patient:
        """Open a connection, within about the given number of seconds."""
        settings = dict(self._settings)
        if not self._bounded:
            settings["connect_timeout"] = round(min(_LONGEST_CONNECT, max(_LEAST_WAIT, seconds / self._hosts)))
        # Without prepared statements, because a pooler between us and the server may not support them.
        connection = Patient.connect(
            self._conninfo, autocommit=True, prepare_threshold=None, client_encoding="utf8", **settings
        )
        connection.still_works = self.still_works
        self.reached = True
        return connection

    def still_works(self, silent: Patient) -> bool:
        """Ask on another connection whether the server is alive, and not waiting for us while we wait for it.

        A pooler or another address between us and the server hides which session is ours; then any answer will do.
        """
        query = "SELECT state FROM pg_stat_activity WHERE pid = %s AND client_port = %s"
        try:
            with self.connect(_PROBE_WAIT) as probe:
                probe.patience, probe.still_works = _PROBE_WAIT, None
                row = ask(probe, query, [silent.info.backend_pid, _port_of(silent)]).fetchone()
        except psycopg.Error as error:  # the driver reports no state for a failed connection attempt
            return any(each in str(error) for each in _FULL)
        return row is None or not str(row[0]).startswith("idle")


def _port_of(connection: Connection[Any]) -> int:
    """Return the port that the server sees, which is -1 for a Unix socket."""
    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as own:
        if own.family in (socket.AF_INET, socket.AF_INET6):
            return int(own.getsockname()[1])
    return -1
