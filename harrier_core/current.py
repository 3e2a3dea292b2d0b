"""Open stores whose operations survive a change of the embedding space, unless they depend on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from harrier_core.errors import StoreUnsuitable, WrongSpace
from harrier_core.store import Audited, Worded

if TYPE_CHECKING:
    from harrier_core.filters import Condition
    from harrier_core.query import Search, WordSearch
    from harrier_core.records import Chunk, Match
    from harrier_core.store import Hashes, Lists, OpenStore, Stored, Write, Written

T = TypeVar("T")

_TURNS = 5  # attempts while the space keeps changing


class Spaceless(ABC):
    """The operations of an open store that do not depend on its space; subclasses reopen it when the space changes."""

    @abstractmethod
    def _run(self, work: Callable[[OpenStore], T], *, writes: bool = False) -> T:
        """Return what `work` returns for the store, open for its current space; it may be called several times."""

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """Return the hashes of the chunks of those records that are stored."""
        return self._run(lambda store: store.known(record_ids))

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records, and return how many chunks they had."""
        return self._run(lambda store: store.delete(record_ids), writes=True)

    def count(self) -> int:
        """Return how many chunks there are."""
        return self._run(lambda store: store.count())

    def build_indexes(self) -> None:
        """Build the indexes for searches, unless another process is loading or building."""
        self._run(lambda store: store.build_indexes(), writes=True)

    def read(
        self,
        record_ids: Sequence[str] | None = None,
        where: Condition | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[Stored]:
        """Yield chunks. Raise WrongSpace if the space changes meanwhile: vectors of two spaces must not be mixed."""
        yield from self._run(lambda store: _begun(store.read(record_ids, where, numbers)))

    def audit(self, tell: Callable[[tuple[str, str]], None]) -> Iterator[Stored]:
        """Yield all chunks, and call `tell` with every other entry of the store."""

        def audited(store: OpenStore) -> Iterator[Stored]:
            return _begun(store.audit(tell) if isinstance(store, Audited) else store.read())

        yield from self._run(audited)

    # -- words

    def keywords_problem(self) -> str | None:
        """Return why chunks cannot be found by their words, or None if they can be."""
        return self._run(lambda store: _worded(store).keywords_problem())

    def add_keywords(self, tell: Callable[[int], None]) -> None:
        """Store the words of all chunks."""
        self._run(lambda store: _worded(store).add_keywords(tell), writes=True)

    def wrong_keywords(self) -> Iterator[Chunk]:
        """Yield the chunks whose words are not those of their texts."""
        yield from self._run(lambda store: _begun(_worded(store).wrong_keywords()))

    def search_words(self, search: WordSearch) -> list[Lists]:
        """Return the matches by word and, if requested, by vector; the latter need an unchanged space."""
        if search.near is not None:
            return _worded(self.bound()).search_words(search)
        return self._run(lambda store: _worded(store).search_words(search))

    @abstractmethod
    def bound(self) -> OpenStore:
        """Return the open store; open it if necessary."""


class Current(Spaceless):
    """A store that is open for its current space."""

    def __init__(self, open_: Callable[[], OpenStore]) -> None:
        """Take a function that opens the store for its current space. Nothing is opened yet."""
        self._open = open_
        self._opened: OpenStore | None = None

    def bound(self) -> OpenStore:
        """Return the open store; open it if necessary."""
        opened = self._opened  # another thread may reset it at any time
        if opened is None:
            opened = self._opened = self._open()
        return opened

    def _run(self, work: Callable[[OpenStore], T], *, writes: bool = False) -> T:  # noqa: ARG002
        for _ in range(_TURNS - 1):
            try:
                return work(self.bound())
            except WrongSpace:  # while it was open, or in between the two steps of opening it
                self._opened = None
        return work(self.bound())

    def check(self) -> None:
        """Raise StoreMissing if the store does not exist."""
        self._run(lambda _: None)

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records, each once, in any order. Raise WrongSpace if the space changes meanwhile."""
        yield from self._run(lambda store: _begun(store.record_ids()))

    def search(self, search: Search) -> list[list[Match]]:
        """Return the k nearest chunks. Raise WrongSpace if the space has changed."""
        return self._bound(lambda store: store.search(search))

    def write(self, write: Write) -> Written:
        """Write records. Raise WrongSpace if the space has changed."""
        return self._bound(lambda store: store.write(write))

    def _bound(self, work: Callable[[OpenStore], T]) -> T:
        """Return what `work` returns for the open store. If its space has changed, forget it and raise WrongSpace."""
        try:
            return work(self.bound())
        except WrongSpace:
            self._opened = None
            raise


def _worded(store: OpenStore) -> Worded:
    if not isinstance(store, Worded):
        raise StoreUnsuitable(f"{type(store).__name__} cannot hold the words of its chunks; use mode='dense'")
    return store


def _begun(found: Iterator[T]) -> Iterator[T]:
    """Return the same items, the first of which has been fetched."""
    first = next(found, None)
    return iter(()) if first is None else chain([first], found)
