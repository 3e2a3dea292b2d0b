"""HarrierVectorStore: an Index as LangChain's VectorStore."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever

from harrier_core import CachedEncoder, Chunking, Encoder, Index, InputWarning, SettingError, StoreMissing, Task
from harrier_core import VectorStore as Store
from harrier_core.blanks import blank
from harrier_core.diversity import diverse
from langchain_harrier.documents import (
    DocumentsRejected,
    OnRejected,
    Row,
    checked_choice,
    document_of,
    ids_of,
    one_for_each,
    records_of,
    rows_of_documents,
    rows_of_texts,
    scored,
)
from langchain_harrier.embeddings import HarrierEmbeddings
from langchain_harrier.keywords import RETRIEVER, WRITING, refuse_unknown, where_of

T = TypeVar("T")


class HarrierVectorStore(VectorStore):
    """A harrier_core Index as a vector store: one Document is one Record, and its id is the record's.

    Documents with ids that are there replace those, and what has not changed is not embedded again. Where the index
    cuts long records into chunks, each chunk is found as a document with the record's id. A table or collection that
    is not there yet is searched as an empty one, and made when something is added.

    Setup:
        ```bash
        pip install 'harrier-kit[langchain,pgvector,torch]' 'psycopg[binary]'
        ```

    Key init args:
        index: An Index, which is a store and an Encoder.
        on_rejected: What documents that cannot be stored are, such as a blank page: an "error" when all others are
            stored, or a reason to "warn", so that LangChain's `index()` gets past them and records them as seen.

    Instantiate:
        ```python
        from harrier_core import Encoder, Index
        from harrier_pgvector import PgVectorStore
        from langchain_harrier import HarrierVectorStore

        store = PgVectorStore("postgresql://user@host/db", table="documents")
        vector_store = HarrierVectorStore(Index(store, Encoder("microsoft/harrier-oss-v1-0.6b")))
        ```

    Add documents:
        ```python
        from langchain_core.documents import Document

        bread = Document(id="bread", page_content="Bread rises because of yeast.", metadata={"year": 2021})
        river = Document(page_content="Rivers carry sand to the sea.")  # gets an id
        ids = vector_store.add_documents([bread, river])
        ```

    Delete documents:
        ```python
        vector_store.delete(ids=[ids[1]])
        ```

    Search:
        ```python
        documents = vector_store.similarity_search("why does bread rise", k=1, filter={"year": {"$gte": 2020}})
        ```

    Search with score:
        ```python
        [(document, cosine)] = vector_store.similarity_search_with_score("why does bread rise", k=1)
        ```

    Async:
        ```python
        import asyncio

        documents = asyncio.run(vector_store.asimilarity_search("why does bread rise", k=1))
        ```

    Use as retriever:
        ```python
        retriever = vector_store.as_retriever(search_type="mmr", search_kwargs={"k": 1, "task": "sts_query"})
        documents = retriever.invoke("why does bread rise")
        ```

    Every search takes `filter` or `where`, conditions on metadata as in `harrier_core.filters`; those for a query take
    `task` as well. A keyword that is not known is an error: a filter that is misspelt would find what it must not.
    A query that is empty or blank finds nothing, with an InputWarning: agents send such.
    """

    def __init__(self, index: Index, *, on_rejected: OnRejected = "error") -> None:
        self.index = index
        self._on_rejected = checked_choice(on_rejected)

    @property
    def embeddings(self) -> HarrierEmbeddings | None:
        """Embeddings by the index's own encoder, in its space."""
        encoder = self.index.encoder
        return HarrierEmbeddings.from_encoder(encoder) if isinstance(encoder, Encoder | CachedEncoder) else None

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings,
        *,
        ids: Iterable[str] | None = None,
        on_rejected: OnRejected = "error",
        **kwargs: Any,
    ) -> Self:
        """A vector store with these documents in `store=`; `chunking=` is how the index cuts long ones.

        A DocumentsRejected that it raises has the vector store, with all other documents, in `vector_store`.
        """
        made = cls(_index(embedding, **kwargs), on_rejected=on_rejected)
        with _reachable(made):
            made.add_documents(documents, ids=ids)
        return made

    @classmethod
    async def afrom_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings,
        *,
        ids: Iterable[str] | None = None,
        on_rejected: OnRejected = "error",
        **kwargs: Any,
    ) -> Self:
        """What `from_documents` does, without holding up the event loop."""
        made = cls(_index(embedding, **kwargs), on_rejected=on_rejected)
        with _reachable(made):
            await made.aadd_documents(documents, ids=ids)
        return made

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str] | None = None,
        on_rejected: OnRejected = "error",
        **kwargs: Any,
    ) -> Self:
        """A vector store with these texts in `store=`; `chunking=` is how the index cuts long ones."""
        made = cls(_index(embedding, **kwargs), on_rejected=on_rejected)
        with _reachable(made):
            made.add_texts(texts, metadatas, ids=ids)
        return made

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str] | None = None,
        on_rejected: OnRejected = "error",
        **kwargs: Any,
    ) -> Self:
        """What `from_texts` does, without holding up the event loop."""
        made = cls(_index(embedding, **kwargs), on_rejected=on_rejected)
        with _reachable(made):
            await made.aadd_texts(texts, metadatas, ids=ids)
        return made

    # -- writing

    def add_documents(
        self,
        documents: Iterable[Document],
        *,
        ids: Iterable[str | None] | None = None,
        on_rejected: OnRejected | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Store documents, any iterable of them, and return their ids; one that has none gets a new one.

        ids: used instead of the documents' own. on_rejected: instead of the vector store's own; what cannot be stored
        ends in DocumentsRejected, or in an InputWarning and is left out of the ids. The rest is stored in either case.
        """
        refuse_unknown(kwargs, WRITING)
        return self._add(rows_of_documents(documents), one_for_each("ids", ids, documents), on_rejected)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        on_rejected: OnRejected | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Store texts with their metadata, as `add_documents` stores documents."""
        refuse_unknown(kwargs, WRITING)
        return self._add(rows_of_texts(texts, metadatas), one_for_each("ids", ids, texts), on_rejected)

    async def aadd_documents(
        self,
        documents: Iterable[Document],
        *,
        ids: Iterable[str | None] | None = None,
        on_rejected: OnRejected | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """What `add_documents` does, without holding up the event loop."""
        refuse_unknown(kwargs, WRITING)
        return await self._aadd(rows_of_documents(documents), one_for_each("ids", ids, documents), on_rejected)

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        on_rejected: OnRejected | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """What `add_texts` does, without holding up the event loop."""
        refuse_unknown(kwargs, WRITING)
        return await self._aadd(rows_of_texts(texts, metadatas), one_for_each("ids", ids, texts), on_rejected)

    def _add(self, rows: Iterable[Row], ids: Iterable[str | None] | None, on_rejected: OnRejected | None) -> list[str]:
        choice, taken = checked_choice(on_rejected or self._on_rejected), list[str]()
        return ids_of(taken, self.index.ingest(records_of(rows, ids, taken)), choice)

    async def _aadd(
        self, rows: Iterable[Row], ids: Iterable[str | None] | None, on_rejected: OnRejected | None
    ) -> list[str]:
        choice, taken = checked_choice(on_rejected or self._on_rejected), list[str]()
        return ids_of(taken, await self.index.aingest(records_of(rows, ids, taken)), choice)

    def delete(self, ids: Iterable[str] | None = None, **kwargs: Any) -> bool:
        """Remove the documents with these ids, whether they are there or not; without ids, all documents."""
        refuse_unknown(kwargs, ())  # a filter that is overlooked would remove everything
        if ids is None:
            ids = _found(self._all_ids)
        self.index.delete(ids)
        return True

    def _all_ids(self) -> list[str]:
        self.index.count()  # opens the place, if it is there
        return list(self.index.store.record_ids())

    # -- searching

    def as_retriever(self, **kwargs: Any) -> VectorStoreRetriever:
        """A retriever over this vector store; what goes with each of its searches is in `search_kwargs`."""
        if unknown := [name for name in kwargs if name not in RETRIEVER]:  # which pydantic would overlook
            raise SettingError(
                f"unknown keyword {unknown[0]!r}; a retriever takes {', '.join(RETRIEVER)}; put what goes with each "
                "search in search_kwargs={...}"
            )
        return super().as_retriever(**kwargs)

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, in their order; ids that are not there are left out."""
        chunks = _found(lambda: [stored.chunk for stored in self.index.read(ids)])
        places = {id_: place for place, id_ in reversed(list(enumerate(ids)))}
        return [document_of(each) for each in sorted(chunks, key=lambda each: (places[each.record_id], each.number))]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The k documents nearest to a query, best first."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """What `similarity_search` returns, without holding up the event loop."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, task: str | Task | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The k documents nearest to a query with their cosines, best first: higher is better."""
        where = where_of(kwargs)
        return scored(_found(lambda: self.index.search(query, k, where, task=task))) if _asks(query) else []

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, *, task: str | Task | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """What `similarity_search_with_score` returns, without holding up the event loop."""
        where = where_of(kwargs)
        return scored(await _afound(self.index.asearch(query, k, where, task=task))) if _asks(query) else []

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """The cosine itself; what points the other way is as irrelevant as what points elsewhere."""
        return lambda cosine: min(max(cosine, 0.0), 1.0)

    def similarity_search_by_vector(self, embedding: Sequence[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """The k documents nearest to the vector of a query, best first."""
        where = where_of(kwargs)
        matches = _found(lambda: self.index.search_vectors([embedding], k, where)[0])
        return [document_of(match) for match in matches]

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
        """The k of the `fetch_k` nearest documents that say different things, in the order of their choice.

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
        """What `max_marginal_relevance_search` returns, without holding up the event loop."""
        where = where_of(kwargs)
        if not _asks(query):
            return []
        searching = self.index.asearch_diverse(query, k, where, task=task, among=fetch_k, relevance=lambda_mult)
        return [document_of(match) for match in await _afound(searching)]

    def max_marginal_relevance_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """What `max_marginal_relevance_search` returns, for the vector of a query."""
        where, among = where_of(kwargs), max(k, fetch_k)
        matches = _found(lambda: self.index.search_vectors([embedding], among, where, with_vectors=True)[0])
        return [document_of(match) for match in diverse(matches, k, lambda_mult)]


def _asks(query: str) -> bool:
    """Whether there is something in a query to search for."""
    if blank(query):
        warnings.warn("the query is empty or blank, so nothing was searched for and found", InputWarning, stacklevel=3)
        return False
    return True


@contextmanager
def _reachable(made: HarrierVectorStore) -> Iterator[None]:
    """Give an error about some of the documents the vector store that has the others."""
    try:
        yield
    except DocumentsRejected as error:
        error.vector_store = made
        raise


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


def _index(embedding: Embeddings, *, store: Store | None = None, chunking: Chunking | None = None) -> Index:
    if not isinstance(embedding, HarrierEmbeddings):
        raise SettingError(
            f"an index is made by HarrierEmbeddings, not {type(embedding).__name__}, whose space nobody knows; pass "
            "HarrierEmbeddings(model=...)"
        )
    if store is None:
        raise SettingError("there is no place for the documents; pass store=, such as a PgVectorStore")
    return Index(store, embedding.index_encoder, chunking=chunking)
