"""A worker: it keeps all declared tables of a database in step with their sources, for ever."""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.types.json import Jsonb

from harrier_core.errors import EncoderClosed, HarrierError, SettingError, StoreUnavailable
from harrier_pgvector.connections import Connections
from harrier_pgvector.sync.declaration import THERE, Declaration, declarations
from harrier_pgvector.sync.objects import CHANNEL
from harrier_pgvector.sync.work import SyncEncoder, Work

log = logging.getLogger(__name__)

# Two lanes: while one waits for the model, the other reads, writes and leases.
_LANES = 2
_REFRESHED = 5.0  # seconds between two looks at what is declared
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0  # between two attempts to reach a server
_PATIENCE = 20.0  # seconds that one statement waits for a server, before the lane says so and begins anew


class SyncWorker:
    """Embeds what changes, in every declared table of a database that holds vectors of the encoder's space; once.

    Any number of workers, on any number of machines, may run at once. A worker needs no table to be declared yet, and
    no server to be there: it waits for both.
    """

    def __init__(self, place: str, encoder: SyncEncoder, *, lease: float = 60.0, poll: float = 5.0) -> None:
        """Nothing is connected to yet. `place` is a connection string.

        lease: seconds after which the rows of a worker that died are another's; one that lives extends its own. poll:
        how often it looks for changes that nobody announced, for a NOTIFY may be lost, or not wanted.
        """
        if lease <= 0 or poll <= 0:
            raise SettingError("lease and poll are seconds, more than none")
        self._conninfo = place
        self._connections = Connections(place, _PATIENCE)
        self._encoder = encoder
        self._lease = lease
        self._poll = poll
        self._ran = False
        self._id: uuid.UUID | None = None  # of the process that runs it, which may be a fork of the one that made it
        self._stopping = threading.Event()
        self._signal = _Signal()
        self._lock = threading.Lock()
        self._works: dict[int, Work] = {}
        self._refreshed = -_REFRESHED
        self._error: Exception | None = None

    # -- what a caller does

    def run(self) -> None:
        """Work until `stop` is called; a server that goes away is waited for."""
        self._work(until_empty=False)

    def drain(self) -> None:
        """Work until nothing is left that can be done: for a nightly run, and for tests.

        A server that stays away is an error, and a table of which nothing can be done is left alone: see `troubles`.
        """
        self._work(until_empty=True)

    def stop(self) -> None:
        """Have `run` and `drain` return when the batches in hand are written. It may be called by a signal handler."""
        self._stopping.set()
        self._signal.set()

    @property
    def name(self) -> str:
        """Where it runs, for those who look at the table of workers."""
        return f"{socket.gethostname()}, process {os.getpid()}"

    @property
    def troubles(self) -> dict[str, str]:
        """Of which tables nothing can be done, and why."""
        with self._lock:
            works = list(self._works.values())
        return {work.declaration.name: work.trouble for work in works if work.trouble}

    # -- lanes

    def _work(self, *, until_empty: bool) -> None:
        if self._ran:
            raise SettingError("a worker runs once; make another one")
        self._ran = True
        self._id = uuid.uuid4()
        lanes = [threading.Thread(target=self._lane, args=[until_empty], name="harrier-sync") for _ in range(_LANES)]
        with ExitStack() as background:
            background.enter_context(self._in_background(self._keep))
            if not until_empty:
                background.enter_context(self._in_background(self._listen))
            try:
                for lane in lanes:
                    lane.start()
                for lane in lanes:
                    lane.join()
            finally:  # Ctrl-C included
                self.stop()
                for lane in lanes:
                    lane.join()
        with suppress(HarrierError):
            if not isinstance(self._error, StoreUnavailable):
                self._connections.run(lambda c: c.execute("DELETE FROM harrier_sync.workers WHERE id = %s", [self._id]))
        self._connections.close()
        if self._error:
            raise self._error

    def _lane(self, until_empty: bool) -> None:
        pause, failing_since = _FIRST_PAUSE, None
        while not self._stopping.is_set():
            seen, begin = self._signal.count, time.monotonic()
            try:
                busy = self._round()
                if not busy and until_empty and not self._left():
                    self._signal.set()  # the other lane need not wait to see it
                    return
            except EncoderClosed as error:
                self._error = error
                self.stop()
            except Exception as error:  # a server that is away, and whatever else: for ever, or for as long as we may
                failing_since = failing_since or begin
                if until_empty and time.monotonic() >= failing_since + _PATIENCE:
                    self._error = self._error or error
                    self.stop()
                    return
                log.warning("harrier sync: %s; trying again", error if isinstance(error, HarrierError) else type(error))
                self._stopping.wait(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause, failing_since = _FIRST_PAUSE, None
                if not busy:
                    self._signal.wait(seen, self._poll * random.uniform(0.5, 1.0))

    def _round(self) -> bool:
        """One step of every table, so that none waits for another's end; whether any had something to do."""
        busy = False
        for work in self._all():
            if self._stopping.is_set():
                return True
            before = work.trouble
            busy = work.step() or busy
            if work.trouble and work.trouble != before:
                log.warning("harrier sync: table %s: %s", work.declaration.name, work.trouble)
        return busy

    def _left(self) -> bool:
        return any(work.left() for work in self._all())

    def _all(self) -> list[Work]:
        """The declared tables, as they stand now."""
        with self._lock:
            if time.monotonic() >= self._refreshed + _REFRESHED:
                found = self._connections.run(declarations)
                self._works = {each.number: self._works.get(each.number) or self._new(each) for each in found}
                for each in found:
                    self._works[each.number].declaration = each
                self._refreshed = time.monotonic()
            return list(self._works.values())

    def _new(self, declaration: Declaration) -> Work:
        return Work(declaration, self._connections, self._encoder, self._lease)

    # -- in the background

    @contextmanager
    def _in_background(self, target: Callable[[], None]) -> Iterator[None]:
        thread = threading.Thread(target=target, name="harrier-sync-background", daemon=True)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def _listen(self) -> None:
        """Wake the lanes when somebody says that there is something to do."""
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                with psycopg.connect(self._conninfo, autocommit=True) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    self._signal.set()  # what was announced while nobody listened
                    pause = _FIRST_PAUSE
                    while not self._stopping.is_set():
                        for _ in connection.notifies(timeout=0.5, stop_after=1):
                            self._signal.set()
            except psycopg.Error:
                self._stopping.wait(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _keep(self) -> None:
        """Extend leases, and tell that this worker lives."""
        while True:
            try:
                for work in list(self._works.values()):
                    work.extend()
                self._connections.run(self._tell)
            except Exception as error:  # the next time, or the lease ends
                log.debug("harrier sync: cannot extend leases: %s", type(error).__name__)
            if self._stopping.wait(self._lease / 4):
                return

    def _tell(self, connection: Connection[Any]) -> None:
        if connection.execute(THERE).fetchone() != (True,):
            return
        rates = {str(number): work.rate() for number, work in list(self._works.items())}
        upsert = (
            "INSERT INTO harrier_sync.workers (id, name, seen_at, rates) VALUES (%s, %s, now(), %s) "
            "ON CONFLICT (id) DO UPDATE SET seen_at = now(), rates = excluded.rates"
        )
        connection.execute(upsert, [self._id, self.name, Jsonb(rates)])
        connection.execute("DELETE FROM harrier_sync.workers WHERE seen_at < now() - interval '1 day'")


class _Signal:
    """Wakes whoever waits; what was set before a wait began is not missed, for it is counted."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.count = 0

    def set(self) -> None:
        with self._condition:
            self.count += 1
            self._condition.notify_all()

    def wait(self, seen: int, seconds: float) -> None:
        """Until it is set again, or for so many seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self.count != seen, seconds)
