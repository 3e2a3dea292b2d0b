"""A store whose space may change while an Index has it open, and the encoders of the spaces that it may have."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from harrier_core.current import Spaceless
from harrier_core.errors import StoreError, StoreMissing, WrongSpace
from harrier_core.store import BEFORE, Exchangeable
from harrier_core.threads import in_thread

if TYPE_CHECKING:
    from harrier_core.embedder import Embedder
    from harrier_core.query import Search
    from harrier_core.records import Match
    from harrier_core.space import EmbeddingSpace
    from harrier_core.store import OpenStore, VectorStore, Write, Written

T = TypeVar("T")

_now = time.monotonic

_TURNS = 5  # attempts while the space keeps changing

Bound = tuple["OpenStore", "Embedder"]  # a store, and the encoder of the space that it was opened for


class Turning:
    """A store that is open for its current space. Any number of threads may use it at once.

    An open store raises WrongSpace once the space of its place has changed. The operation is then repeated with the
    store as it is now and the encoder of its space.
    """

    def __init__(
        self,
        store: VectorStore,
        encoders: Sequence[Embedder],
        tell: Callable[[Embedder], None] = lambda _: None,
        grace: float | None = None,
    ) -> None:
        """Open nothing yet.

        tell: called with the encoder of the store's current space. grace: for how many seconds the place that a switch
        kept is still read, once no encoder has the space of the store.
        """
        self._store = store
        self._encoders = encoders
        self._tell = tell
        self._grace = grace
        self._spaces: dict[int, EmbeddingSpace] = {}  # of the encoders, by position, because reading one is slow
        self._bound: Bound | None = None
        self._kept: VectorStore | None = None  # the store that is read in the grace period
        self._read: list[VectorStore] = []  # those that were; another thread may still use them
        self._until: float | None = None  # the end of the grace period, once it has begun
        self._lock = threading.Lock()

    def bound(self, *, create: bool = False, writes: bool = False) -> Bound:
        """Return the store and its encoder; with `create`, create a missing place for the first encoder.

        writes: raise WrongSpace in a grace period, when the store is read-only.
        """
        with self._lock:
            over = self._kept is not None and (writes or create or (self._until is not None and _now() > self._until))
            if self._bound is None or over:
                self._bound = None
                self._bound = self._open(create=create, writes=writes or create)
                self._tell(self._bound[1])
            return self._bound

    def _open(self, *, create: bool, writes: bool) -> Bound:
        self._let_go()
        for _ in range(_TURNS - 1):
            stored = self._store.space()
            at = next((at for at in range(len(self._encoders)) if self._space(at) == stored), 0)
            try:
                bound = self._store.open(self._space(at), create=create), self._encoders[at]
            except WrongSpace:
                if self._space(at) == stored:
                    continue  # it changed meanwhile
                if writes or (kept := self._open_kept()) is None:
                    raise
                return kept
            self._until = None
            return bound
        return self._store.open(self._space(0), create=create), self._encoders[0]

    def _open_kept(self) -> Bound | None:
        """Return the place that a switch kept, if an encoder has its space and the grace period is not over."""
        if self._grace is None or not isinstance(self._store, Exchangeable):
            return None
        self._until = _now() + self._grace if self._until is None else self._until
        if _now() > self._until:
            return None
        self._kept = self._store.beside(BEFORE)
        stored = self._kept.space()
        at = next((at for at in range(len(self._encoders)) if self._space(at) == stored), None)
        if at is not None:
            return self._kept.open(self._space(at)), self._encoders[at]
        self._let_go()
        return None

    def _let_go(self) -> None:
        if self._kept is not None:
            self._read.append(self._kept)
        self._kept = None

    def _space(self, at: int) -> EmbeddingSpace:
        if at not in self._spaces:
            self._spaces[at] = self._encoders[at].space
        return self._spaces[at]

    def forget(self, bound: Bound | None = None) -> None:
        """Reopen the store at the next call, unless another thread has done so."""
        with self._lock:
            if bound is None or self._bound is bound:
                self._bound = None

    def run(self, work: Callable[[OpenStore, Embedder], T], *, writes: bool = False) -> T:
        """Return what `work` returns for the store and the encoder of its space."""
        for _ in range(_TURNS - 1):
            bound = self.bound(writes=writes)
            try:
                return work(*bound)
            except (WrongSpace, StoreMissing) as error:
                self._turn(bound, error)
        return work(*self.bound(writes=writes))

    async def arun(self, work: Callable[[OpenStore, Embedder], Awaitable[T]]) -> T:
        """Do what `run` does, without holding up the event loop."""
        for _ in range(_TURNS - 1):
            bound = await in_thread(self.bound)
            try:
                return await work(*bound)
            except (WrongSpace, StoreMissing) as error:
                self._turn(bound, error)
        return await work(*await in_thread(self.bound))

    def _turn(self, bound: Bound, error: StoreError) -> None:
        """Have the store reopened. Raise the error if it is missing, unless it was the kept one, which may be gone."""
        if isinstance(error, StoreMissing) and self._kept is None:
            raise error
        self.forget(bound)

    def close(self) -> None:
        """Close the kept stores."""
        with self._lock:
            self._bound = None
            self._let_go()
            for each in self._read:
                each.close()


class TurningStore(Spaceless):
    """A Turning as an open store, which accepts and returns vectors of one encoder."""

    def __init__(self, turning: Turning, encoder: Embedder | None = None) -> None:
        """Take a Turning. encoder: the one whose vectors are written; without it, nothing is written."""
        self._turning = turning
        self._encoder = encoder

    def _run(self, work: Callable[[OpenStore], T], *, writes: bool = False) -> T:
        return self._turning.run(lambda store, _: work(store), writes=writes)

    def bound(self) -> OpenStore:
        """Return the open store; open it if necessary."""
        return self._turning.bound()[0]

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records, each once, in any order."""
        yield from self._run(lambda store: list(store.record_ids()))

    # -- vectors

    def search(self, search: Search) -> list[list[Match]]:
        """Return the k nearest chunks. Raise WrongSpace if the space has changed: the query vectors no longer fit."""
        bound = self._turning.bound()
        try:
            return bound[0].search(search)
        except WrongSpace:
            self._turning.forget(bound)
            raise

    def write(self, write: Write) -> Written:
        """Write records. Encode their texts again if the vectors are not of the store's current space."""

        def carry_out(store: OpenStore, encoder: Embedder) -> Written:
            if encoder is self._encoder or not write.encoded:
                return store.write(write)
            vectors = encoder.submit_documents([chunk.text for chunk in write.encoded]).result().vectors
            return store.write(replace(write, vectors=vectors))

        return self._turning.run(carry_out, writes=True)
