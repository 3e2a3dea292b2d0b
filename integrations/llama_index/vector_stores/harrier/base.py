"""HarrierVectorStore: an Index as LlamaIndex's vector store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Never, Unpack

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQuery, VectorStoreQueryResult
from llama_index.embeddings.harrier import HarrierEmbedding
from llama_index.vector_stores.harrier.filters import where_of
from llama_index.vector_stores.harrier.foreign import refuse_for_query, refuse_for_store, refuse_from_params
from llama_index.vector_stores.harrier.nodes import node_of
from llama_index.vector_stores.harrier.queries import KEYWORDS, Asked, Wanted
from llama_index.vector_stores.harrier.writing import Writing

from harrier_core import Embedder, Index, Match, SettingError, StoreMissing, VectorStore
from harrier_core.parts import store_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harrier_core import Chunk

_OPTIONS = ("index", "embed_model", "with_embeddings", "on_rejected", "number_key")


class HarrierVectorStore(Writing):
    """Nodes in an Index: adding one again replaces it, and unchanged nodes are neither encoded nor written.

    A node is a record under its id. The text of the record is what LlamaIndex embeds of the node: its text, after the
    metadata that are not excluded. Embeddings that come with nodes are accepted once a sample of them has proved to
    match the Index's own encoder, as those from `embed_model` do. Embeddings of the nodes' own texts, without metadata,
    as made by VectorMemoryBlock and PropertyGraphIndex, are accepted as well, and then that is the text of the record.
    Nodes that are added without an embedding are encoded by the Index. An IngestionPipeline silently omits such nodes:
    give it `embed_model`, or `as_transformation()`, as its last transformation. An index that does not exist yet is
    searched as an empty one.

    ```python
    store = HarrierVectorStore(Index(PgVectorStore("postgresql://user@host/db"), Encoder("harrier-0.6b")))
    VectorStoreIndex.from_documents(
        documents,
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=store.embed_model,
    )
    ```
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    with_embeddings: bool = Field(default=False, description="Whether found nodes carry their embeddings.")
    number_key: str | None = Field(
        default=None, description="Key in the metadata of found nodes for the number of their chunk."
    )

    _listed: set[str] = PrivateAttr(default_factory=set)  # ids of nodes that a `Restriction` knows

    def __init__(
        self,
        index: Index | VectorStore | str | None = None,
        *,
        embed_model: HarrierEmbedding | Embedder | None = None,
        with_embeddings: bool = False,
        on_rejected: Literal["error", "warn"] = "error",
        number_key: str | None = None,
        **foreign: Never,
    ) -> None:
        """Make a vector store for an Index, which its owner has to close, or for a store or its URL.

        embed_model: makes the vectors, if a store or its URL is given; the Index over it is `client`.
        on_rejected: whether nodes that cannot be stored, such as blank ones, raise an "error" after all others are
        stored, or only "warn"; then `embed_model` has `on_blank="last"`, so that a VectorStoreIndex gets past them.
        number_key: a metadata key of found nodes, for the number of the chunk in its record; no model reads it.
        foreign: none are accepted; for those of other LlamaIndex stores, the error says what to write.
        """
        refuse_for_store(foreign, _OPTIONS)
        own: dict[str, Any] = {"with_embeddings": with_embeddings, "on_rejected": on_rejected, "number_key": number_key}
        super().__init__(stores_text=True, is_embedding_query=True, **own)
        self._index = _index_of(index, embed_model)

    @classmethod
    def from_params(cls, *_: Any, **__: Any) -> Never:
        """Raise SettingError, which says what to write instead of other stores' `from_params`."""
        refuse_from_params()

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which it is known."""
        return "HarrierVectorStore"

    @property
    def client(self) -> Index:
        """The Index that holds the nodes."""
        return self._index

    @property
    def embed_model(self) -> HarrierEmbedding:
        """The embedding for a VectorStoreIndex, a pipeline or Settings: it shares the model of the Index's encoder."""
        on_blank = "last" if self.on_rejected == "warn" else "error"
        return HarrierEmbedding.from_encoder(self._index.encoder, on_blank=on_blank)

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[BaseNode]:
        """Return the nodes with these ids, or all, that meet the filters; a node that the Index split comes in pieces.

        offset: how many to skip. limit: how many to return at most.
        """
        where = where_of(filters)
        try:
            stored = self._index.read(node_ids, where, limit=limit, offset=offset)
            return [self._node(each.chunk, each.vector) for each in stored]
        except StoreMissing:
            return []

    async def aget_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[BaseNode]:
        """Return what `get_nodes` returns, without blocking the event loop."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters, limit=limit, offset=offset)

    def query(  # type: ignore[override]
        self, query: VectorStoreQuery, **wanted: Unpack[Wanted]
    ) -> VectorStoreQueryResult:
        """Return the nodes that best answer a query, and their similarities.

        A retriever passes on its `vector_store_kwargs`. The mode HYBRID finds by vector and by word, SPARSE and
        TEXT_SEARCH by word and without the model, if the Index's store was made with keywords=True. A similarity is the
        cosine; by word it is BM25, and in HYBRID the share of the best possible places, from 0 to 1. alpha of a HYBRID
        query: 1 is the vector alone, 0 the words alone; by default 2/3, and 1/5 if the query has a code, such as a part
        number, that the best match by word has too. Instead of similarity_top_k, hybrid_top_k says how many nodes
        HYBRID finds, and sparse_top_k how many the other two; how deep HYBRID looks into either list is up to the
        Index. node_ids of a query restrict it to these nodes; if too few of them are among the 10,000 best by word,
        HYBRID, SPARSE and TEXT_SEARCH raise SettingError. Those of IndexNodes and ImageNodes alone do not exclude nodes
        of other kinds: a VectorStoreIndex sends the ids of all that it has.

        offset: how many to skip. score_threshold: leave out nodes of a lower similarity. exact: compare all, even if
        there is an index; ef: how many candidates the HNSW index considers. expand: for a record that the Index has
        split, add the text of the given number of chunks on either side, or with "record" all of it. rerank: a
        `harrier_core.Reranker`, which reorders the `among` (50) best, or `Diverse`. mmr_threshold, and one of
        mmr_prefetch_factor and mmr_prefetch_k, are for the mode MMR, as in other stores. Any other keyword is an error:
        an ignored filter would find nodes that it must exclude.
        """
        refuse_for_query(wanted, KEYWORDS)
        asked = Asked.of(query, wanted, with_embeddings=self.with_embeddings)
        try:
            return self._result(asked.matches(self._index, self._listed))
        except StoreMissing:
            return self._result([])

    async def aquery(  # type: ignore[override]
        self, query: VectorStoreQuery, **wanted: Unpack[Wanted]
    ) -> VectorStoreQueryResult:
        """Return what `query` returns, without blocking the event loop."""
        refuse_for_query(wanted, KEYWORDS)
        asked = Asked.of(query, wanted, with_embeddings=self.with_embeddings)
        try:
            matches = await asked.amatches(self._index, self._listed)
        except StoreMissing:
            matches = []
        return await asyncio.to_thread(self._result, matches)

    def _result(self, matches: Sequence[Match]) -> VectorStoreQueryResult:
        return VectorStoreQueryResult(
            nodes=[self._node(match, match.vector) for match in matches],
            similarities=[match.score for match in matches],
            ids=[match.record_id for match in matches],
        )

    def _node(self, found: Chunk | Match, vector: NDArray[np.float32] | None) -> BaseNode:
        node = node_of(found, number_key=self.number_key)
        if self.with_embeddings and vector is not None:
            node.embedding = vector.tolist()
        return node

    def __repr__(self) -> str:
        return f"HarrierVectorStore({self._index!r})"

    __str__ = __repr__


def _index_of(given: Index | VectorStore | str | None, embed_model: HarrierEmbedding | Embedder | None) -> Index:
    """Return the Index that was given, or one over the store. Raise SettingError if something is missing."""
    if isinstance(given, Index):
        if embed_model is not None:
            raise SettingError("an Index has its own encoder; omit embed_model")
        return given
    if given is None:
        raise SettingError("HarrierVectorStore needs an Index; write HarrierVectorStore(Index(store, encoder))")
    store = store_of(given)
    if embed_model is None:
        raise SettingError(
            "HarrierVectorStore got a store, but no embedding model; pass "
            "embed_model=HarrierEmbedding('harrier-0.6b') as well, or pass Index(store, encoder)"
        )
    return Index(store, embed_model)
