"""One declared table in the hands of a worker: lease rows, read and embed them, write what is still as it was."""

from __future__ import annotations

import math
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import Connection

from harrier_core.embedder import Embedder
from harrier_core.errors import (
    DeviceError,
    EncoderClosed,
    HarrierError,
    ModelError,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
    StoreUnsuitable,
    WrongSpace,
)
from harrier_core.ingest import Ingest
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.store import PgVectorStore
from harrier_pgvector.sync.catalog import StrangersError
from harrier_pgvector.sync.declaration import Declaration
from harrier_pgvector.sync.leased import LOST, LeasedStore
from harrier_pgvector.sync.objects import Objects
from harrier_pgvector.sync.queue import Batch, Lease, Queue
from harrier_pgvector.sync.reading import Rows, SourceChanged
from harrier_pgvector.sync.scanning import look_again, scan
from harrier_pgvector.sync.session import run

if TYPE_CHECKING:
    from harrier_core.space import EmbeddingSpace
    from harrier_pgvector.connections import Connections

T = TypeVar("T")

# Rows of a batch: as many as take about this long, so that a lease is short and a change need not wait for long.
_FIRST_BATCH, _LARGEST_BATCH = 64, 1_000
_SHORT, _LONG = 0.5, 2.0
# A row that ended so many attempts, be it by killing the worker, is put aside.
_MOST_ATTEMPTS = 8
_LONGEST_PAUSE = 300.0  # seconds between two attempts
_FIRST_PAUSE = 0.1  # seconds for which a table is let alone after an error; twice as long after each more in a row
_LOOK_AGAIN = 30.0  # seconds between two looks at a table that is broken or of another space
_LASTING = 10.0  # seconds of nothing but errors, after which a table is not waited for by those who want to end
_RATED = 60.0  # seconds over which a rate is measured

_REFUSED = "Postgres refused ("

# Errors for which rows are not to blame: there is no need to try them apart, or to give them up.
_NOT_OF_THE_ROWS = (StoreUnsuitable, StoreFull, ModelError, DeviceError, EncoderClosed)


class _OfTheRows(HarrierError):
    """An error that was counted as an attempt of a batch's rows, which are put aside some day: it does not last."""


