"""What an Index finds: queries to vectors, vectors to matches."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from harrier_core.diversity import diverse
from harrier_core.errors import SettingError
from harrier_core.filters import parse
from harrier_core.query import Search

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from harrier_core.embedder import Embedder
    from harrier_core.filters import Condition
    from harrier_core.records import Match
    from harrier_core.store import OpenStore
    from harrier_core.tasks import Task
    from harrier_core.types import Vectors


class Searching(ABC):
    """The searches of an Index. The instruction is on every query."""

    encoder: Embedder

    @abstractmethod
    def _opened(self) -> OpenStore:
        """Return the store, open for the encoder's space; where it is open already, it costs nothing."""

    def search(
        self, query: str, k: int = 5, where: Mapping[str, Any] | None = None, *, task: str | Task | None = None
    ) -> list[Match]:
        """Return the k chunks nearest to a query, best first, encoded for `task` or the encoder's own.

        where: conditions on metadata, as in `harrier_core.filters`: {"lang": "fr", "year": {"$gte": 2020}}.
        """
        [matches] = self.search_many([query], k, where, task=task)
        return matches

    def search_many(
        self,
        queries: Iterable[str],
        k: int = 5,
        where: Mapping[str, Any] | None = None,
        *,
        task: str | Task | None = None,
    ) -> list[list[Match]]:
        """Return what `search` does for each query; they are encoded together, and the store is asked once."""
        store, condition = self._ready(k, where)
        return store.search(Search(self.encoder.encode_queries(queries, task=task), k, condition))

    def search_diverse(
        self,
        query: str,
        k: int = 5,
        where: Mapping[str, Any] | None = None,
        *,
        task: str | Task | None = None,
        among: int = 20,
        relevance: float = 0.5,
    ) -> list[Match]:
        """Return k of the `among` nearest chunks, chosen so that they say different things.

        relevance: 1 looks at nearness to the query only, 0 at difference only (maximal marginal relevance).
        """
        store, condition = self._ready(k, where)
        vectors = self.encoder.encode_queries([query], task=task)
        [matches] = store.search(Search(vectors, max(k, among), condition, with_vectors=True))
        return diverse(matches, k, relevance)

    def search_vectors(
        self,
        vectors: ArrayLike,
        k: int = 5,
        where: Mapping[str, Any] | None = None,
        *,
        exact: bool = False,
        with_vectors: bool = False,
    ) -> list[list[Match]]:
        """Return what `search` does for queries that were encoded before, one a row, by an encoder of the same space.

        exact: compare all chunks, also where there is an index, to know what an index misses. with_vectors: matches
        carry their own, as `diversity.diverse` needs them.
        """
        store, condition = self._ready(k, where)
        return store.search(Search(self._rows(vectors), k, condition, exact, with_vectors))

    async def asearch(
        self, query: str, k: int = 5, where: Mapping[str, Any] | None = None, *, task: str | Task | None = None
    ) -> list[Match]:
        """Return what `search` does, without holding up the event loop."""
        [matches] = await self.asearch_many([query], k, where, task=task)
        return matches

    async def asearch_many(
        self,
        queries: Iterable[str],
        k: int = 5,
        where: Mapping[str, Any] | None = None,
        *,
        task: str | Task | None = None,
    ) -> list[list[Match]]:
        """Return what `search_many` does, without holding up the event loop."""
        store, condition = await asyncio.to_thread(self._ready, k, where)
        vectors = await self.encoder.aencode_queries(queries, task=task)
        return await asyncio.to_thread(store.search, Search(vectors, k, condition))

    async def asearch_diverse(
        self,
        query: str,
        k: int = 5,
        where: Mapping[str, Any] | None = None,
        *,
        task: str | Task | None = None,
        among: int = 20,
        relevance: float = 0.5,
    ) -> list[Match]:
        """Return what `search_diverse` does, without holding up the event loop."""
        store, condition = await asyncio.to_thread(self._ready, k, where)
        vectors = await self.encoder.aencode_queries([query], task=task)
        search = Search(vectors, max(k, among), condition, with_vectors=True)
        [matches] = await asyncio.to_thread(store.search, search)
        return diverse(matches, k, relevance)

    async def asearch_vectors(
        self,
        vectors: ArrayLike,
        k: int = 5,
        where: Mapping[str, Any] | None = None,
        *,
        exact: bool = False,
        with_vectors: bool = False,
    ) -> list[list[Match]]:
        """Return what `search_vectors` does, without holding up the event loop."""
        search = partial(self.search_vectors, vectors, k, where, exact=exact, with_vectors=with_vectors)
        return await asyncio.to_thread(search)

    def _ready(self, k: int, where: Mapping[str, Any] | None) -> tuple[OpenStore, Condition | None]:
        """Whatever can be wrong with a search is found before the model runs."""
        if type(k) is not int or k < 1:
            raise SettingError(f"k is a whole number above zero, not {k!r}")
        if k >= 2**31:  # beyond it the stores have errors of their own
            raise SettingError(f"k is a whole number below 2**31, not {k}")
        condition = parse(where)
        return self._opened(), condition

    def _rows(self, vectors: ArrayLike) -> Vectors:
        """Vectors of a caller's, at unit length."""
        import numpy as np

        dimensions = self.encoder.dimensions
        rows = np.array(vectors, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != dimensions:
            raise SettingError(f"vectors are rows of {dimensions} numbers, not an array of shape {rows.shape}")
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise SettingError("a vector is not finite, or zero: it points nowhere")
        return np.asarray(rows / lengths, dtype=np.float32)
