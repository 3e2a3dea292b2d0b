"""Searches of a HarrierVectorStore for a vector: of a query that was embedded before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import Document

from harrier_core import Match
from harrier_core.diversity import diverse
from langchain_harrier.keywords import (
    DIVERSE_BY_VECTOR,
    SEARCH_BY_VECTOR,
    Expand,
    Options,
    Where,
    options_of,
    refuse_unknown,
)
from langchain_harrier.reading import Reading, afound, found


class SearchingByVector(Reading):
    """The searches of a vector store over an Index, for the vector of a query. `Searching` has their keywords."""

    def similarity_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        score_threshold: float | None = None,
        offset: int = 0,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[Document]:
        """Return the k documents nearest to the vector of a query, best first."""
        refuse_unknown("similarity_search_by_vector", kwargs, SEARCH_BY_VECTOR)
        options = options_of(filter, where, score_threshold, exact, ef, expand)
        return self._documents(self._nearest(embedding, k, offset, options))

    async def asimilarity_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        score_threshold: float | None = None,
        offset: int = 0,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[Document]:
        """Return what `similarity_search_by_vector` does, without holding up the event loop."""
        refuse_unknown("asimilarity_search_by_vector", kwargs, SEARCH_BY_VECTOR)
        options = options_of(filter, where, score_threshold, exact, ef, expand)
        return self._documents(await self._anearest(embedding, k, offset, options))

    def similarity_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        score_threshold: float | None = None,
        offset: int = 0,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """Return the k documents nearest to the vector of a query with their cosines, best first."""
        refuse_unknown("similarity_search_with_score_by_vector", kwargs, SEARCH_BY_VECTOR)
        options = options_of(filter, where, score_threshold, exact, ef, expand)
        return self._scored(self._nearest(embedding, k, offset, options))

    async def asimilarity_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        score_threshold: float | None = None,
        offset: int = 0,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """Return what `similarity_search_with_score_by_vector` does, without holding up the event loop."""
        refuse_unknown("asimilarity_search_with_score_by_vector", kwargs, SEARCH_BY_VECTOR)
        options = options_of(filter, where, score_threshold, exact, ef, expand)
        return self._scored(await self._anearest(embedding, k, offset, options))

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        score_threshold: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[Document]:
        """Return what `max_marginal_relevance_search` does, for the vector of a query."""
        refuse_unknown("max_marginal_relevance_search_by_vector", kwargs, DIVERSE_BY_VECTOR)
        options = options_of(filter, where, score_threshold, exact, ef, expand)
        among = self._nearest(embedding, max(k, fetch_k), 0, options, with_vectors=True)
        return self._documents(diverse(among, k, lambda_mult))

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        score_threshold: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[Document]:
        """Return what `max_marginal_relevance_search_by_vector` does, without holding up the event loop."""
        refuse_unknown("amax_marginal_relevance_search_by_vector", kwargs, DIVERSE_BY_VECTOR)
        options = options_of(filter, where, score_threshold, exact, ef, expand)
        among = await self._anearest(embedding, max(k, fetch_k), 0, options, with_vectors=True)
        return self._documents(diverse(among, k, lambda_mult))

    def max_marginal_relevance_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        score_threshold: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """Return what `max_marginal_relevance_search_by_vector` does, with the cosines."""
        refuse_unknown("max_marginal_relevance_search_with_score_by_vector", kwargs, DIVERSE_BY_VECTOR)
        options = options_of(filter, where, score_threshold, exact, ef, expand)
        among = self._nearest(embedding, max(k, fetch_k), 0, options, with_vectors=True)
        return self._scored(diverse(among, k, lambda_mult))

    async def amax_marginal_relevance_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        score_threshold: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """Return what `max_marginal_relevance_search_with_score_by_vector` does, without holding up the event loop."""
        refuse_unknown("amax_marginal_relevance_search_with_score_by_vector", kwargs, DIVERSE_BY_VECTOR)
        options = options_of(filter, where, score_threshold, exact, ef, expand)
        among = await self._anearest(embedding, max(k, fetch_k), 0, options, with_vectors=True)
        return self._scored(diverse(among, k, lambda_mult))

    def _nearest(
        self, embedding: Sequence[float], k: int, offset: int, options: Options, *, with_vectors: bool = False
    ) -> list[Match]:
        return _first(
            found(
                lambda: self.index.search_vectors([embedding], k, offset=offset, with_vectors=with_vectors, **options)
            )
        )

    async def _anearest(
        self, embedding: Sequence[float], k: int, offset: int, options: Options, *, with_vectors: bool = False
    ) -> list[Match]:
        searching = self.index.asearch_vectors([embedding], k, offset=offset, with_vectors=with_vectors, **options)
        return _first(await afound(searching))


def _first(matches: list[list[Match]]) -> list[Match]:
    return matches[0] if matches else []
