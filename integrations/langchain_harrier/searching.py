"""Searches of a HarrierVectorStore for a query: LangChain's names for those of an Index."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Unpack

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStoreRetriever

from harrier_core import Diverse, InputWarning, Match, SettingError
from harrier_core.blanks import blank
from harrier_core.foreign import unknown_keyword
from langchain_harrier.keywords import RETRIEVER, SEARCH, Asked, AskedPages, options_of, refuse_unknown
from langchain_harrier.reading import Reading, afound, found


class Searching(Reading):
    """The searches of a vector store over an Index, for a query.

    All of them take these keywords. filter, where: conditions on metadata, as in `harrier_core.filters`; both apply if
    both are given. task: what the query is encoded for. score_threshold: leave out documents with a lower score. exact:
    compare all chunks. ef: how many candidates the HNSW index considers. expand: how many chunks on either side, or
    "record" for all, are added to the text that is found. mode: "dense" finds by meaning, "keyword" by word and without
    the model, "hybrid" by both; the last two need an index made with `keywords=True`. keyword_weight: how much words
    count in "hybrid", relative to meaning; by default it depends on the query.

    All except those that choose diverse documents take these as well. offset: how many documents to skip.
    rerank: a `harrier_core.Reranker`, which reorders the `among` (50) best, or `Diverse`.

    A score is the cosine, in "keyword" the BM25, in "hybrid" the share of the best possible places, from 0 to 1, and
    with a Reranker its own number.
    """

    def as_retriever(self, **kwargs: Any) -> VectorStoreRetriever:
        """Return a retriever for this vector store; `search_kwargs` are used in each of its searches."""
        for name in kwargs:
            if name in SEARCH or name == "k":
                raise SettingError(f"as_retriever got an unknown keyword, {name!r}: put it in search_kwargs={{...}}")
            if name not in RETRIEVER:  # pydantic would ignore it
                raise unknown_keyword("as_retriever", name, RETRIEVER)
        return super().as_retriever(**kwargs)

    def similarity_search(  # type: ignore[override]
        self, query: str, k: int = 4, **kwargs: Unpack[AskedPages]
    ) -> list[Document]:
        """Return the k documents nearest to a query, best first. See `Searching` for the keywords."""
        options = options_of("similarity_search", kwargs, AskedPages)
        return self._documents(self._search(query, k, options))

    async def asimilarity_search(  # type: ignore[override]
        self, query: str, k: int = 4, **kwargs: Unpack[AskedPages]
    ) -> list[Document]:
        """Return what `similarity_search` returns, without blocking the event loop."""
        options = options_of("asimilarity_search", kwargs, AskedPages)
        return self._documents(await self._asearch(query, k, options))

    def similarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Unpack[AskedPages]
    ) -> list[tuple[Document, float]]:
        """Return the k documents nearest to a query with their scores, best first: higher is better."""
        options = options_of("similarity_search_with_score", kwargs, AskedPages)
        return self._scored(self._search(query, k, options))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Unpack[AskedPages]
    ) -> list[tuple[Document, float]]:
        """Return what `similarity_search_with_score` returns, without blocking the event loop."""
        options = options_of("asimilarity_search_with_score", kwargs, AskedPages)
        return self._scored(await self._asearch(query, k, options))

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Return a function that returns the score itself; a negative cosine is as irrelevant as 0."""
        return lambda score: min(max(score, 0.0), 1.0)

    def similarity_search_with_relevance_scores(  # type: ignore[override]
        self, query: str, k: int = 4, **kwargs: Unpack[AskedPages]
    ) -> list[tuple[Document, float]]:
        """Return the k documents nearest to a query with their relevance, from 0 to 1, best first.

        It is the cosine. Raise SettingError if scores are no cosines: those of "keyword", of "hybrid", and of a
        Reranker. score_threshold: leave out documents with a lower relevance. See `Searching` for the others.
        """
        _check_relevance("similarity_search_with_relevance_scores", kwargs)
        return super().similarity_search_with_relevance_scores(query, k, **kwargs)

    async def asimilarity_search_with_relevance_scores(  # type: ignore[override]
        self, query: str, k: int = 4, **kwargs: Unpack[AskedPages]
    ) -> list[tuple[Document, float]]:
        """Return what `similarity_search_with_relevance_scores` returns, without blocking the event loop."""
        _check_relevance("asimilarity_search_with_relevance_scores", kwargs)
        return await super().asimilarity_search_with_relevance_scores(query, k, **kwargs)

    def max_marginal_relevance_search(  # type: ignore[override]
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Unpack[Asked]
    ) -> list[Document]:
        """Return k of the `fetch_k` nearest documents that say different things, in the order of selection.

        lambda_mult: 1 considers only nearness to the query, 0 only difference. See `Searching` for the others.
        """
        options = options_of("max_marginal_relevance_search", kwargs, Asked, "fetch_k", "lambda_mult")
        if not _asks(query):
            return []
        matches = found(lambda: self.index.search_diverse(query, k, among=fetch_k, relevance=lambda_mult, **options))
        return self._documents(matches)

    async def amax_marginal_relevance_search(  # type: ignore[override]
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Unpack[Asked]
    ) -> list[Document]:
        """Return what `max_marginal_relevance_search` returns, without blocking the event loop."""
        options = options_of("amax_marginal_relevance_search", kwargs, Asked, "fetch_k", "lambda_mult")
        if not _asks(query):
            return []
        searching = self.index.asearch_diverse(query, k, among=fetch_k, relevance=lambda_mult, **options)
        return self._documents(await afound(searching))

    def _search(self, query: str, k: int, options: Mapping[str, Any]) -> list[Match]:
        if not _asks(query, 4):
            return []
        return found(lambda: self.index.search(query, k, **options))

    async def _asearch(self, query: str, k: int, options: Mapping[str, Any]) -> list[Match]:
        if not _asks(query, 4):
            return []
        return await afound(self.index.asearch(query, k, **options))


def _asks(query: str, stacklevel: int = 3) -> bool:
    """Return whether there is something in a query to search for."""
    if blank(query):
        warnings.warn("the query is empty or blank, so nothing was searched for", InputWarning, stacklevel)
        return False
    return True


def _check_relevance(method: str, given: Mapping[str, Any]) -> None:
    """Raise SettingError if the scores of a search are no cosines: the same threshold would mean something else."""
    refuse_unknown(method, given, AskedPages.__annotations__)
    if not isinstance(given.get("rerank"), Diverse | None):
        score = "a Reranker's score"
    elif given.get("mode") == "keyword":
        score = "a BM25 score"
    elif given.get("mode") == "hybrid":
        score = "the score of mode='hybrid'"
    else:
        return
    instead = method.replace("relevance_scores", "score")
    raise SettingError(f"{method} returns cosines, not {score}; use {instead}")
