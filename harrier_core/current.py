"""Open stores that survive a change of their place's space, in whatever depends on no space."""

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

_TURNS = 5  # of a space that changes again and again


class Spaceless(ABC):
    """The part of an open store that depends on no space; a subclass opens the store again when that changes."""

    @abstractmethod
    def _run(self, work: Callable[[OpenStore], T], *, writes: bool = False) -> T:
        """Do something with the store, open for the space that it has; `work` may be called several times."""

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """Return the hashes of the chunks of those records that are there."""
        return self._run(lambda store: store.known(record_ids))

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records, and return how many chunks those were."""
        return self._run(lambda store: store.delete(record_ids), writes=True)

    def count(self) -> int:
        """Return how many chunks there are."""
        return self._run(lambda store: store.count())

    def build_indexes(self) -> None:
        """Build what searches need, unless another process loads or builds."""
        self._run(lambda store: store.build_indexes(), writes=True)

    def read(
        self,
        record_ids: Sequence[str] | None = None,
        where: Condition | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[Stored]:
        """Yield chunks. Raise WrongSpace if the space changes in the middle, for vectors of two would be a mixture."""
        yield from self._run(lambda store: _begun(store.read(record_ids, where, numbers)))

    def audit(self, tell: Callable[[tuple[str, str]], None]) -> Iterator[Stored]:
        """Read all chunks, and tell what else is there."""

        def audited(store: OpenStore) -> Iterator[Stored]:
            return _begun(store.audit(tell) if isinstance(store, Audited) else store.read())

        yield from self._run(audited)

    # -- words

    def keywords_problem(self) -> str | None:
        """Return why chunks cannot be found by their words, or None if they can be."""
        return self._run(lambda store: _worded(store).keywords_problem())

    def add_keywords(self, tell: Callable[[int], None]) -> None:
        """Give all chunks their words."""
        self._run(lambda store: _worded(store).add_keywords(tell), writes=True)

    def wrong_keywords(self) -> Iterator[Chunk]:
        """Yield the chunks whose words are not those of their texts."""
        yield from self._run(lambda store: _begun(_worded(store).wrong_keywords()))

    def search_words(self, search: WordSearch) -> list[Lists]:
        """Return what words find; what vectors find as well, in the space that they are of."""
        if search.near is not None:
            return _worded(self.bound()).search_words(search)
        return self._run(lambda store: _worded(store).search_words(search))

    @abstractmethod
    def bound(self) -> OpenStore:
        """Return the store as it is open now; open it if it is not."""


class Current(Spaceless):
    """A store, open for whichever space it has."""

    def __init__(self, open_: Callable[[], OpenStore]) -> None:
        """Take what opens the store for the space that it has. Nothing is opened yet."""
        self._open = open_
        self._opened: OpenStore | None = None

    def bound(self) -> OpenStore:
        """Return the store as it is open now; open it if it is not."""
        opened = self._opened  # another thread may let it go at any instant
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
        """Raise StoreMissing if there is nothing."""
        self._run(lambda _: None)

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records, each once, in any order. Raise WrongSpace if the space changes meanwhile."""
        yield from self._run(lambda store: _begun(store.record_ids()))

    def search(self, search: Search) -> list[list[Match]]:
        """Return the k nearest chunks. Raise WrongSpace if the space is another one by now."""
        return self._bound(lambda store: store.search(search))

    def write(self, write: Write) -> Written:
        """Write records. Raise WrongSpace if the space is another one by now."""
        return self._bound(lambda store: store.write(write))

    def _bound(self, work: Callable[[OpenStore], T]) -> T:
        """Do something in the space that the store was opened for; if that has changed, forget the store."""
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
    """Return the same, of which the first was fetched."""
    first = next(found, None)
    return iter(()) if first is None else chain([first], found)
