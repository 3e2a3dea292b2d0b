"""HarrierVectorStore: an Index as LlamaIndex calls it."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from llama_index.embeddings.harrier import HarrierEmbedding
from llama_index.vector_stores.harrier.filters import SOURCE, Where, where_of
from llama_index.vector_stores.harrier.given import GivenEmbeddings, OfOwnTexts
from llama_index.vector_stores.harrier.nodes import node_of, own_text, record_of
from llama_index.vector_stores.harrier.queries import OPTIONS, Asked

from harrier_core import Index, InputError, InputWarning, Match, Problem, SettingError, StoreMissing
from harrier_core.errors import raise_problems

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harrier_core import Chunk, IngestReport, Record

_SHOWN = 10  # nodes in a warning


class HarrierVectorStore(BasePydanticVectorStore):
    """Nodes in an Index: added again they replace themselves, and what has not changed is neither encoded nor written.

    A node is a record under its id. The text of the record is what LlamaIndex embeds of the node: its text, behind such
    metadata as are not excluded. Embeddings that nodes bring along are taken once a sample of them has turned out to be
    what the Index's own encoder makes; `embed_model` makes such. Embeddings of the nodes' own texts, without metadata,
    as VectorMemoryBlock and PropertyGraphIndex make them, are taken as well, and then that is the text of the record.
    Nodes without an embedding are encoded by the Index. A place that is not there yet is searched as an empty one.

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
    with_embeddings: bool = Field(default=False, description="Whether nodes that are found carry their embeddings.")
    on_rejected: Literal["error", "warn"] = Field(
        default="error", description="What nodes that cannot be stored are, such as blank ones."
    )

    _index: Index = PrivateAttr()

    def __init__(
        self, index: Index, *, with_embeddings: bool = False, on_rejected: Literal["error", "warn"] = "error"
    ) -> None:
        """A vector store over an Index, which stays its owner's to close.

        on_rejected: what nodes that cannot be stored are, such as blank ones: an "error" when all others are stored, or
        a reason to "warn"; then `embed_model` has `on_blank="last"`, so that a VectorStoreIndex gets past them.
        """
        own: dict[str, Any] = {"with_embeddings": with_embeddings, "on_rejected": on_rejected}
        super().__init__(stores_text=True, is_embedding_query=True, **own)
        self._index = index

    @classmethod
    def class_name(cls) -> str:
        """The name under which it is known."""
        return "HarrierVectorStore"

    @property
    def client(self) -> Index:
        """The Index."""
        return self._index

    @property
    def embed_model(self) -> HarrierEmbedding:
        """What to give a VectorStoreIndex, a pipeline or Settings: it shares the model of the Index's encoder."""
        on_blank = "last" if self.on_rejected == "warn" else "error"
        return HarrierEmbedding.from_encoder(self._index.encoder, on_blank=on_blank)

    # -- writing

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Store nodes; their ids. Nodes that cannot be stored are an error when all others are, or a warning."""
        try:
            index, records = self._ready(nodes)
            report = index.ingest(records)
        except OfOwnTexts:
            index, records = self._ready(nodes, alone=True)
            report = index.ingest(records)
        return _stored(nodes, report, self.on_rejected)

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Return what `add` does, without holding up the event loop."""
        try:
            index, records = self._ready(nodes)
            report = await index.aingest(records)
        except OfOwnTexts:
            index, records = self._ready(nodes, alone=True)
            report = await index.aingest(records)
        return _stored(nodes, report, self.on_rejected)

    def _ready(self, nodes: Sequence[BaseNode], *, alone: bool = False) -> tuple[Index, Iterator[Record]]:
        """The records of nodes, and the Index that takes the nodes' embeddings for their vectors.

        alone: the embeddings are of the nodes' own texts, which become those of their records.
        """
        given = GivenEmbeddings(self._index.encoder)

        def records() -> Iterator[Record]:
            for node in nodes:
                record = record_of(node, alone=alone and node.embedding is not None)
                given.add(record.text, node.embedding, own_text(node))
                yield record

        return self._index.using(given), records()

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Remove the nodes of a document."""
        _refuse_narrower(delete_kwargs)
        self._delete(None, {SOURCE: ref_doc_id})

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Do what `delete` does, without holding up the event loop."""
        _refuse_narrower(delete_kwargs)
        await self._adelete(None, {SOURCE: ref_doc_id})

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Remove nodes by their ids, by filters, or those of these ids that meet the filters."""
        self._delete(node_ids, _narrowed(node_ids, filters, delete_kwargs))

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Do what `delete_nodes` does, without holding up the event loop."""
        await self._adelete(node_ids, _narrowed(node_ids, filters, delete_kwargs))

    def _delete(self, node_ids: list[str] | None, where: Where | None) -> None:
        self._index.delete(self._ids(node_ids, where))

    async def _adelete(self, node_ids: list[str] | None, where: Where | None) -> None:
        await self._index.adelete(await asyncio.to_thread(self._ids, node_ids, where))

    def _ids(self, node_ids: list[str] | None, where: Where | None) -> list[str]:
        """The ids of the nodes that meet a condition, or those given if there is none."""
        if where is None:
            return node_ids or []
        try:
            return sorted({stored.chunk.record_id for stored in self._index.read(node_ids, where)})
        except StoreMissing:
            return []

    def clear(self) -> None:
        """Remove all nodes."""
        self._index.clear()

    async def aclear(self) -> None:
        """Do what `clear` does, without holding up the event loop."""
        await asyncio.to_thread(self.clear)

    # -- reading

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes of these ids, or all, that meet the filters; of one that the Index has cut, its pieces."""
        where = where_of(filters)
        try:
            return [self._node(each.chunk, each.vector) for each in self._index.read(node_ids, where)]
        except StoreMissing:
            return []

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Return what `get_nodes` does, without holding up the event loop."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes nearest to a query, with cosines for similarities.

        mmr_threshold, and one of mmr_prefetch_factor and mmr_prefetch_k, are for the mode MMR, as in other stores. A
        keyword that is not known is an error: a filter that is overlooked would find what it must not.
        """
        asked = _asked(query, kwargs, with_embeddings=self.with_embeddings)
        try:
            return self._result(asked.matches(self._index))
        except StoreMissing:
            return self._result([])

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Return what `query` does, without holding up the event loop."""
        asked = _asked(query, kwargs, with_embeddings=self.with_embeddings)
        try:
            matches = await asked.amatches(self._index)
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
        node = node_of(found)
        if self.with_embeddings and vector is not None:
            node.embedding = vector.tolist()
        return node


def _asked(query: VectorStoreQuery, options: dict[str, Any], *, with_embeddings: bool) -> Asked:
    """What a query asks for. Raise SettingError if there is a keyword that is not known."""
    if unknown := [name for name in options if name not in OPTIONS]:
        raise SettingError(
            f"unknown keyword {unknown[0]!r}; besides a query there are {', '.join(OPTIONS)}; conditions on metadata "
            "are given as filters=MetadataFilters(...), to the retriever or in the query"
        )
    return Asked.of(query, options, with_embeddings=with_embeddings)


def _refuse_narrower(options: dict[str, Any]) -> None:
    if options:
        raise SettingError(
            f"unknown keyword {next(iter(options))!r}; nothing was deleted: to delete by metadata there is "
            "delete_nodes(filters=MetadataFilters(...))"
        )


def _narrowed(node_ids: list[str] | None, filters: MetadataFilters | None, options: dict[str, Any]) -> Where | None:
    """The condition on nodes to delete. Raise SettingError if nothing says which they are."""
    _refuse_narrower(options)
    where = where_of(filters)
    if node_ids is None and where is None:
        raise SettingError("neither node_ids nor filters say what to delete; use clear() to delete everything")
    return where


def _stored(nodes: Sequence[BaseNode], report: IngestReport, on_rejected: str) -> list[str]:
    """The ids of nodes that are stored; if some could not be, the error of all those, or a warning."""
    ids = [node.node_id for node in nodes]
    reasons = dict(report.rejected)
    problems = [Problem(at, InputError, reasons[id_]) for at, id_ in enumerate(ids) if id_ in reasons]
    if on_rejected == "error":
        raise_problems(problems)
    elif problems:
        said = "; ".join(f"node {ids[each.position]!r} {each.reason}" for each in problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        warnings.warn(f"{len(problems)} nodes cannot be stored: {said}{more}", InputWarning, stacklevel=3)
    return [id_ for id_ in ids if id_ not in reasons]
