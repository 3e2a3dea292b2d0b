"""One declared table in a worker's care: step by step, and what to do after an error."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from harrier_core.embedder import Embedder
from harrier_core.errors import EncoderClosed, StoreMissing, StoreUnavailable, WrongSpace
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.sync import catalog
from harrier_pgvector.sync.batch import Batch, Fate
from harrier_pgvector.sync.declaration import Declaration, declarations
from harrier_pgvector.sync.embedding import Embedding, RowsFailed, reportable
from harrier_pgvector.sync.health import TableHealth
from harrier_pgvector.sync.indexing import Indexing
from harrier_pgvector.sync.leasing import Leasing
from harrier_pgvector.sync.objects import Objects
from harrier_pgvector.sync.queue import Queue
from harrier_pgvector.sync.reading import SourceChanged
from harrier_pgvector.sync.scanning import look_again, scan
from harrier_pgvector.sync.session import run
from harrier_pgvector.sync.target import Target
from harrier_pgvector.sync.throughput import Throughput
from harrier_pgvector.sync.trust import StrangersError

if TYPE_CHECKING:
    from harrier_pgvector.connections import Connections


class TableWorker:
    """A worker's part for one declared table. Any number of its lanes may do steps at once."""

    def __init__(
        self,
        declaration: Declaration,
        connections: Connections,
        encoder: Embedder,
        lease: float,
        trust: Collection[str] = (),
        turn: threading.Lock | None = None,
    ) -> None:
        """Take the declaration, and what the tables of a worker share; turn: to build indexes of one at a time."""
        self.declaration = declaration
        self._connections = connections
        self._encoder = encoder
        self._trust = trust
        self._target = Target(connections, encoder, trust)
        self._leasing = Leasing(connections, lease)
        self._due_at: float | None = None
        self._health = TableHealth()
        self._lock = threading.Lock()  # protects the transition to the next health
        self._indexing = Indexing(connections, turn or threading.Lock())
        self._throughput = Throughput(time.monotonic())

    # -- timing

    @property
    def trouble(self) -> str | None:
        """The reason why nothing is done, if nothing is."""
        return self._health.trouble

    @property
    def is_failing(self) -> bool:
        """Whether the last steps ended with errors that no row causes."""
        return self._health.is_failing

    @property
    def lasting_error(self) -> str | None:
        """The error that only this worker knows of, if it lasts."""
        return self._health.lasting_error

    def expect(self, seconds: float | None) -> None:
        """Record when the queue will have something to do, as reported by the database."""
        self._due_at = None if seconds is None else time.monotonic() + seconds

    def wants(self) -> bool:
        """Return whether a step may find anything to do."""
        now = time.monotonic()
        if not self._may_run(self._health, now):
            return False
        is_due = self._due_at is not None and self._due_at <= now
        return is_due or self._indexing.is_due or self.trouble is not None or self._has_changed()

    def waits(self) -> float:
        """Return the seconds until a step is worth trying, as far as is known."""
        now = time.monotonic()
        if self.declaration.state == "paused":
            return math.inf
        # Rows that are due were tried, and others are working on them.
        later = [each for each in (self._health.wait_until, self._due_at) if each is not None and each > now]
        return min(later) - now if later else math.inf

    def left(self) -> bool:
        """Return whether there is anything to do that can be done."""
        return not self._health.is_blocked and self.declaration.state != "paused" and self._is_left()

    def _may_run(self, health: TableHealth, now: float) -> bool:
        return self.declaration.state != "paused" and health.may_run(now)

    def _has_changed(self) -> bool:
        declaration = self.declaration
        return declaration.state == "broken" or declaration.now != declaration.seen or bool(declaration.ailment())

    def _is_left(self) -> bool:
        return run(self._connections, self._queue.left)

    # -- one step

    def step(self) -> bool:
        """Do the next step; return whether there was anything to do."""
        before, names = self._health, _names(self.declaration)
        if not self._may_run(before, time.monotonic()):
            return False
        try:
            busy = self._step()
        except (SourceChanged, StoreMissing, WrongSpace, StrangersError) as error:
            if self._is_renamed(names):
                return True
            self._stop(error)
        except (StoreUnavailable, EncoderClosed):
            raise
        except Exception as error:  # concerns one table: the others continue
            self._note(error)
        else:
            self._end(before.setbacks, busy=busy)
            return busy
        return False

    def _step(self) -> bool:
        declaration = self.declaration  # another lane may replace it: the store and the rest belong to one
        store, queue = self._target.open(declaration), self._queue
        if self._has_changed():
            look_again(self._connections, declaration)
        most = self._throughput.batch_size
        batch = self._leasing.claim(queue, most)
        if batch.leases:
            self._embed(declaration, store, queue, batch)
            if len(batch.leases) < most:  # otherwise a trickle of changes would put off all scans
                scan(self._connections, declaration, queue)
            return True
        if scan(self._connections, declaration, queue):
            return True
        self._indexing.build(store, declaration.target, self._is_left)
        return False

    @property
    def _queue(self) -> Queue:
        return Queue(Objects(self.declaration.number, self.declaration.source))

    # -- outcomes

    def _update(self, event: Callable[[TableHealth], TableHealth]) -> None:
        with self._lock:
            self._health = event(self._health)

    def _end(self, began: int, *, busy: bool) -> None:
        if busy:
            self._update(lambda health: health.did_something(began))
            return
        left = self._health.is_failing and self._is_left()
        self._update(lambda health: health.found_nothing(began, left=left))

    def _is_renamed(self, names: tuple[object, ...]) -> bool:
        """Return whether one of the tables was renamed, as in an exchange of two, and use its new name."""
        found = run(self._connections, lambda connection: declarations(connection, self._trust))
        for each in found:
            if each.number == self.declaration.number:
                self.declaration = each
        return _names(self.declaration) != names

    def _note(self, error: Exception) -> None:
        reason, now, jitter = reportable(error), time.monotonic(), random.uniform(0.5, 1.0)
        if isinstance(error, RowsFailed):
            self._update(lambda health: health.rows_failed(reason, now, jitter))
        else:
            self._update(lambda health: health.store_failed(reason, now, jitter))

    def _stop(self, error: Exception) -> None:
        """Do nothing for a while, because nothing can be done."""
        reason = str(error)
        if isinstance(error, WrongSpace | StrangersError):  # only this worker's trouble
            self._update(lambda health: health.cannot_go_on(reason, time.monotonic()))
            return
        if isinstance(error, StoreMissing):
            reason = f"its table of chunks, {self.declaration.name}, was dropped; drop the sync, and declare it again"
        self._break(reason)

    def _break(self, reason: str) -> None:
        """Record where everyone can see it that the source is broken, and do nothing until it is fixed."""
        self._update(lambda health: health.cannot_go_on(reason, time.monotonic()))
        run(self._connections, lambda c: catalog.set_broken(c, self.declaration.number, reason))

    # -- a batch

    def _embed(self, declaration: Declaration, store: OpenTable, queue: Queue, batch: Batch) -> None:
        begin = time.monotonic()
        with self._leasing.in_hand(batch):
            Embedding(self._connections, declaration, self._encoder, store, queue, batch).run()
        self._indexing.note_embedded()
        finished, now = len(batch.ended_as(Fate.DONE, Fate.NO_TEXT)), time.monotonic()
        self._throughput.note(len(batch.leases), finished, now - begin, now)

    def extend(self) -> None:
        """Extend the leases of all batches in progress."""
        self._leasing.extend(self._queue)

    def rate(self) -> float:
        """Return the rows per second over the last minute."""
        return self._throughput.rate(time.monotonic())


def _names(declaration: Declaration) -> tuple[object, ...]:
    """Return the current names of both tables, and whether the source is there."""
    return declaration.target, str(declaration.source), declaration.source_there
