"""A worker: it keeps all declared tables of a database in step with their sources, for ever."""

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

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Jsonb

from harrier_core.embedder import Embedder
from harrier_core.errors import EncoderClosed, HarrierError, SettingError, StoreUnavailable
from harrier_pgvector.connections import Connections
from harrier_pgvector.sync.catalog import CHANNEL
from harrier_pgvector.sync.declaration import Declaration, declarations
from harrier_pgvector.sync.looking import due
from harrier_pgvector.sync.session import named_conninfo, run
from harrier_pgvector.sync.work import Work

log = logging.getLogger(__name__)

# Two lanes: while one waits for the model, the other reads, writes and leases.
_LANES = 2
_REFRESHED = 5.0  # seconds between two looks at what is declared, while something is done
_REFRESHED_IDLE = 30.0  # and while nothing is
_SEEN = 30.0  # seconds after which a worker says again that it is there
_OTHER_LOOKS = 300.0  # seconds for which an idle lane relies on the other one
_PATIENT = 6  # as many times as long as otherwise is waited between two looks, if every change is announced
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0  # between two attempts to reach a server
_CONNECT = 10  # seconds for the connection that listens
_PATIENCE = 20.0  # seconds that one statement waits for a server, before the lane says so and begins anew


# What a worker says to itself, to find out whether it is heard.
_ECHO = "harrier_sync_echo"

# All names are qualified: the statement is not worth a transaction that pins their path.
_TELL = """
    WITH gone AS (
        DELETE FROM harrier_sync.workers AS w WHERE w.seen_at OPERATOR(pg_catalog.<)
            (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::pg_catalog.interval)
    )
    INSERT INTO harrier_sync.workers (id, name, seen_at, rates) VALUES (%s, %s, pg_catalog.now(), %s)
    ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, rates = excluded.rates"""


