"""Searches of a HarrierVectorStore by vector: for queries that were embedded before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from langchain_core.documents import Document

from harrier_core import Diverse, Match
from langchain_harrier.keywords import Near, NearPages, options_of
from langchain_harrier.reading import Reading, afound, found


class SearchingByVector(Reading):
    """The searches of a vector store over an Index by the vector of a query. `Searching` explains their keywords."""

    def similarity_search_by_vector(  # type: ignore[override]
        self, embedding: Sequence[float], k: int = 4, **kwargs: Unpack[NearPages]
    ) -> list[Document]:
        """Return the k documents nearest to the vector of a query, best first."""
        options = options_of("similarity_search_by_vector", kwargs, NearPages)
        return self._documents(self._nearest(embedding, k, options))

    async def asimilarity_search_by_vector(  # type: ignore[override]
        self, embedding: Sequence[float], k: int = 4, **kwargs: Unpack[NearPages]
    ) -> list[Document]:
        """Return what `similarity_search_by_vector` returns, without blocking the event loop."""
        options = options_of("asimilarity_search_by_vector", kwargs, NearPages)
        return self._documents(await self._anearest(embedding, k, options))

    def similarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = 4, **kwargs: Unpack[NearPages]
    ) -> list[tuple[Document, float]]:
        """Return the k documents nearest to the vector of a query with their cosines, best first."""
        options = options_of("similarity_search_with_score_by_vector", kwargs, NearPages)
        return self._scored(self._nearest(embedding, k, options))

    async def asimilarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = 4, **kwargs: Unpack[NearPages]
    ) -> list[tuple[Document, float]]:
        """Return what `similarity_search_with_score_by_vector` returns, without blocking the event loop."""
        options = options_of("asimilarity_search_with_score_by_vector", kwargs, NearPages)
        return self._scored(await self._anearest(embedding, k, options))

    def max_marginal_relevance_search_by_vector(  # type: ignore[override]
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Unpack[Near],
    ) -> list[Document]:
        """Return what `max_marginal_relevance_search` returns, for the vector of a query."""
        options = options_of("max_marginal_relevance_search_by_vector", kwargs, Near, "fetch_k", "lambda_mult")
        return self._documents(self._nearest(embedding, k, options | _diverse(k, fetch_k, lambda_mult)))

    async def amax_marginal_relevance_search_by_vector(  # type: ignore[override]
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Unpack[Near],
    ) -> list[Document]:
        """Return what `max_marginal_relevance_search_by_vector` returns, without blocking the event loop."""
        options = options_of("amax_marginal_relevance_search_by_vector", kwargs, Near, "fetch_k", "lambda_mult")
        return self._documents(await self._anearest(embedding, k, options | _diverse(k, fetch_k, lambda_mult)))

    def max_marginal_relevance_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Unpack[Near],
    ) -> list[tuple[Document, float]]:
        """Return what `max_marginal_relevance_search_by_vector` returns, with the cosines."""
        options = options_of(
            "max_marginal_relevance_search_with_score_by_vector", kwargs, Near, "fetch_k", "lambda_mult"
        )
        return self._scored(self._nearest(embedding, k, options | _diverse(k, fetch_k, lambda_mult)))

    async def amax_marginal_relevance_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Unpack[Near],
    ) -> list[tuple[Document, float]]:
        """Return what `max_marginal_relevance_search_with_score_by_vector` returns, without blocking the event loop."""
        options = options_of(
            "amax_marginal_relevance_search_with_score_by_vector", kwargs, Near, "fetch_k", "lambda_mult"
        )
        return self._scored(await self._anearest(embedding, k, options | _diverse(k, fetch_k, lambda_mult)))

    def _nearest(self, embedding: Sequence[float], k: int, options: Mapping[str, Any]) -> list[Match]:
        return _first(found(lambda: self.index.search_vectors([embedding], k, **options)))

    async def _anearest(self, embedding: Sequence[float], k: int, options: Mapping[str, Any]) -> list[Match]:
        return _first(await afound(self.index.asearch_vectors([embedding], k, **options)))


def _diverse(k: int, fetch_k: int, relevance: float) -> dict[str, Any]:
    return {"rerank": Diverse(relevance), "among": max(k, fetch_k)}


def _first(matches: list[list[Match]]) -> list[Match]:
    return matches[0] if matches else []