class Work:
    """A declared table. Any number of a worker's lanes may do steps of it at once."""

    def __init__(
        self,
        declaration: Declaration,
        connections: Connections,
        encoder: Embedder,
        lease: float,
        trust: Collection[str] = (),
    ) -> None:
        self.declaration = declaration
        self.trouble: str | None = None  # why nothing is done, if that is so
        self._connections = connections
        self._encoder = encoder
        self._lease = lease
        self._trust = trust
        self._most = _FIRST_BATCH
        self._settled = False
        self._unsettled = True  # whether something was embedded since it was last asked whether an index is needed
        self._blocked = False  # nothing can be done, whatever the queue holds
        self._wait_until = 0.0
        self._due_at: float | None = None
        self._put_offs = 0
        self._pause = 0.0
        self._failing_since: float | None = None  # nothing was done since then, for errors that no row is to blame for
        self._stores: dict[tuple[str, str], PgVectorStore] = {}  # the one, by the name that its table has now
        self._lock = threading.Lock()
        self._batches: set[Batch] = set()
        self._done: deque[tuple[float, int]] = deque()
        self._begin = time.monotonic()

    # -- one step

    def expect(self, seconds: float | None) -> None:
        """Remember when the queue has something to do, which the database said."""
        self._due_at = None if seconds is None else time.monotonic() + seconds

    def wants(self) -> bool:
        """Whether a step may find anything to do."""
        now = time.monotonic()
        if self.declaration.state == "paused" or now < self._wait_until:
            return False
        is_due = self._due_at is not None and self._due_at <= now
        return is_due or self._unsettled or self.trouble is not None or self._has_changed()

    def waits(self) -> float:
        """Seconds until a step is worth trying, as far as is known."""
        now = time.monotonic()
        if self.declaration.state == "paused":
            return math.inf
        # What is due already was tried, and is in other hands.
        later = [each for each in (self._wait_until, self._due_at) if each is not None and each > now]
        return min(later) - now if later else math.inf

    def _has_changed(self) -> bool:
        declaration = self.declaration
        return declaration.state == "broken" or declaration.now != declaration.seen or bool(declaration.ailment())

    def step(self) -> bool:
        """Do what is next; whether there was anything."""
        if self.declaration.state == "paused" or time.monotonic() < self._wait_until:
            return False
        put_off = self._put_offs
        try:
            busy = self._step()
        except SourceChanged as error:
            self._break(str(error))
        except StoreMissing:
            self._break(f"its table of chunks, {self.declaration.name}, is gone; drop it, and declare it anew")
        except (WrongSpace, StrangersError) as error:
            self._blocked = True
            self._put_off(str(error), _LOOK_AGAIN)
        except (StoreUnavailable, EncoderClosed):
            raise
        except Exception as error:  # of one table: the others go on
            self._pause = min(max(0.1, 2 * self._pause), _LOOK_AGAIN)
            self._put_off(_said(error), self._pause * random.uniform(0.5, 1.0))
            if not isinstance(error, _OfTheRows):
                self._failing_since = self._failing_since or time.monotonic()
                self._blocked = time.monotonic() >= self._failing_since + _LASTING
        else:
            # What began before another lane failed says nothing of that, nor does that nothing is free.
            failing = self._blocked or self._failing_since is not None
            if put_off == self._put_offs and (busy or not failing or not run(self._connections, self._queue.left)):
                self.trouble, self._blocked, self._failing_since = None, False, None
            self._pause = 0.0
            return busy
        return False

    def _step(self) -> bool:
        store, queue = self._opened()
        declaration = self.declaration
        if self._has_changed():
            look_again(self._connections, declaration)
        batch = self._claim(queue)
        if batch.leases:
            self._embed(store, queue, batch)
            return True
        return scan(self._connections, declaration, queue) or self._settle(queue, store)

    def _opened(self) -> tuple[OpenTable, Queue]:
        self.declaration.refuse_strangers(self._trust)
        if not self.declaration.source_there:
            raise SourceChanged(f"its source, {self.declaration.source}, is gone; drop it")
        if not self.declaration.target_there:
            raise StoreMissing
        store = self._stores.get(self.declaration.target)
        if store is None:
            schema, table = self.declaration.target
            store = PgVectorStore(self._connections, table=table, schema=schema)
            self._stores = {self.declaration.target: store}
        return store.open(self._space), self._queue

    @cached_property
    def _space(self) -> EmbeddingSpace:
        """It does not change, and reading it takes longer than a row."""
        return self._encoder.space

    def _put_off(self, trouble: str, seconds: float) -> None:
        self.trouble = trouble
        self._put_offs += 1
        self._wait_until = time.monotonic() + seconds

    # -- a batch

    def _claim(self, queue: Queue) -> Batch:
        batch = Batch({}, uuid.uuid4())

        def claim(connection: Connection[Any]) -> list[Lease]:
            queue.fold(connection)
            return queue.claim(connection, self._most, batch.token, self._lease)

        batch.leases = {lease.record_id: lease for lease in run(self._connections, claim)}
        return batch

    def _embed(self, store: OpenTable, queue: Queue, batch: Batch) -> None:
        begin = time.monotonic()
        with self._kept(batch):
            try:
                self._ingest(store, queue, batch)
            except (SourceChanged, *_NOT_OF_THE_ROWS):
                run(self._connections, lambda c: queue.give_back(c, batch.token, batch.leases.values()))
                raise
            except StoreUnavailable:  # the lease ends by itself
                raise
            except Exception as error:
                said, attempts = _said(error), max(lease.attempts for lease in batch.leases.values())
                after = min(2.0**attempts, _LONGEST_PAUSE) * random.uniform(0.5, 1.0)
                run(
                    self._connections,
                    lambda c: queue.give_back(c, batch.token, batch.leases.values(), after=after, error=said),
                )
                if isinstance(error, StoreMissing | WrongSpace):
                    raise
                raise _OfTheRows(said) from error
        self._unsettled = not self._settled
        self._count(len(batch.done))
        self._fit(len(batch.leases), time.monotonic() - begin)

    def _ingest(self, store: OpenTable, queue: Queue, batch: Batch) -> None:
        reason = f"ended {_MOST_ATTEMPTS} attempts, and perhaps the worker itself"
        for lease in batch.leases.values():
            if lease.attempts > _MOST_ATTEMPTS:
                batch.failed[lease] = f"{reason}; the last error: {lease.error}" if lease.error else reason
        leased = LeasedStore(store, self._connections, queue, batch)
        rows = Rows(self._connections, self.declaration, batch)
        report = Ingest(self._encoder, self.declaration.chunking).run(leased, rows, build_indexes=False)
        for record_id, reason in report.rejected:
            if reason is LOST:
                batch.lost.add(record_id)
            else:
                batch.failed[batch.leases[record_id]] = reason
        self._finish(store, queue, batch)

    def _finish(self, store: OpenTable, queue: Queue, batch: Batch) -> None:
        """Take what needed no writing out of the queue, put aside what cannot be embedded, and give the rest back.

        A transaction each: rows that are waited for are locked in the order of their keys, and no others meanwhile.
        """
        rest = [lease for lease in batch.leases.values() if lease.record_id not in batch.done]
        if batch.failed:
            run(self._connections, lambda c: queue.fail(c, batch.token, batch.failed))
        sound = [lease for lease in rest if lease not in batch.failed and lease.record_id not in batch.lost]

        def take_out(connection: Connection[Any]) -> set[str]:
            held = queue.hold(connection, batch.token, sound)
            if gone := sorted(held & batch.without_text):
                store.delete_on(connection, gone)
            queue.done(connection, [batch.leases[record_id] for record_id in held])
            return held

        if sound:
            batch.done |= run(self._connections, take_out)
        if rest := [lease for lease in rest if lease.record_id not in batch.done]:
            run(self._connections, lambda c: queue.give_back(c, batch.token, rest))

    def _fit(self, number: int, took: float) -> None:
        if took > _LONG:
            self._most = max(1, self._most // 2)
        elif took < _SHORT and number >= self._most:
            self._most = min(2 * self._most, _LARGEST_BATCH)

    @contextmanager
    def _kept(self, batch: Batch) -> Iterator[None]:
        """The lease is extended meanwhile."""
        with self._lock:
            self._batches.add(batch)
        try:
            yield
        finally:
            with self._lock:
                self._batches.remove(batch)

    def extend(self) -> None:
        """More time for all that is being worked on."""
        with self._lock:
            batches = list(self._batches)
        for batch in batches:
            run(self._connections, partial(self._extend, batch=batch))

    def _extend(self, connection: Connection[Any], batch: Batch) -> None:
        self._queue.extend(connection, batch.token, batch.leases.values(), self._lease)

    # -- what is not a batch

    def _settle(self, queue: Queue, store: OpenTable) -> bool:
        """Build the indexes, once nothing is left to be written into them."""
        self._unsettled = False  # for now: whoever embeds more looks again
        if not self._settled and not run(self._connections, queue.left) and not store.is_small():
            self._settled = True
            store.build_indexes()
        return False

    def left(self) -> bool:
        """Whether there is anything to do that can be done."""
        if self._blocked or self.declaration.state == "paused":
            return False
        return run(self._connections, self._queue.left)

    @property
    def _queue(self) -> Queue:
        return Queue(Objects(self.declaration.number, self.declaration.source))

    # -- a source that was changed

    def _break(self, reason: str) -> None:
        """Say so where everybody sees it, and do nothing until it is mended."""
        self._blocked = True
        self._put_off(reason, _LOOK_AGAIN)
        update = (
            "UPDATE harrier_sync.tables SET state = 'broken', reason = %s "
            "WHERE id = %s AND (state = 'active' OR state = 'broken' AND reason <> %s)"
        )
        run(self._connections, lambda c: c.execute(update, [reason, self.declaration.number, reason]))

    # -- how fast

    def _count(self, number: int) -> None:
        with self._lock:
            self._done.append((time.monotonic(), number))

    def rate(self) -> float:
        """Rows a second, over the last minute."""
        now = time.monotonic()
        with self._lock:
            while self._done and self._done[0][0] < now - _RATED:
                self._done.popleft()
            return sum(number for _, number in self._done) / min(_RATED, max(1.0, now - self._begin))


def _said(error: Exception) -> str:
    """What may be stored of it: what a trigger of the chunks raised may quote a text, and of others only the kind."""
    if not isinstance(error, HarrierError):
        return f"unexpected {type(error).__name__}"
    said = str(error)
    return said.partition(":")[0] if said.startswith(_REFUSED) else said
