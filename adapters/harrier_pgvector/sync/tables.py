"""The declared tables of a database, each in a worker's care, and which of them have something to do."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from harrier_core.embedder import Embedder
from harrier_core.errors import HarrierError, StoreUnavailable
from harrier_pgvector.sync.declaration import Declaration, Lost, declarations_and_lost
from harrier_pgvector.sync.looking import due
from harrier_pgvector.sync.session import run
from harrier_pgvector.sync.table_worker import TableWorker

if TYPE_CHECKING:
    from harrier_pgvector.connections import Connections

log = logging.getLogger(__name__)

_REFRESHED = 5.0  # seconds between two looks at what is declared, while there is work
_REFRESHED_IDLE = 30.0  # the same while there is no work


class Tables:
    """All declared tables that a worker knows. Any number of its lanes may use them at once."""

    def __init__(self, connections: Connections, encoder: Embedder, lease: float, trust: Collection[str]) -> None:
        self.is_busy = False  # whether the last look found something to do
        self.any_declared = threading.Event()  # now, or earlier
        self._connections = connections
        self._encoder = encoder
        self._lease = lease
        self._trust = trust
        self._workers: dict[int, TableWorker] = {}  # replaced as a whole
        self._lost: list[Lost] = []  # the same
        self._refreshed = -_REFRESHED_IDLE
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    # -- what is known of them

    @property
    def known(self) -> list[TableWorker]:
        """The tables as of the last look, without waiting for a look in progress."""
        return list(self._workers.values())

    def troubles(self) -> dict[str, str]:
        """Return the names of the tables for which nothing can be done, with the reasons."""
        lost = {each.name: each.reason for each in self._lost}
        return lost | {each.declaration.name: each.trouble for each in self.known if each.trouble}

    def all_announced(self) -> bool:
        """Return whether every table announces its changes."""
        return all(each.declaration.notify for each in self.known)

    def waits(self) -> float:
        """Return the seconds until a step on one of them is worth trying, as far as is known."""
        return min([each.waits() for each in self.known], default=math.inf)

    def rates(self) -> dict[str, float]:
        """Return the rows per second over the last minute, by table number."""
        return {str(each.declaration.number): each.rate() for each in self.known}

    def lasting_errors(self) -> dict[str, str]:
        """Return the errors that last, by table number."""
        return {str(each.declaration.number): each.lasting_error for each in self.known if each.lasting_error}

    # -- what the database reports about them

    def left(self) -> bool:
        """Return whether any of them has something to do that can be done."""
        return any(each.left() for each in self._refresh())

    def due(self) -> list[TableWorker]:
        """Return the tables that may have something to do."""
        tables = self._refresh(now=not self._workers)
        if not tables:
            return []
        # A failing table reports through its own steps, when they run; it must not delay the others.
        asked = [each.declaration.number for each in tables if not each.is_failing]
        try:
            found = self._connections.run(lambda connection: due(connection, asked))
        except StoreUnavailable:
            raise
        except HarrierError:  # a table was dropped, or a privilege is missing: its step will report it
            return self._refresh(now=True)
        states: dict[int, str] = {each.declaration.number: each.declaration.state for each in tables}
        states |= {each.number: each.state for each in self._lost}
        if {each.number: each.state for each in found} != states:
            tables = self._refresh(now=True)
        seconds = {each.number: each.seconds for each in found}
        for each in tables:
            each.expect(seconds.get(each.declaration.number))
        return [each for each in tables if each.wants()]

    def _refresh(self, *, now: bool = False) -> list[TableWorker]:
        """Return the tables as they are declared now, or were a moment ago."""
        with self._lock:
            if now or time.monotonic() >= self._refreshed + (_REFRESHED if self.is_busy else _REFRESHED_IDLE):
                both = run(self._connections, lambda connection: declarations_and_lost(connection, self._trust))
                found = [each for each in both if isinstance(each, Declaration)]
                self._note_lost([each for each in both if isinstance(each, Lost)])
                self._workers = {each.number: self._workers.get(each.number) or self._new(each) for each in found}
                for each in found:
                    self._workers[each.number].declaration = each
                self._refreshed = time.monotonic()
                if found:
                    self.any_declared.set()
            return list(self._workers.values())

    def _note_lost(self, lost: list[Lost]) -> None:
        for each in lost:
            if each not in self._lost:
                log.warning("harrier sync: table %s: %s", each.name, each.reason)
        self._lost = lost

    def _new(self, declaration: Declaration) -> TableWorker:
        return TableWorker(declaration, self._connections, self._encoder, self._lease, self._trust, self._turn)
