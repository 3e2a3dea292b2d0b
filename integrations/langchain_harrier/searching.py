"""Searches of a HarrierVectorStore for a query: LangChain's names for those of an Index."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStoreRetriever

from harrier_core import InputWarning, Match, SettingError, Task
from harrier_core.blanks import blank
from harrier_core.foreign import unknown_keyword
from langchain_harrier.keywords import (
    DIVERSE,
    RETRIEVER,
    SEARCH,
    Expand,
    Options,
    Where,
    options_of,
    refuse_unknown,
)
from langchain_harrier.reading import Reading, afound, found


class Searching(Reading):
    """The searches of a vector store over an Index, for a query.

    All of them take these keywords. filter, where: conditions on metadata, as in `harrier_core.filters`; both, if there
    are both. task: what the query is encoded for. score_threshold: leave out documents with a lower cosine. exact:
    compare all chunks. ef: how many candidates the HNSW index keeps in sight. expand: so many chunks on either side, or
    "record" for all, are part of the text that is found. offset, unless documents are chosen for their difference:
    leave out the first so many.
    """

    def as_retriever(self, **kwargs: Any) -> VectorStoreRetriever:
        """Return a retriever over this vector store; what goes with each of its searches is in `search_kwargs`."""
        for name in kwargs:
            if name in SEARCH or name in DIVERSE or name == "k":
                raise SettingError(f"as_retriever got an unknown keyword, {name!r}: put it in search_kwargs={{...}}")
            if name not in RETRIEVER:  # which pydantic would overlook
                raise unknown_keyword("as_retriever", name, RETRIEVER)
        return super().as_retriever(**kwargs)

    def similarity_search(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        task: str | Task | None = None,
        score_threshold: float | None = None,
        offset: int = 0,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[Document]:
        """Return the k documents nearest to a query, best first. See `Searching` for the keywords."""
        refuse_unknown("similarity_search", kwargs, SEARCH)
        options = options_of(filter, where, score_threshold, exact, ef, expand)
        return self._documents(self._search(query, k, task, offset, options))

    async def asimilarity_search(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        task: str | Task | None = None,
        score_threshold: float | None = None,
        offset: int = 0,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[Document]:
        """Return what `similarity_search` does, without holding up the event loop."""
        refuse_unknown("asimilarity_search", kwargs, SEARCH)
        options = options_of(filter, where, score_threshold, exact, ef, expand)
        return self._documents(await self._asearch(query, k, task, offset, options))

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        task: str | Task | None = None,
        score_threshold: float | None = None,
        offset: int = 0,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """Return the k documents nearest to a query with their cosines, best first: higher is better."""
        refuse_unknown("similarity_search_with_score", kwargs, SEARCH)
        options = options_of(filter, where, score_threshold, exact, ef, expand)
        return self._scored(self._search(query, k, task, offset, options))

    async def asimilarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        task: str | Task | None = None,
        score_threshold: float | None = None,
        offset: int = 0,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """Return what `similarity_search_with_score` does, without holding up the event loop."""
        refuse_unknown("asimilarity_search_with_score", kwargs, SEARCH)
        options = options_of(filter, where, score_threshold, exact, ef, expand)
        return self._scored(await self._asearch(query, k, task, offset, options))

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Return the cosine itself; what points the other way is as irrelevant as what points elsewhere."""
        return lambda cosine: min(max(cosine, 0.0), 1.0)

    def similarity_search_with_relevance_scores(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        task: str | Task | None = None,
        score_threshold: float | None = None,
        offset: int = 0,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """Return the k documents nearest to a query with their relevance, from 0 to 1, best first.

        score_threshold: leave out documents with a lower relevance. See `Searching` for the others.
        """
        refuse_unknown("similarity_search_with_relevance_scores", kwargs, SEARCH)
        conditions = {"filter": filter, "where": where}
        given = {"task": task, "offset": offset, "exact": exact, "ef": ef, "expand": expand, **conditions}
        return super().similarity_search_with_relevance_scores(query, k, score_threshold=score_threshold, **given)

    async def asimilarity_search_with_relevance_scores(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        task: str | Task | None = None,
        score_threshold: float | None = None,
        offset: int = 0,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """Return what `similarity_search_with_relevance_scores` does, without holding up the event loop."""
        refuse_unknown("asimilarity_search_with_relevance_scores", kwargs, SEARCH)
        conditions = {"filter": filter, "where": where}
        given = {"task": task, "offset": offset, "exact": exact, "ef": ef, "expand": expand, **conditions}
        return await super().asimilarity_search_with_relevance_scores(
            query, k, score_threshold=score_threshold, **given
        )

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        task: str | Task | None = None,
        score_threshold: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[Document]:
        """Return the k of the `fetch_k` nearest documents that say different things, in the order of their choice.

        lambda_mult: 1 looks at nearness to the query only, 0 at difference only. See `Searching` for the others.
        """
        refuse_unknown("max_marginal_relevance_search", kwargs, DIVERSE)
        options = options_of(filter, where, score_threshold, exact, ef, expand)
        if not _asks(query):
            return []
        matches = found(
            lambda: self.index.search_diverse(query, k, task=task, among=fetch_k, relevance=lambda_mult, **options)
        )
        return self._documents(matches)

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Where | None = None,  # noqa: A002
        where: Where | None = None,
        task: str | Task | None = None,
        score_threshold: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        expand: Expand = 0,
        **kwargs: Any,
    ) -> list[Document]:
        """Return what `max_marginal_relevance_search` does, without holding up the event loop."""
        refuse_unknown("amax_marginal_relevance_search", kwargs, DIVERSE)
        options = options_of(filter, where, score_threshold, exact, ef, expand)
        if not _asks(query):
            return []
        searching = self.index.asearch_diverse(query, k, task=task, among=fetch_k, relevance=lambda_mult, **options)
        return self._documents(await afound(searching))

    def _search(self, query: str, k: int, task: str | Task | None, offset: int, options: Options) -> list[Match]:
        if not _asks(query, 4):
            return []
        return found(lambda: self.index.search(query, k, task=task, offset=offset, **options))

    async def _asearch(self, query: str, k: int, task: str | Task | None, offset: int, options: Options) -> list[Match]:
        if not _asks(query, 4):
            return []
        return await afound(self.index.asearch(query, k, task=task, offset=offset, **options))


def _asks(query: str, stacklevel: int = 3) -> bool:
    """Tell whether there is something in a query to search for."""
    if blank(query):
        warnings.warn("the query is empty or blank, so nothing was searched for and found", InputWarning, stacklevel)
        return False
    return True
