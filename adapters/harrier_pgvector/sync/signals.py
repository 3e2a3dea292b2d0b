"""A signal that wakes the lanes of a worker, and a listener that hears when the database announces a change."""

from __future__ import annotations

import os
import threading
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from harrier_core.errors import HarrierError
from harrier_core.retrying import Backoff
from harrier_pgvector.connections import Connections
from harrier_pgvector.sync.catalog import CHANNEL

_ECHO = "harrier_sync_echo"  # what a worker sends itself, to find out whether it hears announcements
_CONNECT = 10  # seconds for the connection that listens
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds between two attempts to reach a server


class Signal:
    """Wakes all waiters. Signals are counted, so one that was set before a wait began is not missed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.count = 0

    def set(self) -> None:
        """Wake all waiters."""
        with self._condition:
            self.count += 1
            self._condition.notify_all()

    def wait(self, seen: int, seconds: float) -> bool:
        """Wait until it is set again, or for the given number of seconds; return whether it was set."""
        with self._condition:
            return self._condition.wait_for(lambda: self.count != seen, seconds)


class Listener:
    """Sets a signal when a change is announced, using its own connection, until it is stopped."""

    def __init__(self, conninfo: str, connections: Connections, signal: Signal, stopping: threading.Event) -> None:
        self.is_heard = False  # whether announcements arrive
        self._conninfo = conninfo
        self._connections = connections
        self._signal = signal
        self._stopping = stopping

    def run(self, worker: UUID) -> None:
        """Listen until the worker is stopped, whatever happens to the server."""
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while not self._stopping.is_set():
            try:
                with psycopg.connect(_bounded(self._conninfo), autocommit=True) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    connection.execute(f"LISTEN {_ECHO}")
                    self._signal.set()  # for announcements made while no one listened
                    self._connections.run(lambda other: _echo(other, worker))
                    backoff.reset()
                    self._hear(connection, worker)
            except (psycopg.Error, HarrierError):
                self._stopping.wait(backoff.pause())
            finally:
                self.is_heard = False

    def _hear(self, connection: Connection[Any], worker: UUID) -> None:
        while not self._stopping.is_set():
            for heard in connection.notifies(timeout=0.5, stop_after=1):
                if heard.channel == CHANNEL:
                    self._signal.set()
                elif heard.payload == str(worker):
                    self.is_heard = True


def _echo(connection: Connection[Any], worker: UUID) -> None:
    """Announce this worker to itself: a pooler may accept LISTEN and deliver nothing."""
    query = "SELECT pg_catalog.pg_notify(%s::pg_catalog.text, %s::pg_catalog.text)"
    connection.execute(query, [_ECHO, str(worker)])


def _bounded(conninfo: str) -> str:
    """Return a connection string that does not wait much longer for a silent server once the worker is stopped."""
    given = conninfo_to_dict(conninfo)
    if "connect_timeout" in given or "PGCONNECT_TIMEOUT" in os.environ:
        return conninfo
    return make_conninfo(conninfo, connect_timeout=_CONNECT)
