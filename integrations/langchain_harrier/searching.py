"""What a HarrierVectorStore finds: LangChain's names for the searches of an Index."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever

from harrier_core import Index, InputWarning, Match, SettingError, StoreMissing, Task
from harrier_core.blanks import blank
from harrier_core.diversity import diverse
from langchain_harrier.documents import document_of, scored
from langchain_harrier.keywords import RETRIEVER, Where, where_of

T = TypeVar("T")


class Searching(VectorStore):
    """The searches of a vector store over an Index."""

    index: Index

    def as_retriever(self, **kwargs: Any) -> VectorStoreRetriever:
        """Return a retriever over this vector store; what goes with each of its searches is in `search_kwargs`."""
        if unknown := [name for name in kwargs if name not in RETRIEVER]:  # which pydantic would overlook
            raise SettingError(
                f"unknown keyword {unknown[0]!r}; a retriever takes {', '.join(RETRIEVER)}; put what goes with each "
                "search in search_kwargs={...}"
            )
        return super().as_retriever(**kwargs)

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, in their order; ids that are not there are left out."""
        chunks = _found(lambda: [stored.chunk for stored in self.index.read(ids)])
        places = {id_: place for place, id_ in reversed(list(enumerate(ids)))}
        return [document_of(each) for each in sorted(chunks, key=lambda each: (places[each.record_id], each.number))]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """Return the k documents nearest to a query, best first."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """Return what `similarity_search` does, without holding up the event loop."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, task: str | Task | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Return the k documents nearest to a query with their cosines, best first: higher is better."""
        where = where_of(kwargs)
        return scored(_found(lambda: self.index.search(query, k, where, task=task))) if _asks(query) else []

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, *, task: str | Task | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Return what `similarity_search_with_score` does, without holding up the event loop."""
        where = where_of(kwargs)
        return scored(await _afound(self.index.asearch(query, k, where, task=task))) if _asks(query) else []

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Return the cosine itself; what points the other way is as irrelevant as what points elsewhere."""
        return lambda cosine: min(max(cosine, 0.0), 1.0)

    def similarity_search_by_vector(self, embedding: Sequence[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """Return the k documents nearest to the vector of a query, best first."""
        where = where_of(kwargs)
        matches = _found(lambda: self.index.search_vectors([embedding], k, where)[0])
        return [document_of(match) for match in matches]

    async def asimilarity_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, **kwargs: Any
    ) -> list[Document]:
        """Return what `similarity_search_by_vector` does, without holding up the event loop."""
        return [document_of(match) for match in await self._nearest(embedding, k, where_of(kwargs))]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        task: str | Task | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return the k of the `fetch_k` nearest documents that say different things, in the order of their choice.

        lambda_mult: 1 looks at nearness to the query only, 0 at difference only.
        """
        where = where_of(kwargs)
        if not _asks(query):
            return []
        matches = _found(
            lambda: self.index.search_diverse(query, k, where, task=task, among=fetch_k, relevance=lambda_mult)
        )
        return [document_of(match) for match in matches]

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        task: str | Task | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return what `max_marginal_relevance_search` does, without holding up the event loop."""
        where = where_of(kwargs)
        if not _asks(query):
            return []
        searching = self.index.asearch_diverse(query, k, where, task=task, among=fetch_k, relevance=lambda_mult)
        return [document_of(match) for match in await _afound(searching)]

    def max_marginal_relevance_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Return what `max_marginal_relevance_search` does, for the vector of a query."""
        where, among = where_of(kwargs), max(k, fetch_k)
        matches = _found(lambda: self.index.search_vectors([embedding], among, where, with_vectors=True)[0])
        return [document_of(match) for match in diverse(matches, k, lambda_mult)]

    async def amax_marginal_relevance_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Return what `max_marginal_relevance_search_by_vector` does, without holding up the event loop."""
        matches = await self._nearest(embedding, max(k, fetch_k), where_of(kwargs), with_vectors=True)
        return [document_of(match) for match in diverse(matches, k, lambda_mult)]

    async def _nearest(
        self, embedding: Sequence[float], k: int, where: Where | None, *, with_vectors: bool = False
    ) -> list[Match]:
        found = await _afound(self.index.asearch_vectors([embedding], k, where, with_vectors=with_vectors))
        return found[0] if found else []


def _asks(query: str) -> bool:
    """Whether there is something in a query to search for."""
    if blank(query):
        warnings.warn("the query is empty or blank, so nothing was searched for and found", InputWarning, stacklevel=3)
        return False
    return True


def _found(read: Callable[[], list[T]]) -> list[T]:
    """What is read; of a place that is not there yet nothing, and no such place is made."""
    try:
        return read()
    except StoreMissing:
        return []


async def _afound(reading: Awaitable[list[T]]) -> list[T]:
    try:
        return await reading
    except StoreMissing:
        return []
