"""The searches of an Index: queries to vectors and words, and those to matches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypedDict, TypeVar, Unpack

from harrier_core.answers import Where, matches_of, options_of, texts_of
from harrier_core.errors import SettingError
from harrier_core.options import Expand, Options
from harrier_core.query import Mode
from harrier_core.reranking import Diverse, Reranker
from harrier_core.texts import listed
from harrier_core.threads import in_thread

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from harrier_core.embedder import Embedder
    from harrier_core.records import Match
    from harrier_core.store import OpenStore
    from harrier_core.tasks import Task
    from harrier_core.types import Vectors

T = TypeVar("T")


class Near(TypedDict, total=False):
    """The keywords of every search. `Searching` explains them."""

    offset: int
    min_score: float | None
    exact: bool
    ef: int | None
    expand: Expand
    with_vectors: bool


class Asked(Near, total=False):
    """The keywords of a search by text."""

    mode: Mode
    keyword_weight: float | None


class Wanted(Asked, total=False):
    """The keywords of a search by text whose matches may be reordered."""

    rerank: Reranker | Diverse | None
    among: int | None


class Searching(ABC):
    """The searches of an Index. Every query gets the instruction.

    All of them take these keywords. where: conditions on metadata, as in `harrier_core.filters`: {"lang": "fr", "year":
    {"$gte": 2020}}. offset: how many matches to skip, for a second page (in "hybrid" each page is cut from lists of its
    own depth, so that the end of one may appear again in the next; so may one of many equal matches that an HNSW index
    finds). min_score: leave out matches with a lower score. exact: compare all chunks, even if there is an index. ef:
    how many candidates the HNSW index considers; more of them find more, and take longer. expand: give each match the
    chunks around it in `around` and `passage`, the given number on either side, or "record" for all of its record.
    with_vectors: give each match its own, in `vector`. `exact` and `ef` only concern vectors, not words.

    Searches by text take these as well. mode: "dense" finds by meaning, "keyword" by word and without the model, and
    "hybrid" by both; the last two need a store made with `keywords=True`, or `add_keywords`. A match's score is its
    cosine in "dense", BM25 in "keyword", and in "hybrid" its share of the best possible places in both lists, from 0 to
    1.
    keyword_weight: how much the list of words counts in "hybrid", relative to that of vectors; by default 0.5, and 4 if
    the query has a code, such as a part number, that the best match by word has too. rerank: what reorders the `among`
    (50) best: a `Reranker`, whose number is then a match's score, or `Diverse`.
    """

    encoder: Embedder

    @abstractmethod
    def _opened(self) -> OpenStore:
        """Return the store, open for the encoder's space. It costs nothing if it is open already."""

    @abstractmethod
    def _with_store(self, work: Callable[[OpenStore, Embedder], T]) -> T:
        """Return what `work` returns for the open store and the encoder of its space; it may be called again."""

    @abstractmethod
    async def _awith_store(self, work: Callable[[OpenStore, Embedder], Awaitable[T]]) -> T:
        """Do what `_with_store` does, without holding up the event loop."""

    def search(
        self,
        query: str,
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        **wanted: Unpack[Wanted],
    ) -> list[Match]:
        """Return the k chunks that best answer a query, best first; it is encoded for `task` or the encoder's own.

        See `Searching` for the other keywords.
        """
        [matches] = self._found([query], task, options_of(k, where, wanted, Wanted))
        return matches

    def search_many(
        self,
        queries: Iterable[str],
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        **wanted: Unpack[Wanted],
    ) -> list[list[Match]]:
        """Return what `search` does for each query; they are encoded together, and the store is asked once."""
        return self._found(queries, task, options_of(k, where, wanted, Wanted))

    def search_diverse(
        self,
        query: str,
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        among: int = 20,
        relevance: float = 0.5,
        **asked: Unpack[Asked],
    ) -> list[Match]:
        """Return k of the `among` best chunks, chosen so that they say different things.

        It is `search` with `rerank=Diverse(relevance)`: 1 considers only scores, 0 only difference. See `Searching` for
        the other keywords.
        """
        diverse = options_of(k, where, asked, Asked, rerank=Diverse(relevance), among=among)
        [matches] = self._found([query], task, diverse)
        return matches

    def search_vectors(
        self,
        vectors: ArrayLike,
        k: int = 5,
        where: Where | None = None,
        *,
        queries: Iterable[str] | None = None,
        **wanted: Unpack[Wanted],
    ) -> list[list[Match]]:
        """Return what `search` does for queries that were encoded before, one per row, by an encoder of the same space.

        queries: their texts, which mode="hybrid" and a Reranker need. See `Searching` for the other keywords.
        """
        return self._near(vectors, queries, options_of(k, where, wanted, Wanted))

    async def asearch(
        self,
        query: str,
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        **wanted: Unpack[Wanted],
    ) -> list[Match]:
        """Return what `search` does, without holding up the event loop."""
        [matches] = await self._afound([query], task, options_of(k, where, wanted, Wanted))
        return matches

    async def asearch_many(
        self,
        queries: Iterable[str],
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        **wanted: Unpack[Wanted],
    ) -> list[list[Match]]:
        """Return what `search_many` does, without holding up the event loop."""
        return await self._afound(queries, task, options_of(k, where, wanted, Wanted))

    async def asearch_diverse(
        self,
        query: str,
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        among: int = 20,
        relevance: float = 0.5,
        **asked: Unpack[Asked],
    ) -> list[Match]:
        """Return what `search_diverse` does, without holding up the event loop."""
        diverse = options_of(k, where, asked, Asked, rerank=Diverse(relevance), among=among)
        [matches] = await self._afound([query], task, diverse)
        return matches

    async def asearch_vectors(
        self,
        vectors: ArrayLike,
        k: int = 5,
        where: Where | None = None,
        *,
        queries: Iterable[str] | None = None,
        **wanted: Unpack[Wanted],
    ) -> list[list[Match]]:
        """Return what `search_vectors` does, without holding up the event loop."""
        return await in_thread(self._near, vectors, queries, options_of(k, where, wanted, Wanted))

    # -- options are checked and the store is opened before the model runs

    def _found(self, queries: Iterable[str], task: str | Task | None, options: Options) -> list[list[Match]]:
        given = listed(queries)

        def found(store: OpenStore, encoder: Embedder) -> list[list[Match]]:
            texts = texts_of(given, store, options)
            vectors = encoder.encode_queries(texts, task=task) if options.by_vector else None
            return matches_of(store, texts, vectors, options)

        return self._with_store(found)

    async def _afound(self, queries: Iterable[str], task: str | Task | None, options: Options) -> list[list[Match]]:
        given = await in_thread(listed, queries)

        async def found(store: OpenStore, encoder: Embedder) -> list[list[Match]]:
            texts = await in_thread(texts_of, given, store, options)
            vectors = await encoder.aencode_queries(texts, task=task) if options.by_vector else None
            return await in_thread(matches_of, store, texts, vectors, options)

        return await self._awith_store(found)

    def _near(self, vectors: ArrayLike, queries: Iterable[str] | None, options: Options) -> list[list[Match]]:
        _check_by_vector(options, queries)
        store = self._opened()
        rows = _rows(vectors, self.encoder.dimensions)
        texts = [""] * len(rows) if queries is None else texts_of(queries, store, options)
        if len(texts) != len(rows):
            raise SettingError(f"queries must have one text for each vector, got {len(texts)} for {len(rows)}")
        return matches_of(store, texts, rows, options)


def _check_by_vector(options: Options, queries: Iterable[str] | None) -> None:
    if options.mode == "keyword":
        raise SettingError("mode='keyword' matches words, not vectors; use search or search_words")
    if queries is None and options.mode == "hybrid":
        raise SettingError("mode='hybrid' needs the words of the queries; pass queries to search_vectors as well")
    if queries is None and not isinstance(options.rerank, Diverse | None):
        raise SettingError("rerank needs the texts of the queries; pass queries to search_vectors as well")


def _rows(vectors: ArrayLike, dimensions: int) -> Vectors:
    """Return a caller's vectors at unit length."""
    import numpy as np

    rows = np.array(vectors, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != dimensions:
        raise SettingError(f"vectors must be rows of {dimensions} numbers, got an array of shape {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and lengths.all()):
        raise SettingError("a vector is zero or not finite, so it has no direction")
    return np.asarray(rows / lengths, dtype=np.float32)
