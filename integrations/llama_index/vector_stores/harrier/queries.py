"""LlamaIndex's queries as searches of an Index."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypedDict

from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from llama_index.vector_stores.harrier.filters import SOURCE, Where, where_of
from llama_index.vector_stores.harrier.restricting import Restriction

from harrier_core import Diverse, Mode, Reranker, SettingError
from harrier_core.options import Expand

if TYPE_CHECKING:
    from harrier_core import Index, Match

# The defaults for maximal marginal relevance in LlamaIndex's own stores.
_RELEVANCE, _FACTOR = 0.5, 4.0

_MODES: dict[VectorStoreQueryMode, Mode] = {
    VectorStoreQueryMode.DEFAULT: "dense",
    VectorStoreQueryMode.MMR: "dense",
    VectorStoreQueryMode.HYBRID: "hybrid",
    VectorStoreQueryMode.SPARSE: "keyword",
    VectorStoreQueryMode.TEXT_SEARCH: "keyword",
}


# LlamaIndex's signature accepts any keyword; by naming them here, type checkers find a misspelt one.
class Wanted(TypedDict, total=False):
    """The keywords of a query. `HarrierVectorStore.query` explains them."""

    offset: int
    score_threshold: float | None
    exact: bool
    ef: int | None
    expand: Expand
    rerank: Reranker | Diverse | None
    among: int | None
    mmr_threshold: float | None
    mmr_prefetch_factor: float | None
    mmr_prefetch_k: int | None


KEYWORDS = tuple(Wanted.__annotations__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, in terms of an Index."""

    text: str | None
    vector: Sequence[float] | None  # without it the Index encodes the text
    node_ids: Sequence[str] | None  # None or an empty list: all nodes
    where: Where | None
    options: dict[str, Any]  # options of a search, under the Index's own names

    @classmethod
    def of(cls, query: VectorStoreQuery, wanted: Wanted, *, with_embeddings: bool) -> Self:
        """Return the query in terms of an Index. Raise SettingError if an Index cannot answer it."""
        mode, weight = _mode(query)
        mmr = query.mode == VectorStoreQueryMode.MMR
        ranking = {"rerank": wanted.get("rerank"), "among": wanted.get("among")}
        chooser: dict[str, Any] = _diversity(query, wanted) if mmr else ranking
        _check(query, wanted, mode, chooser["rerank"])
        near = {name: value for name, value in wanted.items() if name in ("offset", "exact", "ef", "expand")}
        least = {"min_score": wanted.get("score_threshold"), "with_vectors": with_embeddings}
        words = {"mode": mode, "keyword_weight": weight}
        options: dict[str, Any] = {"k": _k(query), **near, **least, **words, **chooser}
        return cls(query.query_str, query.query_embedding, query.node_ids, _where(query), options)

    def matches(self, index: Index, listed: set[str]) -> list[Match]:
        """Return the matches that an Index finds. listed: ids of nodes that `Restriction` knows; it adds more."""
        if not self.node_ids:
            return self._found(index, self.options)
        restriction = Restriction.of(self.node_ids, index, listed)
        return restriction.matches(index, self, lambda options: self._found(index, options))

    async def amatches(self, index: Index, listed: set[str]) -> list[Match]:
        """Return what `matches` returns, without blocking the event loop."""
        if self.node_ids:
            return await asyncio.to_thread(self.matches, index, listed)
        if self.vector is not None and self.options["mode"] != "keyword":
            searching = index.asearch_vectors([self.vector], where=self.where, queries=self._queries, **self.options)
            return (await searching)[0]
        return await index.asearch(self.text or "", where=self.where, **self.options)

    def _found(self, index: Index, options: dict[str, Any]) -> list[Match]:
        if self.vector is not None and options["mode"] != "keyword":
            return index.search_vectors([self.vector], where=self.where, queries=self._queries, **options)[0]
        return index.search(self.text or "", where=self.where, **options)

    @property
    def _queries(self) -> list[str] | None:
        return None if self.text is None else [self.text]


def _where(query: VectorStoreQuery) -> Where | None:
    parts = [where_of(query.filters), None if query.doc_ids is None else {SOURCE: {"$in": query.doc_ids}}]
    said = [part for part in parts if part is not None]
    return {"$and": said} if said else None


def _check(query: VectorStoreQuery, wanted: Wanted, mode: Mode, chooser: Reranker | Diverse | None) -> None:
    """Raise SettingError if something is missing, or conflicts with something else."""
    named = f"mode {VectorStoreQueryMode(query.mode).value!r}"
    if query.query_embedding is None and query.query_str is None:
        raise SettingError("a query has neither an embedding nor a text; pass query_str")
    if query.query_str is None and (mode != "dense" or not isinstance(chooser, Diverse | None)):
        what = "rerank" if mode == "dense" else named
        raise SettingError(f"{what} needs the words of the query; pass query_str")
    if query.mode == VectorStoreQueryMode.MMR and wanted.get("offset"):
        raise SettingError("offset cannot be used with mode 'mmr', where each choice depends on the previous ones")


def _mode(query: VectorStoreQuery) -> tuple[Mode, float | None]:
    """Return how an Index searches, and the weight of words relative to the vector's 1; None leaves it to the Index."""
    mode = _MODES.get(query.mode)
    if mode is None:
        known = ", ".join(repr(each.value) for each in _MODES)
        raise SettingError(f"mode must be one of {known}, got {VectorStoreQueryMode(query.mode).value!r}")
    alpha = query.alpha
    if mode != "hybrid" or alpha is None:
        return mode, None
    if not 0 <= alpha <= 1:
        raise SettingError(f"alpha must be from 0, for words alone, to 1, for vectors alone, got {alpha!r}")
    if alpha in (0, 1):
        return "dense" if alpha else "keyword", None
    return mode, (1 - alpha) / alpha


def _k(query: VectorStoreQuery) -> int:
    """Return how many nodes to find: by word and by both, the number has other names."""
    own = {"hybrid": query.hybrid_top_k, "keyword": query.sparse_top_k}.get(_MODES[query.mode])
    return query.similarity_top_k if own is None else own


def _diversity(query: VectorStoreQuery, wanted: Wanted) -> dict[str, Any]:
    """Return the options for choosing diverse nodes, and from how many."""
    if wanted.get("rerank") is not None or wanted.get("among") is not None:
        raise SettingError("rerank and among cannot be used with mode 'mmr', which chooses from mmr_prefetch_k itself")
    k, factor, number = query.similarity_top_k, wanted.get("mmr_prefetch_factor"), wanted.get("mmr_prefetch_k")
    if factor is not None and number is not None:
        raise SettingError("mmr_prefetch_factor and mmr_prefetch_k are one setting; give one of them")
    among = int(k * (_FACTOR if factor is None else factor)) if number is None else number
    threshold = wanted.get("mmr_threshold") if query.mmr_threshold is None else query.mmr_threshold
    return {"rerank": Diverse(_RELEVANCE if threshold is None else threshold), "among": max(k, among)}
