"""HarrierVectorStore: an Index as LangChain's VectorStore."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from harrier_core import Chunking, Index, SettingError
from harrier_core import VectorStore as Store
from langchain_harrier.documents import (
    DocumentsRejected,
    OnRejected,
    Row,
    checked_choice,
    ids_of,
    one_for_each,
    records_of,
    rows_of_documents,
    rows_of_texts,
)
from langchain_harrier.embeddings import HarrierEmbeddings
from langchain_harrier.keywords import WRITING, refuse_unknown
from langchain_harrier.searching import Searching


class HarrierVectorStore(Searching):
    """A harrier_core Index as a vector store: one Document is one Record, and its id is the record's.

    Documents with ids that are there replace those, and what has not changed is not embedded again. Where the index
    cuts long records into chunks, each chunk is found as a document with the record's id. A table or collection that
    is not there yet is searched as an empty one, and made when something is added.

    Setup:
        ```bash
        pip install 'harrier-kit[langchain,pgvector,torch]' 'psycopg[binary]'
        ```

    Key init args:
        index: An Index, which is a store and an Encoder, or any other Embedder.
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
    def embeddings(self) -> HarrierEmbeddings:
        """Embeddings by the index's own encoder, in its space."""
        return HarrierEmbeddings.from_encoder(self.index.encoder)

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
            self.index.clear()
        else:
            self.index.delete(ids)
        return True

    async def adelete(self, ids: Iterable[str] | None = None, **kwargs: Any) -> bool:
        """Do what `delete` does, without holding up the event loop."""
        refuse_unknown(kwargs, ())
        if ids is None:
            await asyncio.to_thread(self.index.clear)
        else:
            await self.index.adelete(ids)
        return True


@contextmanager
def _reachable(made: HarrierVectorStore) -> Iterator[None]:
    """Give an error about some of the documents the vector store that has the others."""
    try:
        yield
    except DocumentsRejected as error:
        error.vector_store = made
        raise


def _index(embedding: Embeddings, *, store: Store | None = None, chunking: Chunking | None = None) -> Index:
    if not isinstance(embedding, HarrierEmbeddings):
        raise SettingError(
            f"an index is made by HarrierEmbeddings, not {type(embedding).__name__}, whose space nobody knows; pass "
            "HarrierEmbeddings(model=...)"
        )
    if store is None:
        raise SettingError("there is no place for the documents; pass store=, such as a PgVectorStore")
    return Index(store, embedding.index_encoder, chunking=chunking)
