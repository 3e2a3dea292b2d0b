"""A vector store as the last transformation of an IngestionPipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from llama_index.core.schema import BaseNode, TransformComponent
from llama_index.core.vector_stores.types import BasePydanticVectorStore


class Storing(TransformComponent):
    """Stores all nodes, with or without embeddings, and returns them unchanged.

    It runs whenever the pipeline does: a cache with the nodes of an earlier run knows nothing about the store. Such a
    cache grows by all nodes at each run, so the pipeline should have `disable_cache=True`.
    """

    store: BasePydanticVectorStore

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which a pipeline knows it."""
        return "HarrierVectorStore.as_transformation"

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Store the nodes."""
        self.store.add(nodes)
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Store the nodes, without blocking the event loop."""
        await self.store.async_add(nodes)
        return nodes

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Return the key for a pipeline's cache, which is never the same twice."""
        return {"class_name": self.class_name(), "run": uuid4().hex}
