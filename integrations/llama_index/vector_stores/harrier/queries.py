"""LlamaIndex's queries as searches of an Index."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from llama_index.vector_stores.harrier.filters import SOURCE, Where, where_of

from harrier_core import Match, SettingError
from harrier_core.diversity import diverse
from harrier_core.options import Expand, Options

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from harrier_core import Index

# Of maximal marginal relevance, as LlamaIndex's own stores have them.
_RELEVANCE, _FACTOR = 0.5, 4.0

_BY_WORDS = ("sparse", "hybrid", "semantic_hybrid", "text_search")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The keywords of a query."""

    offset: int = 0
    score_threshold: float | None = None
    exact: bool = False
    ef: int | None = None
    expand: Expand = 0
    mmr_threshold: float | None = None
    mmr_prefetch_factor: float | None = None
    mmr_prefetch_k: int | None = None


KEYWORDS = tuple(each.name for each in fields(Wanted))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a query asks for: matches near its vector, or near its text, which the Index encodes."""

    text: str
    vector: Sequence[float] | None
    node_ids: Sequence[str] | None  # nothing but these; a VectorStoreIndex sends an empty list with every query
    where: Where | None
    k: int
    among: int  # how many to choose from
    relevance: float  # how much nearness to the query counts in the choice
    mmr: bool
    with_vectors: bool
    wanted: Wanted

    @classmethod
    def of(cls, query: VectorStoreQuery, wanted: Wanted, *, with_embeddings: bool) -> Self:
        """Return what a query asks for. Raise SettingError if an Index cannot answer it."""
        among, relevance = _diversity(query, wanted)
        if query.query_embedding is None and query.query_str is None:
            raise SettingError("a query has neither an embedding nor a text; give it query_str")
        mmr = query.mode == VectorStoreQueryMode.MMR
        if mmr and wanted.offset:
            raise SettingError("offset is for the mode 'default': in 'mmr' each choice depends on those before it")
        if query.node_ids and wanted.expand:
            raise SettingError("expand is for searches of all nodes; leave out expand, or node_ids")
        return cls(
            text=query.query_str or "",
            vector=query.query_embedding,
            node_ids=query.node_ids,
            where=_where(query),
            k=query.similarity_top_k,
            among=among,
            relevance=relevance,
            mmr=mmr,
            with_vectors=mmr or with_embeddings,
            wanted=wanted,
        )

    def matches(self, index: Index) -> list[Match]:
        """Return what an Index finds."""
        if self.node_ids:
            vector = index.encoder.encode_queries([self.text])[0] if self.vector is None else self.vector
            return self._compared(index, vector)
        if self.vector is not None:
            return self._chosen(index.search_vectors([self.vector], self.among, self.where, **self._near())[0])
        if self.with_vectors:
            return index.search_diverse(self.text, **self._diverse())[self.wanted.offset :]
        return index.search(self.text, self.k, self.where, offset=self.wanted.offset, **self._depth())

    async def amatches(self, index: Index) -> list[Match]:
        """Return what `matches` does, without holding up the event loop."""
        if self.node_ids:
            vector = self.vector
            if vector is None:
                vector = (await index.encoder.aencode_queries([self.text]))[0]
            return await asyncio.to_thread(self._compared, index, vector)
        if self.vector is not None:
            [found] = await index.asearch_vectors([self.vector], self.among, self.where, **self._near())
            return await asyncio.to_thread(self._chosen, found)
        if self.with_vectors:
            return (await index.asearch_diverse(self.text, **self._diverse()))[self.wanted.offset :]
        return await index.asearch(self.text, self.k, self.where, offset=self.wanted.offset, **self._depth())

    def _depth(self) -> dict[str, Any]:
        wanted = self.wanted
        options = {"exact": wanted.exact, "ef": wanted.ef, "expand": wanted.expand}
        return {"min_score": wanted.score_threshold, **options}

    def _near(self) -> dict[str, Any]:
        return {"offset": self.wanted.offset, "with_vectors": self.with_vectors, **self._depth()}

    def _diverse(self) -> dict[str, Any]:
        """Return the keywords of a search by text whose matches have vectors; in their order where it is no MMR."""
        offset = self.wanted.offset
        counts = {"k": self.k + offset, "among": self.among + offset}
        return {"where": self.where, "relevance": self.relevance, **counts, **self._depth()}

    def _chosen(self, matches: list[Match]) -> list[Match]:
        return diverse(matches, self.k, self.relevance) if self.mmr else matches

    def _compared(self, index: Index, vector: ArrayLike) -> list[Match]:
        """The best of certain nodes, by looking at each: an id is no metadata that a store could filter by."""
        options = Options(self.among, None, self.wanted.offset, self.wanted.score_threshold)
        unit = np.asarray(vector, dtype=np.float32)
        unit = unit / max(float(np.linalg.norm(unit)), 1e-12)
        cosines = ((each, float(each.vector @ unit)) for each in index.read(self.node_ids, self.where))
        found = (Match(each.chunk, cosine, cosine, each.vector) for each, cosine in cosines)
        best = heapq.nlargest(self.among + self.wanted.offset, found, key=lambda match: match.score)
        return self._chosen(options.chosen("", best))


def _where(query: VectorStoreQuery) -> Where | None:
    parts = [where_of(query.filters), None if query.doc_ids is None else {SOURCE: {"$in": query.doc_ids}}]
    said = [part for part in parts if part is not None]
    return {"$and": said} if said else None


def _diversity(query: VectorStoreQuery, wanted: Wanted) -> tuple[int, float]:
    """Among how many to choose, and how much nearness to the query counts."""
    k, mode = query.similarity_top_k, VectorStoreQueryMode(query.mode)
    if mode == VectorStoreQueryMode.DEFAULT:
        return k, 1.0
    if mode != VectorStoreQueryMode.MMR:
        why = ", which searches by vectors alone" if mode.value in _BY_WORDS else ""
        raise SettingError(f"mode {mode.value!r} is not one of an Index's{why}; use 'default' or 'mmr'")
    factor, number = wanted.mmr_prefetch_factor, wanted.mmr_prefetch_k
    if factor is not None and number is not None:
        raise SettingError("mmr_prefetch_factor and mmr_prefetch_k say the same thing; give one of them")
    among = int(k * (_FACTOR if factor is None else factor)) if number is None else number
    threshold = wanted.mmr_threshold if query.mmr_threshold is None else query.mmr_threshold
    return max(k, among), _RELEVANCE if threshold is None else threshold
