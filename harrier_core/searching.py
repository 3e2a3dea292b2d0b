"""What an Index finds: queries to vectors, vectors to matches."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harrier_core.errors import SettingError
from harrier_core.filters import parse
from harrier_core.options import Expand, Options
from harrier_core.passages import expanded

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from harrier_core.embedder import Embedder
    from harrier_core.records import Match
    from harrier_core.store import OpenStore
    from harrier_core.tasks import Task
    from harrier_core.types import Vectors

log = logging.getLogger(__name__)

Where = Mapping[str, Any]


class Searching(ABC):
    """The searches of an Index. The instruction is on every query.

    All of them take these keywords. where: conditions on metadata, as in `harrier_core.filters`: {"lang": "fr",
    "year": {"$gte": 2020}}. min_score: leave out matches with a lower score. exact: compare all chunks, also where
    there is an index. ef: how many candidates the HNSW index keeps in sight; more find more, and take longer. expand:
    give each match the chunks around it in `around` and `passage`, so many on either side, or "record" for all of its
    record.
    """

    encoder: Embedder

    @abstractmethod
    def _opened(self) -> OpenStore:
        """Return the store, open for the encoder's space; where it is open already, it costs nothing."""

    def search(
        self,
        query: str,
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        offset: int = 0,
        min_score: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
    ) -> list[Match]:
        """Return the k chunks nearest to a query, best first, encoded for `task` or the encoder's own.

        offset: leave out the first so many, for a second page. See `Searching` for the other keywords.
        """
        [matches] = self._found([query], task, Options(k, parse(where), offset, min_score, exact, ef, expand))
        return matches

    def search_many(
        self,
        queries: Iterable[str],
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        offset: int = 0,
        min_score: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
    ) -> list[list[Match]]:
        """Return what `search` does for each query; they are encoded together, and the store is asked once."""
        return self._found(queries, task, Options(k, parse(where), offset, min_score, exact, ef, expand))

    def search_diverse(
        self,
        query: str,
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        among: int = 20,
        relevance: float = 0.5,
        min_score: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
    ) -> list[Match]:
        """Return k of the `among` nearest chunks, chosen so that they say different things.

        relevance: 1 looks at nearness to the query only, 0 at difference only (maximal marginal relevance). See
        `Searching` for the other keywords.
        """
        diverse = Options(k, parse(where), 0, min_score, exact, ef, expand, among=among, relevance=relevance)
        [matches] = self._found([query], task, diverse)
        return matches

    def search_vectors(
        self,
        vectors: ArrayLike,
        k: int = 5,
        where: Where | None = None,
        *,
        offset: int = 0,
        min_score: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        with_vectors: bool = False,
    ) -> list[list[Match]]:
        """Return what `search` does for queries that were encoded before, one a row, by an encoder of the same space.

        with_vectors: matches carry their own, as `diversity.diverse` needs them. See `Searching` for the others.
        """
        options = Options(k, parse(where), offset, min_score, exact, ef, expand, with_vectors)
        return self._near(vectors, options)

    async def asearch(
        self,
        query: str,
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        offset: int = 0,
        min_score: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
    ) -> list[Match]:
        """Return what `search` does, without holding up the event loop."""
        [matches] = await self._afound([query], task, Options(k, parse(where), offset, min_score, exact, ef, expand))
        return matches

    async def asearch_many(
        self,
        queries: Iterable[str],
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        offset: int = 0,
        min_score: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
    ) -> list[list[Match]]:
        """Return what `search_many` does, without holding up the event loop."""
        return await self._afound(queries, task, Options(k, parse(where), offset, min_score, exact, ef, expand))

    async def asearch_diverse(
        self,
        query: str,
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        among: int = 20,
        relevance: float = 0.5,
        min_score: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
    ) -> list[Match]:
        """Return what `search_diverse` does, without holding up the event loop."""
        diverse = Options(k, parse(where), 0, min_score, exact, ef, expand, among=among, relevance=relevance)
        [matches] = await self._afound([query], task, diverse)
        return matches

    async def asearch_vectors(
        self,
        vectors: ArrayLike,
        k: int = 5,
        where: Where | None = None,
        *,
        offset: int = 0,
        min_score: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        with_vectors: bool = False,
    ) -> list[list[Match]]:
        """Return what `search_vectors` does, without holding up the event loop."""
        options = Options(k, parse(where), offset, min_score, exact, ef, expand, with_vectors)
        return await asyncio.to_thread(self._near, vectors, options)

    # -- options were checked and the store is open before the model runs

    def _found(self, queries: Iterable[str], task: str | Task | None, options: Options) -> list[list[Match]]:
        store = self._opened()
        return _matches(store, self.encoder.encode_queries(queries, task=task), options)

    async def _afound(self, queries: Iterable[str], task: str | Task | None, options: Options) -> list[list[Match]]:
        store = await asyncio.to_thread(self._opened)
        vectors = await self.encoder.aencode_queries(queries, task=task)
        return await asyncio.to_thread(_matches, store, vectors, options)

    def _near(self, vectors: ArrayLike, options: Options) -> list[list[Match]]:
        store = self._opened()
        return _matches(store, _rows(vectors, self.encoder.dimensions), options)


def _matches(store: OpenStore, vectors: Vectors, options: Options) -> list[list[Match]]:
    found = [options.chosen(each) for each in store.search(options.search(vectors))]
    log.debug("%d queries answered with %d matches", len(found), sum(map(len, found)))
    return expanded(found, options.expand, store)


def _rows(vectors: ArrayLike, dimensions: int) -> Vectors:
    """Vectors of a caller's, at unit length."""
    import numpy as np

    rows = np.array(vectors, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != dimensions:
        raise SettingError(f"vectors are rows of {dimensions} numbers, not an array of shape {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and lengths.all()):
        raise SettingError("a vector is not finite, or zero: it points nowhere")
    return np.asarray(rows / lengths, dtype=np.float32)
