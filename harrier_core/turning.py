"""A store whose space may change while an Index has it open, and the encoders of the spaces that it may have."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from harrier_core.errors import StoreUnsuitable, WrongSpace
from harrier_core.store import Audited, Worded

if TYPE_CHECKING:
    from harrier_core.embedder import Embedder
    from harrier_core.filters import Condition
    from harrier_core.query import Search, WordSearch
    from harrier_core.records import Chunk, Match
    from harrier_core.space import EmbeddingSpace
    from harrier_core.store import Hashes, Lists, OpenStore, Stored, VectorStore, Write, Written

T = TypeVar("T")

_TURNS = 3  # of a space that changes again and again

Bound = tuple["OpenStore", "Embedder"]  # a store, and the encoder of the space that it was opened for


class Turning:
    """The store, open for the space that it has now. Any number of threads may use it at once.

    An open store raises WrongSpace once its place has another space. What was asked is then asked again, of the store
    as it is now and with the encoder of its space.
    """

    def __init__(
        self, store: VectorStore, encoders: Sequence[Embedder], tell: Callable[[Embedder], None] = lambda _: None
    ) -> None:
        """Open nothing yet. tell: called with the encoder of the space that the store has."""
        self._store = store
        self._encoders = encoders
        self._tell = tell
        self._spaces: dict[int, EmbeddingSpace] = {}  # of the encoders, by their places: reading one takes long
        self._bound: Bound | None = None
        self._lock = threading.Lock()

    def bound(self, *, create: bool = False) -> Bound:
        """Return the store and its encoder; with `create`, a place that is not there is made for the first encoder."""
        with self._lock:
            if self._bound is None:
                self._bound = self._open(create=create)
                self._tell(self._bound[1])
            return self._bound

    def _open(self, *, create: bool) -> Bound:
        for _ in range(_TURNS - 1):
            stored = self._store.space()
            at = next((at for at in range(len(self._encoders)) if self._space(at) == stored), 0)
            try:
                return self._store.open(self._space(at), create=create), self._encoders[at]
            except WrongSpace:
                if self._space(at) != stored:  # of none of the encoders
                    raise
        return self._store.open(self._space(0), create=create), self._encoders[0]

    def _space(self, at: int) -> EmbeddingSpace:
        if at not in self._spaces:
            self._spaces[at] = self._encoders[at].space
        return self._spaces[at]

    def forget(self, bound: Bound | None = None) -> None:
        """Open the store anew at the next call, unless another thread has done that since."""
        with self._lock:
            if bound is None or self._bound is bound:
                self._bound = None

    def run(self, work: Callable[[OpenStore, Embedder], T]) -> T:
        """Return what `work` returns for the store and the encoder of its space."""
        for _ in range(_TURNS - 1):
            bound = self.bound()
            try:
                return work(*bound)
            except WrongSpace:
                self.forget(bound)
        return work(*self.bound())

    async def arun(self, work: Callable[[OpenStore, Embedder], Awaitable[T]]) -> T:
        """Do what `run` does, without holding up the event loop."""
        for _ in range(_TURNS - 1):
            bound = await asyncio.to_thread(self.bound)
            try:
                return await work(*bound)
            except WrongSpace:
                self.forget(bound)
        return await work(*await asyncio.to_thread(self.bound))


class TurningStore:
    """A Turning as an open store, which takes and gives vectors of one encoder."""

    def __init__(self, turning: Turning, encoder: Embedder | None = None) -> None:
        """encoder: whose vectors are written; without one nothing is."""
        self._turning = turning
        self._encoder = encoder

    # -- what has to do with no space

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """Return the hashes of the chunks of those records that are there."""
        return self._turning.run(lambda store, _: store.known(record_ids))

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records, and return how many chunks those were."""
        return self._turning.run(lambda store, _: store.delete(record_ids))

    def count(self) -> int:
        """Return how many chunks there are."""
        return self._turning.run(lambda store, _: store.count())

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records, each once, in any order."""
        yield from self._turning.run(lambda store, _: list(store.record_ids()))

    def build_indexes(self) -> None:
        """Build what searches need, unless somebody else loads or builds."""
        self._turning.run(lambda store, _: store.build_indexes())

    def read(
        self,
        record_ids: Sequence[str] | None = None,
        where: Condition | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[Stored]:
        """Yield chunks. Raise WrongSpace if the space changes in the middle, for vectors of two would be a mixture."""
        yield from self._turning.run(lambda store, _: _begun(store.read(record_ids, where, numbers)))

    def audit(self, tell: Callable[[tuple[str, str]], None]) -> Iterator[Stored]:
        """Read all chunks, and tell what else is there."""
        store, _ = self._turning.bound()
        return store.audit(tell) if isinstance(store, Audited) else store.read()

    # -- words

    def keywords_problem(self) -> str | None:
        """Return why chunks cannot be found by their words, or None if they can be."""
        return self._turning.run(lambda store, _: _worded(store).keywords_problem())

    def add_keywords(self, tell: Callable[[int], None]) -> None:
        """Give all chunks their words."""
        self._turning.run(lambda store, _: _worded(store).add_keywords(tell))

    def wrong_keywords(self) -> Iterator[Chunk]:
        """Yield the chunks whose words are not those of their texts."""
        return self._turning.run(lambda store, _: _worded(store).wrong_keywords())

    def search_words(self, search: WordSearch) -> list[Lists]:
        """Return what words find; what vectors find as well, in the space that they are of."""
        if search.near is not None:
            return _worded(self._turning.bound()[0]).search_words(search)
        return self._turning.run(lambda store, _: _worded(store).search_words(search))

    # -- vectors

    def search(self, search: Search) -> list[list[Match]]:
        """Return the k nearest chunks. Raise WrongSpace if the space changed: vectors are of the one that was."""
        bound = self._turning.bound()
        try:
            return bound[0].search(search)
        except WrongSpace:
            self._turning.forget(bound)
            raise

    def write(self, write: Write) -> Written:
        """Write records. What another encoder than the stored space's made vectors of is encoded again."""

        def carry_out(store: OpenStore, encoder: Embedder) -> Written:
            if encoder is self._encoder or not write.encoded:
                return store.write(write)
            vectors = encoder.submit_documents([chunk.text for chunk in write.encoded]).result().vectors
            return store.write(replace(write, vectors=vectors))

        return self._turning.run(carry_out)


def _worded(store: OpenStore) -> Worded:
    if not isinstance(store, Worded):
        raise StoreUnsuitable("the store cannot hold the words of its chunks")
    return store


def _begun(stored: Iterator[Stored]) -> Iterator[Stored]:
    """Return the same, of which the first was fetched."""
    first = next(stored, None)
    return iter(()) if first is None else chain([first], stored)
