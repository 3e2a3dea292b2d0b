"""HarrierVectorStore: an Index as LangChain's VectorStore."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, Unpack

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from harrier_core import Chunking, Embedder, Index, SettingError
from harrier_core import VectorStore as Store
from harrier_core.progress import Progress
from langchain_harrier.by_vector import SearchingByVector
from langchain_harrier.documents import DocumentsRejected, OnRejected, checked_choice, one_for_each, rows_of_texts
from langchain_harrier.embeddings import HarrierEmbeddings
from langchain_harrier.places import Place, index_of
from langchain_harrier.searching import Searching
from langchain_harrier.writing import Id, Writing


class HarrierVectorStore(Writing, Searching, SearchingByVector):
    """A harrier_core Index as a vector store: one Document is one Record, and its id is the record's.

    Documents replace those with the same ids, and unchanged ones are not embedded again. If the index splits long
    records into chunks, each chunk is found as a document with the record's id. A table or collection that does not
    exist yet is searched as an empty one, and created when something is added.

    Setup:
        ```bash
        pip install 'harrier-kit[langchain,pgvector,torch]' 'psycopg[binary]'
        ```

    Key init args:
        index: An Index, which is a store and an Encoder, or any other Embedder.
        embedding: Instead of an Index: HarrierEmbeddings, or an Encoder or another Embedder.
        store: Instead of an Index, with `embedding`: a store or its URL, as accepted by `harrier_core.open_store`.
        chunking: With `store`: how the index splits long documents.
        on_rejected: Whether documents that cannot be stored, such as a blank page, raise an "error" after all others
            are stored, or only "warn", so that LangChain's `index()` gets past them and records them as seen.
        positions: Whether the metadata of documents that are found include the number of their chunk as `chunk`, and
            the position of their text in the record's as `start_index` and `end_index`, overriding fields of these
            names.

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

    Every search takes `filter` or `where`, conditions on metadata as in `harrier_core.filters`, `score_threshold`,
    `exact`, `ef` and `expand`; those for a query take `task`, `mode` and `keyword_weight` as well, and all of those but
    the diverse ones `offset`, `rerank` and `among`. `mode="hybrid"` finds by meaning and by word, and `mode="keyword"`
    by word only, if the index was made with `keywords=True`. `expand` adds the chunks around a match to the text that
    is found. An unknown keyword is an error: a misspelt filter would find documents that it must exclude. A query that
    is empty or blank finds nothing, with an InputWarning: agents send such queries.
    """

    def __init__(
        self,
        index: Index | None = None,
        embedding: Embeddings | Embedder | None = None,
        *,
        store: Store | str | None = None,
        chunking: Chunking | None = None,
        on_rejected: OnRejected = "error",
        positions: bool = False,
        pre_delete_collection: bool = False,
        force_recreate: bool = False,
        **place: Unpack[Place],
    ) -> None:
        """Make a vector store for an Index, or for a new one from embeddings and a place. Nothing is opened yet.

        pre_delete_collection, force_recreate: remove the table or collection first, if it exists. As in other vector
        stores, `connection`, `connection_string` or `url` can be given instead of `store`, and with any URL,
        `collection_name` or `table_name`; and `keywords=True`, so that a new one has the words of its documents.
        """
        self.index = index_of(index, embedding, store, chunking, place)
        self.positions = positions
        self._on_rejected = checked_choice(on_rejected)
        self._embeddings: HarrierEmbeddings | None = None
        if pre_delete_collection or force_recreate:
            self.index.drop()

    @property
    def embeddings(self) -> HarrierEmbeddings:
        """Embeddings that use the index's own encoder, in its space."""
        made = self._embeddings
        if made is None or made.embedder is not self.index.encoder:  # LangChain reads it at every call
            self._embeddings = made = HarrierEmbeddings.from_encoder(self.index.encoder)
        return made

    @classmethod
    def from_existing_collection(
        cls,
        embedding: Embeddings | Embedder | None = None,
        *,
        store: Store | str | None = None,
        chunking: Chunking | None = None,
        on_rejected: OnRejected = "error",
        positions: bool = False,
        **place: Unpack[Place],
    ) -> Self:
        """Return a vector store for an existing table or collection.

        Raise StoreMissing if it does not exist, and WrongSpace if it was made with other embeddings.
        """
        if emptying := [name for name in ("pre_delete_collection", "force_recreate") if place.get(name)]:
            raise SettingError(f"{emptying[0]} would remove a place that must exist; use from_documents")
        made = cls(
            embedding=embedding, store=store, chunking=chunking, on_rejected=on_rejected, positions=positions, **place
        )
        made.index.read(limit=0)  # this opens the store
        return made

    @classmethod
    def from_existing_index(
        cls,
        embedding: Embeddings | Embedder | None = None,
        *,
        store: Store | str | None = None,
        chunking: Chunking | None = None,
        on_rejected: OnRejected = "error",
        positions: bool = False,
        **place: Unpack[Place],
    ) -> Self:
        """Return what `from_existing_collection` returns, under langchain-postgres's name for it."""
        return cls.from_existing_collection(
            embedding, store=store, chunking=chunking, on_rejected=on_rejected, positions=positions, **place
        )

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | Embedder | None = None,
        *,
        ids: Iterable[Id | None] | None = None,
        store: Store | str | None = None,
        chunking: Chunking | None = None,
        on_rejected: OnRejected = "error",
        positions: bool = False,
        show_progress: bool = False,
        on_progress: Progress | None = None,
        **place: Any,
    ) -> Self:
        """Return a vector store with these documents in `store`; other settings are those of HarrierVectorStore.

        A DocumentsRejected that it raises has the vector store, with all other documents, in `vector_store`.
        """
        one_for_each("ids", ids, documents)  # before anything is removed
        settings: dict[str, Any] = {"store": store, "chunking": chunking, "on_rejected": on_rejected, **place}
        made = cls(embedding=embedding, positions=positions, **settings)
        with _reachable(made):
            made.add_documents(documents, ids=ids, show_progress=show_progress, on_progress=on_progress)
        return made

    @classmethod
    async def afrom_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | Embedder | None = None,
        *,
        ids: Iterable[Id | None] | None = None,
        store: Store | str | None = None,
        chunking: Chunking | None = None,
        on_rejected: OnRejected = "error",
        positions: bool = False,
        show_progress: bool = False,
        on_progress: Progress | None = None,
        **place: Any,
    ) -> Self:
        """Return what `from_documents` returns, without blocking the event loop."""
        one_for_each("ids", ids, documents)  # before anything is removed
        settings: dict[str, Any] = {"store": store, "chunking": chunking, "on_rejected": on_rejected, **place}
        made = await asyncio.to_thread(cls, embedding=embedding, positions=positions, **settings)
        with _reachable(made):
            await made.aadd_documents(documents, ids=ids, show_progress=show_progress, on_progress=on_progress)
        return made

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | Embedder | None = None,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[Id | None] | None = None,
        store: Store | str | None = None,
        chunking: Chunking | None = None,
        on_rejected: OnRejected = "error",
        positions: bool = False,
        show_progress: bool = False,
        on_progress: Progress | None = None,
        **place: Any,
    ) -> Self:
        """Return a vector store with these texts in `store`, as `from_documents` does."""
        rows_of_texts(texts, metadatas)  # refuses what does not fit before anything is removed
        one_for_each("ids", ids, texts)
        settings: dict[str, Any] = {"store": store, "chunking": chunking, "on_rejected": on_rejected, **place}
        made = cls(embedding=embedding, positions=positions, **settings)
        with _reachable(made):
            made.add_texts(texts, metadatas, ids=ids, show_progress=show_progress, on_progress=on_progress)
        return made

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | Embedder | None = None,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[Id | None] | None = None,
        store: Store | str | None = None,
        chunking: Chunking | None = None,
        on_rejected: OnRejected = "error",
        positions: bool = False,
        show_progress: bool = False,
        on_progress: Progress | None = None,
        **place: Any,
    ) -> Self:
        """Return what `from_texts` returns, without blocking the event loop."""
        rows_of_texts(texts, metadatas)  # refuses what does not fit before anything is removed
        one_for_each("ids", ids, texts)
        settings: dict[str, Any] = {"store": store, "chunking": chunking, "on_rejected": on_rejected, **place}
        made = await asyncio.to_thread(cls, embedding=embedding, positions=positions, **settings)
        with _reachable(made):
            await made.aadd_texts(texts, metadatas, ids=ids, show_progress=show_progress, on_progress=on_progress)
        return made

    def __repr__(self) -> str:
        positions = ", positions=True" if self.positions else ""
        return f"{type(self).__name__}({self.index!r}{positions})"


@contextmanager
def _reachable(made: HarrierVectorStore) -> Iterator[None]:
    """Attach the vector store, which has the other documents, to an error about some of them."""
    try:
        yield
    except DocumentsRejected as error:
        error.vector_store = made
        raise
