"""The contents of an Index: counted, read, checked and removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypedDict, Unpack

from harrier_core.answers import Where, matches_of, options_of, texts_of
from harrier_core.checks import check_integer
from harrier_core.closing import Closing
from harrier_core.current import Current
from harrier_core.errors import SettingError, StoreMissing, StoreUnsuitable
from harrier_core.filters import decided, parse
from harrier_core.options import Expand
from harrier_core.parts import store_of
from harrier_core.pruning import read_records
from harrier_core.records import MOST_ID_BYTES
from harrier_core.reranking import Diverse, Reranker
from harrier_core.store import Worded
from harrier_core.threads import in_thread
from harrier_core.values import plain, unstorable

if TYPE_CHECKING:
    from harrier_core.records import Chunk, Match
    from harrier_core.space import EmbeddingSpace
    from harrier_core.store import Facts, OpenStore, Stored, VectorStore

_REMOVED = 10_000  # records that are removed at once, where there may be any number of them


class ByWord(TypedDict, total=False):
    """The keywords of a search by word. `Searching` explains them."""

    offset: int
    min_score: float | None
    expand: Expand
    rerank: Reranker | Diverse | None
    among: int | None


class Contents(Closing):
    """The records of a store, as they are stored, whichever model made their vectors: no model is needed.

    If the store is switched to another model, the next call uses its new content. An iteration under way, such as that
    of `read`, raises WrongSpace.

    Every Index is also a Contents. Any number of threads may use one at once.
    """

    def __init__(self, store: VectorStore | str) -> None:
        """Take a store, or its URL as accepted by `open_store`. Nothing is opened yet."""
        self.store = store_of(store)
        self._handle: OpenStore | None = None

    def _opened(self) -> OpenStore:
        """Return the store, open for the space that it has. It costs nothing if it is open already."""
        if self._handle is None:
            current = Current(lambda: self.store.open(self.space()))
            current.check()
            self._handle = current
        return self._handle

    # -- reading

    def space(self) -> EmbeddingSpace:
        """Return the space of the stored vectors. Raise StoreMissing if nothing is stored."""
        space = self.store.space()
        if space is None:
            self.store.describe()  # raises StoreMissing, with the store's own message
            raise StoreMissing(f"{self.store} is empty; ingest something into it first")
        return space

    def describe(self) -> Facts:
        """Return what the store reports: its space, size and health. Raise StoreMissing if nothing is stored."""
        return self.store.describe()

    def count(self) -> int:
        """Return how many chunks there are."""
        return self._opened().count()

    async def acount(self) -> int:
        """Return what `count` does, without holding up the event loop."""
        return await in_thread(self.count)

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records, each once, in any order."""
        return self._opened().record_ids()

    async def arecord_ids(self) -> list[str]:
        """Return a list of what `record_ids` yields, without holding up the event loop."""
        return await in_thread(lambda: list(self.record_ids()))

    def read(
        self,
        record_ids: Iterable[str] | None = None,
        where: Where | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
    ) -> Iterator[Stored]:
        """Yield the chunks of those records, or of all, that meet `where`, with their vectors, as they are needed.

        The order is the store's own, and stays the same as long as nothing is written. offset: how many chunks to skip.
        limit: how many to yield at most.
        """
        check_integer("offset", offset, 0)
        if limit is not None:
            check_integer("limit", limit, 0)
        condition = parse(where)
        ids = None if record_ids is None else _listed(record_ids)
        stored = self._opened().read(ids, condition)
        return islice(stored, offset, None if limit is None else offset + limit)

    async def aread(
        self,
        record_ids: Iterable[str] | None = None,
        where: Where | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Stored]:
        """Return a list of what `read` yields, without holding up the event loop."""
        return await in_thread(lambda: list(self.read(record_ids, where, limit=limit, offset=offset)))

    def missing(self, record_ids: Iterable[str]) -> list[str]:
        """Return those of these ids that belong to no record, each once, in their order."""
        asked = list(dict.fromkeys(record_ids))
        storable = _listed(asked)
        known = self._opened().known(storable) if storable else {}
        # An id that cannot be stored has no plain form either.
        return [each for each in asked if unstorable(each) or plain(each) not in known]

    # -- searching

    def search_words(self, query: str, k: int = 5, where: Where | None = None, **wanted: Unpack[ByWord]) -> list[Match]:
        """Return the k chunks that best match a query's words, as `Index.search` does with mode="keyword".

        No model is needed. See `Searching` for the keywords.
        """
        options = options_of(k, where, wanted, ByWord, mode="keyword")
        store = self._opened()
        [matches] = matches_of(store, texts_of([query], store, options), None, options)
        return matches

    async def asearch_words(
        self, query: str, k: int = 5, where: Where | None = None, **wanted: Unpack[ByWord]
    ) -> list[Match]:
        """Return what `search_words` does, without holding up the event loop."""
        return await in_thread(lambda: self.search_words(query, k, where, **wanted))

    # -- removing

    def delete(self, record_ids: Iterable[str] | None = None, *, where: Where | None = None) -> int:
        """Remove records, and return how many chunks they had: 0 if nothing is stored.

        Remove the records with these ids, those with a chunk that meets conditions on metadata or, given both, those
        with these ids that meet them. A record that is ingested with other metadata while its removal is under way is
        removed too.
        """
        condition = parse(where)
        if record_ids is None and (condition is None or decided(condition)):
            got = "conditions that match everything" if condition else "neither record_ids nor conditions in where"
            raise SettingError(f"delete must be told what to delete, got {got}; use clear() to delete everything")
        ids = None if record_ids is None else _listed(record_ids)
        try:
            store = self._opened()
            if condition is None:
                return store.delete(ids or [])
            met = list(read_records(store, ids, condition, _nothing_of))
        except StoreMissing:
            return 0
        return _removed(store, met)

    async def adelete(self, record_ids: Iterable[str] | None = None, *, where: Where | None = None) -> int:
        """Do what `delete` does, without holding up the event loop."""
        return await in_thread(lambda: self.delete(record_ids, where=where))

    def clear(self) -> int:
        """Remove all records, and return how many chunks they had: 0 if nothing is stored."""
        try:
            store = self._opened()
            ids = list(store.record_ids())
        except StoreMissing:
            return 0
        return _removed(store, ids)

    async def aclear(self) -> int:
        """Do what `clear` does, without holding up the event loop."""
        return await in_thread(self.clear)

    def build_indexes(self) -> None:
        """Build the indexes that searches need, once loads are over, unless another process is loading or building."""
        self._opened().build_indexes()

    def add_keywords(self, on_progress: Callable[[int], None] | None = None) -> None:
        """Store the words of all chunks, for searches with mode="keyword" or "hybrid"; do nothing if that is done.

        It needs no model, and others may search and write in the meantime. After a crash, the next call resumes.
        on_progress: called with the number of chunks that have their words so far.
        """
        store = self._opened()
        if not isinstance(store, Worded):
            raise StoreUnsuitable(f"{self.store} cannot hold the words of its chunks")
        if store.keywords_problem() is not None:
            store.add_keywords(on_progress or _ignore)

    # -- life

    def close(self) -> None:
        """Close the store; what is stored stays."""
        self.store.close()


def _nothing_of(chunk: Chunk) -> None:
    """Return nothing: only the ids of the records are needed."""


def _ignore(chunks: int) -> None:
    """Ignore progress."""


def _removed(store: OpenStore, ids: Sequence[str]) -> int:
    return sum(store.delete(ids[begin : begin + _REMOVED]) for begin in range(0, len(ids), _REMOVED))


def _listed(record_ids: Iterable[str]) -> list[str]:
    """Return the ids that can be stored at all."""
    if isinstance(record_ids, str):
        raise SettingError("record_ids must be a list of ids; put a single one in a list")
    ids = list(record_ids)
    for each in ids:
        if not isinstance(each, str):
            raise SettingError(f"a record's id must be a str, got {type(each).__name__}")
    return [plain(each) for each in ids if not unstorable(each) and len(each.encode()) <= MOST_ID_BYTES]
