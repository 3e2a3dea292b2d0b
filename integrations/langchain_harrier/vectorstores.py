"""HarrierVectorStore: an Index as LangChain's VectorStore."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever

from harrier_core import Chunking, Encoder, Index, SettingError, StoreMissing, Task
from harrier_core import VectorStore as Store
from harrier_core.diversity import diverse
from langchain_harrier.documents import (
    Row,
    document_of,
    ids_of,
    one_for_each,
    records_of,
    rows_of_documents,
    rows_of_texts,
    scored,
)
from langchain_harrier.embeddings import HarrierEmbeddings

T = TypeVar("T")
Where = Mapping[str, Any]


class HarrierVectorStore(VectorStore):
    """A harrier_core Index as a vector store: one Document is one Record, and its id is the record's.

    Documents with ids that are there replace those, and what has not changed is not embedded again. Where the index
    cuts long records into chunks, each chunk is found as a document with the record's id. A table or collection that
    is not there yet is searched as an empty one, and made when something is added.

    Setup:
        ```bash
        pip install 'harrier-kit[langchain,pgvector]'
        ```

    Key init args:
        index: An Index, which is a store and an Encoder.

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
    """

    def __init__(self, index: Index) -> None:
        self.index = index

    @property
    def embeddings(self) -> HarrierEmbeddings | None:
        """Embeddings by the index's own encoder, in its space."""
        encoder = self.index.encoder
        return HarrierEmbeddings.from_encoder(encoder) if isinstance(encoder, Encoder) else None

    @classmethod
    def from_documents(
        cls, documents: Iterable[Document], embedding: Embeddings, *, ids: Iterable[str] | None = None, **kwargs: Any
    ) -> Self:
        """A vector store with these documents in `store=`; `chunking=` is how the index cuts long ones."""
        made = cls(_index(embedding, **kwargs))
        made.add_documents(documents, ids=ids)
        return made

    @classmethod
    async def afrom_documents(
        cls, documents: Iterable[Document], embedding: Embeddings, *, ids: Iterable[str] | None = None, **kwargs: Any
    ) -> Self:
        """What `from_documents` does, without holding up the event loop."""
        made = cls(_index(embedding, **kwargs))
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
        **kwargs: Any,
    ) -> Self:
        """A vector store with these texts in `store=`; `chunking=` is how the index cuts long ones."""
        made = cls(_index(embedding, **kwargs))
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
        **kwargs: Any,
    ) -> Self:
        """What `from_texts` does, without holding up the event loop."""
        made = cls(_index(embedding, **kwargs))
        await made.aadd_texts(texts, metadatas, ids=ids)
        return made

    # -- writing

    def add_documents(
        self, documents: Iterable[Document], *, ids: Iterable[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """Store documents, any iterable of them, and return their ids; one that has none gets a new one.

        ids: used instead of the documents' own. What cannot be stored ends in DocumentsRejected, and the rest is.
        """
        _refuse_unknown(kwargs, _WRITING)
        return self._add(rows_of_documents(documents), one_for_each("ids", ids, documents))

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Store texts with their metadata, as `add_documents` stores documents."""
        _refuse_unknown(kwargs, _WRITING)
        return self._add(rows_of_texts(texts, metadatas), one_for_each("ids", ids, texts))

    async def aadd_documents(
        self, documents: Iterable[Document], *, ids: Iterable[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """What `add_documents` does, without holding up the event loop."""
        _refuse_unknown(kwargs, _WRITING)
        return await self._aadd(rows_of_documents(documents), one_for_each("ids", ids, documents))

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """What `add_texts` does, without holding up the event loop."""
        _refuse_unknown(kwargs, _WRITING)
        return await self._aadd(rows_of_texts(texts, metadatas), one_for_each("ids", ids, texts))

    def _add(self, rows: Iterable[Row], ids: Iterable[str | None] | None) -> list[str]:
        taken: list[str] = []
        return ids_of(taken, self.index.ingest(records_of(rows, ids, taken)))

    async def _aadd(self, rows: Iterable[Row], ids: Iterable[str | None] | None) -> list[str]:
        taken: list[str] = []
        return ids_of(taken, await self.index.aingest(records_of(rows, ids, taken)))

    def delete(self, ids: Iterable[str] | None = None, **kwargs: Any) -> bool:
        """Remove the documents with these ids, whether they are there or not; without ids, all documents."""
        _refuse_unknown(kwargs, ())  # a filter that is overlooked would remove everything
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
        if unknown := [name for name in kwargs if name not in _RETRIEVER]:  # which pydantic would overlook
            raise SettingError(
                f"unknown keyword {unknown[0]!r}; a retriever takes {', '.join(_RETRIEVER)}; put what goes with each "
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
        where = _where(kwargs)
        return scored(_found(lambda: self.index.search(query, k, where, task=task)))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, *, task: str | Task | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """What `similarity_search_with_score` returns, without holding up the event loop."""
        where = _where(kwargs)
        return scored(await _afound(self.index.asearch(query, k, where, task=task)))

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """The cosine itself; what points the other way is as irrelevant as what points elsewhere."""
        return lambda cosine: min(max(cosine, 0.0), 1.0)

    def similarity_search_by_vector(self, embedding: Sequence[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """The k documents nearest to the vector of a query, best first."""
        where = _where(kwargs)
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
        where = _where(kwargs)
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
        where = _where(kwargs)
        searching = self.index.asearch_diverse(query, k, where, task=task, among=fetch_k, relevance=lambda_mult)
        return [document_of(match) for match in await _afound(searching)]

    def max_marginal_relevance_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """What `max_marginal_relevance_search` returns, for the vector of a query."""
        where, among = _where(kwargs), max(k, fetch_k)
        matches = _found(lambda: self.index.search_vectors([embedding], among, where, with_vectors=True)[0])
        return [document_of(match) for match in diverse(matches, k, lambda_mult)]


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
    return Index(store, embedding.encoder, chunking=chunking)


# -- keywords

_WRITING = ("batch_size",)  # of LangChain's index(): an Index makes windows of its own
_SEARCHING = ("filter", "where")  # LangChain's name and ours
_RETRIEVER = [name for name in VectorStoreRetriever.model_fields if name != "vectorstore"]


def _refuse_unknown(options: Mapping[str, Any], known: Sequence[str]) -> None:
    if unknown := [name for name in options if name not in known]:
        said = f"besides its own keywords it takes {' and '.join(known)}" if known else "it takes no more keywords"
        raise SettingError(f"unknown keyword {unknown[0]!r}; {said}")


def _where(options: Mapping[str, Any]) -> Where | None:
    """The conditions among a search's keywords: both, if it has both."""
    _refuse_unknown(options, _SEARCHING)
    given = [options[name] for name in _SEARCHING if options.get(name) is not None]
    return {"$and": given} if len(given) > 1 else next(iter(given), None)
