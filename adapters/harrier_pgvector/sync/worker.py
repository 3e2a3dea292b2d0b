"""A worker: it keeps all declared tables of a database in sync with their sources, forever."""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from psycopg import Connection

from harrier_core.embedder import Embedder
from harrier_core.errors import EncoderClosed, HarrierError, SettingError, StoreUnavailable
from harrier_core.retrying import Backoff
from harrier_pgvector.connections import Connections
from harrier_pgvector.sync import catalog
from harrier_pgvector.sync.session import named_conninfo, of_primary, run
from harrier_pgvector.sync.signals import FIRST_PAUSE, LONGEST_PAUSE, Listener, Signal
from harrier_pgvector.sync.tables import Tables

log = logging.getLogger(__name__)

# Two lanes: while one waits for the model, the other reads, writes and leases.
_LANES = 2
_SEEN = 30.0  # seconds after which a worker reports again that it is alive
_OTHER_LOOKS = 300.0  # seconds for which an idle lane relies on the other one
_PATIENT = 6  # the factor by which looks are less frequent if every change is announced
_PATIENCE = 20.0  # seconds that one statement waits for a server, before the lane reports it and begins again


class SyncWorker:
    """Embeds what changes, once, in all declared tables of a database with vectors of the encoder's space.

    Any number of workers, on any number of machines, may run at once. A worker needs neither a declared table nor a
    running server to start: it waits for both.
    """

    def __init__(
        self, place: str, encoder: Embedder, *, lease: float = 60.0, poll: float = 5.0, trust: Collection[str] = ()
    ) -> None:
        """Take the settings; nothing is connected yet. `place` is a connection string.

        lease: seconds after which the rows of a dead worker become available to others; a live one extends its leases.
        poll: seconds between two looks for unannounced changes, which one statement finds for all tables. If every
        table announces its changes, and the worker hears them, it looks a sixth as often. trust: roles whose tables the
        worker may work for. Their SQL code runs with its rights: functions, triggers and index expressions. Its own
        role and superusers need not be named.
        """
        if lease <= 0 or poll <= 0:
            raise SettingError("lease and poll must be positive numbers of seconds")
        conninfo = of_primary(named_conninfo(place))
        self._connections = Connections(conninfo, _PATIENCE)
        self._tables = Tables(self._connections, encoder, lease, frozenset(trust))
        self._lease = lease
        self._poll = poll
        self._ran = False
        self._id = uuid.uuid4()  # renewed when it runs, perhaps in several forks of the process that made it
        self._stopping = threading.Event()
        self._signal = Signal()
        self._listener = Listener(conninfo, self._connections, self._signal, self._stopping)
        self._looking = threading.Lock()  # held by the lane that looks for what is due, while both are idle
        self._error: Exception | None = None

    # -- for callers

    def run(self) -> None:
        """Work until `stop` is called. If the server goes away, wait for it."""
        self._run_lanes(until_empty=False)

    def drain(self) -> None:
        """Work until nothing is left that can be done: for a nightly run, and for tests.

        A server that stays away is an error, and a table for which nothing can be done is left alone: see `troubles`.
        """
        self._run_lanes(until_empty=True)

    def stop(self) -> None:
        """Have `run` and `drain` return once the batches in progress are written. A signal handler may call it."""
        self._stopping.set()
        self._signal.set()
        self._tables.any_declared.set()  # otherwise no one would wake the thread that extends leases

    @property
    def name(self) -> str:
        """Where it runs, for people who look at the table of workers."""
        return f"{socket.gethostname()}, process {os.getpid()}"

    @property
    def troubles(self) -> dict[str, str]:
        """The names of the tables for which nothing can be done, with the reasons."""
        return self._tables.troubles()

    # -- lanes

    def _run_lanes(self, *, until_empty: bool) -> None:
        if self._ran:
            raise SettingError("a worker runs only once; create a new one")
        self._ran = True
        self._id = uuid.uuid4()
        lanes = [threading.Thread(target=self._lane, args=[until_empty], name="harrier-sync") for _ in range(_LANES)]
        with ExitStack() as background:
            background.enter_context(_in_background(self._keep))
            if not until_empty:
                background.enter_context(_in_background(lambda: self._listener.run(self._id)))
            try:
                for lane in lanes:
                    lane.start()
                for lane in lanes:
                    lane.join()
            finally:  # including Ctrl-C
                self.stop()
                for lane in lanes:
                    lane.join()
        with suppress(HarrierError):
            if self._tables.known and not isinstance(self._error, StoreUnavailable):
                run(self._connections, lambda connection: catalog.delete_worker(connection, self._id))
        self._connections.close()
        if self._error:
            raise self._error

    def _lane(self, until_empty: bool) -> None:
        backoff, failing_since = Backoff(FIRST_PAUSE, LONGEST_PAUSE), None
        while not self._stopping.is_set():
            seen, begin = self._signal.count, time.monotonic()
            try:
                self._tables.is_busy = self._round()
                if not self._tables.is_busy:
                    if until_empty and not self._tables.left():
                        self._signal.set()  # so that the other lane sees it at once
                        return
                    self._idle(seen, until_empty=until_empty)
            except EncoderClosed as error:
                self._error = error
                self.stop()
            except Exception as error:  # such as a server that is away: retried forever, or for as long as we may
                failing_since = failing_since or begin
                if until_empty and time.monotonic() >= failing_since + _PATIENCE:
                    self._error = self._error or error
                    self.stop()
                    return
                log.warning("harrier sync: %s; trying again", error if isinstance(error, HarrierError) else type(error))
                self._stopping.wait(backoff.pause())
            else:
                backoff.reset()
                failing_since = None

    def _round(self) -> bool:
        """Do one step on every table, so that none waits for another to finish; return whether any did something."""
        busy = False
        for table in self._tables.due():
            if self._stopping.is_set():
                return True
            before = table.trouble
            busy = table.step() or busy
            if table.trouble and table.trouble != before:
                log.warning("harrier sync: table %s: %s", table.declaration.name, table.trouble)
        return busy

    def _idle(self, seen: int, *, until_empty: bool) -> None:
        """Wait for a signal; one of the lanes meanwhile checks whether there is anything to do, and wakes the other."""
        if not self._looking.acquire(blocking=False):
            # The other lane may have begun to wait before this one knew of a pause.
            self._signal.wait(seen, max(FIRST_PAUSE, min(_OTHER_LOOKS, self._tables.waits())))
            return
        try:
            while not self._signal.wait(seen, self._interval()):
                if until_empty or self._tables.due():
                    self._signal.set()
        finally:
            self._looking.release()

    def _interval(self) -> float:
        """Return the seconds until the next check for something to do."""
        announced = self._listener.is_heard and self._tables.all_announced()
        seconds = self._poll * (_PATIENT if announced else 1) * random.uniform(0.75, 1.0)
        return max(FIRST_PAUSE, min(seconds, self._tables.waits()))

    # -- in the background

    def _keep(self) -> None:
        """Extend leases, and report that this worker is alive."""
        told = -_SEEN
        self._tables.any_declared.wait()
        while True:
            try:
                for table in self._tables.known:
                    table.extend()
                if self._tables.known and time.monotonic() >= told + _SEEN:
                    self._connections.run(self._report)
                    told = time.monotonic()
            except Exception as error:  # retried next time, or else the lease expires
                log.debug("harrier sync: cannot extend leases: %s", type(error).__name__)
            if self._stopping.wait(min(self._lease / 4, _SEEN)):
                return

    def _report(self, connection: Connection[Any]) -> None:
        rates, errors = self._tables.rates(), self._tables.lasting_errors()
        catalog.set_worker(connection, self._id, self.name, rates, errors)


@contextmanager
def _in_background(target: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=target, name="harrier-sync-background", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
