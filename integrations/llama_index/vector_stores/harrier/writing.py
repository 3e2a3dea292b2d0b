"""Writing to a vector store of LlamaIndex: nodes are added, and removed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore, MetadataFilters
from llama_index.vector_stores.harrier.filters import SOURCE, Where, where_of
from llama_index.vector_stores.harrier.given import GivenEmbeddings, OfOwnTexts
from llama_index.vector_stores.harrier.nodes import own_text, record_of
from llama_index.vector_stores.harrier.pipelines import Storing

from harrier_core import Index, InputError, InputWarning, Problem, SettingError
from harrier_core.errors import raise_problems
from harrier_core.filters import All, decided, parse

if TYPE_CHECKING:
    from harrier_core import IngestReport, Record

_SHOWN = 10  # nodes in a warning


class Writing(BasePydanticVectorStore):
    """The writing half of a HarrierVectorStore."""

    on_rejected: Literal["error", "warn"] = Field(
        default="error",
        description="Whether nodes that cannot be stored, such as blank ones, are an error or a warning.",
    )

    _index: Index = PrivateAttr()

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Store nodes, and return the id of each. Those that cannot be stored then cause an error or a warning."""
        try:
            index, records = self._ready(nodes)
            report = index.ingest(records)
        except OfOwnTexts:
            index, records = self._ready(nodes, alone=True)
            report = index.ingest(records)
        return _stored(nodes, report, self.on_rejected)

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Return what `add` returns, without blocking the event loop."""
        try:
            index, records = self._ready(nodes)
            report = await index.aingest(records)
        except OfOwnTexts:
            index, records = self._ready(nodes, alone=True)
            report = await index.aingest(records)
        return _stored(nodes, report, self.on_rejected)

    def _ready(self, nodes: Sequence[BaseNode], *, alone: bool = False) -> tuple[Index, Iterator[Record]]:
        """Return the records of nodes, and an Index that uses the nodes' embeddings as their vectors.

        alone: the embeddings are those of the nodes' own texts, which become those of their records.
        """
        given = GivenEmbeddings(self._index.encoder)

        def records() -> Iterator[Record]:
            for node in nodes:
                record = record_of(node, alone=alone and node.embedding is not None)
                given.add(record.text, node.embedding, own_text(node))
                yield record

        return self._index.using(given), records()

    def as_transformation(self) -> Storing:
        """Return the last transformation for a pipeline without an embed model: it stores the nodes that it is given.

        ```python
        IngestionPipeline(
            transformations=[SentenceSplitter(id_func=node_id), store.as_transformation()], disable_cache=True
        )
        ```

        Without `disable_cache`, the pipeline's cache keeps a copy of all nodes at each run, which it never reads. To
        cache other transformations, leave this one out, and call `store.add(pipeline.run(documents=documents))`.

        A pipeline passes only nodes with embeddings to its `vector_store`, and silently omits others. Give it the store
        as `vector_store` as well if a docstore is to replace and delete documents.
        """
        return Storing(store=self)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Remove the nodes of a document."""
        _refuse_narrower(delete_kwargs)
        self._index.delete(where={SOURCE: ref_doc_id})

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Do what `delete` does, without blocking the event loop."""
        _refuse_narrower(delete_kwargs)
        await self._index.adelete(where={SOURCE: ref_doc_id})

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Remove nodes by their ids, by filters, or those with these ids that meet the filters."""
        self._index.delete(node_ids, where=_narrowed(node_ids, filters, delete_kwargs))

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Do what `delete_nodes` does, without blocking the event loop."""
        await self._index.adelete(node_ids, where=_narrowed(node_ids, filters, delete_kwargs))

    def clear(self) -> None:
        """Remove all nodes."""
        self._index.clear()

    async def aclear(self) -> None:
        """Do what `clear` does, without blocking the event loop."""
        await self._index.aclear()


def _refuse_narrower(options: dict[str, Any]) -> None:
    if options:
        raise SettingError(
            f"unknown keyword {next(iter(options))!r}; nothing was deleted; to delete by metadata, use "
            "delete_nodes(filters=MetadataFilters(...))"
        )


def _narrowed(node_ids: list[str] | None, filters: MetadataFilters | None, options: dict[str, Any]) -> Where | None:
    """Return the condition on nodes to delete. Raise SettingError if nothing identifies them."""
    _refuse_narrower(options)
    where = where_of(filters)
    if node_ids is None and decided(parse(where) or All(())):
        raise SettingError("delete_nodes needs node_ids or filters; use clear() to delete everything")
    return where


def _stored(nodes: Sequence[BaseNode], report: IngestReport, on_rejected: str) -> list[str]:
    """Return the ids of all nodes; if some could not be stored, raise an error about them, or warn."""
    ids = [node.node_id for node in nodes]
    reasons = dict(report.rejected)
    problems = [Problem(at, InputError, reasons[id_]) for at, id_ in enumerate(ids) if id_ in reasons]
    if on_rejected == "error":
        raise_problems(problems)
    elif problems:
        said = "; ".join(f"node {ids[each.position]!r} {each.reason}" for each in problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        warnings.warn(f"{len(problems)} nodes cannot be stored: {said}{more}", InputWarning, stacklevel=3)
    return ids  # one for each node: LlamaIndex pairs them by their order