class SyncWorker:
    """Embeds what changes, in every declared table of a database that holds vectors of the encoder's space; once.

    Any number of workers, on any number of machines, may run at once. A worker needs no table to be declared yet, and
    no server to be there: it waits for both.
    """

    def __init__(
        self, place: str, encoder: Embedder, *, lease: float = 60.0, poll: float = 5.0, trust: Collection[str] = ()
    ) -> None:
        """Nothing is connected to yet. `place` is a connection string.

        lease: seconds after which the rows of a worker that died are another's; one that lives extends its own. poll:
        seconds between two looks for changes that nobody announced, which one statement finds for all tables. Where
        every table announces its changes, and the worker hears of them, it looks a sixth as often. trust: roles whose
        tables the worker may work for. Their SQL code runs with its rights: functions, triggers and index expressions.
        Its own role and superusers need not be named.
        """
        if lease <= 0 or poll <= 0:
            raise SettingError("lease and poll are seconds, more than none")
        self._conninfo = named_conninfo(place)
        self._connections = Connections(self._conninfo, _PATIENCE)
        self._trust = frozenset(trust)
        self._encoder = encoder
        self._lease = lease
        self._poll = poll
        self._ran = False
        self._id: uuid.UUID | None = None  # of the process that runs it, which may be a fork of the one that made it
        self._stopping = threading.Event()
        self._signal = _Signal()
        self._any = threading.Event()  # something is declared, or was
        self._lock = threading.Lock()
        self._works: dict[int, Work] = {}
        self._refreshed = -_REFRESHED_IDLE
        self._busy = False  # whether there was something to do, when it was looked last
        self._listening = False  # and is heard
        self._looking = threading.Lock()  # of the lane that looks for what is due, while both are idle
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
        self._any.set()

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
            if self._works and not isinstance(self._error, StoreUnavailable):
                forget = "DELETE FROM harrier_sync.workers WHERE id = %s"
                run(self._connections, lambda c: c.execute(forget, [self._id]))
        self._connections.close()
        if self._error:
            raise self._error

    def _lane(self, until_empty: bool) -> None:
        pause, failing_since = _FIRST_PAUSE, None
        while not self._stopping.is_set():
            seen, begin = self._signal.count, time.monotonic()
            try:
                self._busy = self._round()
                if not self._busy:
                    if until_empty and not self._left():
                        self._signal.set()  # the other lane need not wait to see it
                        return
                    self._idle(seen, until_empty=until_empty)
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

    def _round(self) -> bool:
        """One step of every table, so that none waits for another's end; whether any had something to do."""
        busy = False
        for work in self._due():
            if self._stopping.is_set():
                return True
            before = work.trouble
            busy = work.step() or busy
            if work.trouble and work.trouble != before:
                log.warning("harrier sync: table %s: %s", work.declaration.name, work.trouble)
        return busy

    def _idle(self, seen: int, *, until_empty: bool) -> None:
        """Wait for a signal; one of the lanes looks meanwhile whether there is anything to do, and wakes the other."""
        if not self._looking.acquire(blocking=False):
            self._signal.wait(seen, _OTHER_LOOKS)
            return
        try:
            while not self._signal.wait(seen, self._interval()):
                if until_empty or self._due():
                    self._signal.set()
        finally:
            self._looking.release()

    def _interval(self) -> float:
        """Seconds until it is looked whether anything is to be done."""
        with self._lock:
            works = list(self._works.values())
        announced = self._listening and all(work.declaration.notify for work in works)
        seconds = self._poll * (_PATIENT if announced else 1) * random.uniform(0.75, 1.0)
        return max(_FIRST_PAUSE, min([seconds, *(work.waits() for work in works)]))

    def _left(self) -> bool:
        return any(work.left() for work in self._refresh())

    def _due(self) -> list[Work]:
        """The declared tables of which there may be something to do."""
        works = self._refresh(now=not self._works)
        if not works:
            return []
        # Of a table that is in trouble its own steps tell, at their time; it must not keep this from the others.
        asked = [work.declaration.number for work in works if not work.trouble]
        try:
            found = self._connections.run(lambda connection: due(connection, asked))
        except StoreUnavailable:
            raise
        except HarrierError:  # a table was dropped, or a right is missing: its step says so
            return self._refresh(now=True)
        if {each.number: each.state for each in found} != {
            work.declaration.number: work.declaration.state for work in works
        }:
            works = self._refresh(now=True)
        seconds = {each.number: each.seconds for each in found}
        for work in works:
            work.expect(seconds.get(work.declaration.number))
        return [work for work in works if work.wants()]

    def _refresh(self, *, now: bool = False) -> list[Work]:
        """The declared tables, as they stand now or a moment ago."""
        with self._lock:
            if now or time.monotonic() >= self._refreshed + (_REFRESHED if self._busy else _REFRESHED_IDLE):
                found = run(self._connections, lambda connection: declarations(connection, self._trust))
                self._works = {each.number: self._works.get(each.number) or self._new(each) for each in found}
                for each in found:
                    self._works[each.number].declaration = each
                self._refreshed = time.monotonic()
                if found:
                    self._any.set()
            return list(self._works.values())

    def _new(self, declaration: Declaration) -> Work:
        return Work(declaration, self._connections, self._encoder, self._lease, self._trust)

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
                with psycopg.connect(_bounded(self._conninfo), autocommit=True) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    connection.execute(f"LISTEN {_ECHO}")
                    self._signal.set()  # what was announced while nobody listened
                    self._connections.run(self._call)
                    pause = _FIRST_PAUSE
                    self._hear(connection)
            except (psycopg.Error, HarrierError):
                self._stopping.wait(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_PAUSE)
            finally:
                self._listening = False

    def _call(self, connection: Connection[Any]) -> None:
        """A pooler may accept LISTEN and deliver nothing: only what is heard tells."""
        query = "SELECT pg_catalog.pg_notify(%s::pg_catalog.text, %s::pg_catalog.text)"
        connection.execute(query, [_ECHO, str(self._id)])

    def _hear(self, connection: Connection[Any]) -> None:
        while not self._stopping.is_set():
            for heard in connection.notifies(timeout=0.5, stop_after=1):
                if heard.channel == CHANNEL:
                    self._signal.set()
                elif heard.payload == str(self._id):
                    self._listening = True

    def _keep(self) -> None:
        """Extend leases, and tell that this worker lives."""
        told = -_SEEN
        self._any.wait()
        while True:
            try:
                for work in list(self._works.values()):
                    work.extend()
                if self._works and time.monotonic() >= told + _SEEN:
                    self._connections.run(self._tell)
                    told = time.monotonic()
            except Exception as error:  # the next time, or the lease ends
                log.debug("harrier sync: cannot extend leases: %s", type(error).__name__)
            if self._stopping.wait(min(self._lease / 4, _SEEN)):
                return

    def _tell(self, connection: Connection[Any]) -> None:
        rates = {str(number): work.rate() for number, work in list(self._works.items())}
        connection.execute(_TELL, [self._id, self.name, Jsonb(rates)])


def _bounded(conninfo: str) -> str:
    """A server that does not answer is not waited for much longer than by others when the worker is stopped."""
    given = conninfo_to_dict(conninfo)
    if "connect_timeout" in given or "PGCONNECT_TIMEOUT" in os.environ:
        return conninfo
    return make_conninfo(conninfo, connect_timeout=_CONNECT)


class _Signal:
    """Wakes whoever waits; what was set before a wait began is not missed, for it is counted."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.count = 0

    def set(self) -> None:
        with self._condition:
            self.count += 1
            self._condition.notify_all()

    def wait(self, seen: int, seconds: float) -> bool:
        """Wait until it is set again, or for so many seconds; whether it was set."""
        with self._condition:
            return self._condition.wait_for(lambda: self.count != seen, seconds)
