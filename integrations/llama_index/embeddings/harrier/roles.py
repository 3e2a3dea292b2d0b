"""LlamaIndex's names for an Embedder's methods: queries after their instruction, texts as they are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.bridge.pydantic import PrivateAttr

from harrier_core import Embedder
from harrier_core.blanks import BlanksLast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

InBothRoles: TypeAlias = Embedder | BlanksLast


class Roles(BaseEmbedding):
    """The methods that LlamaIndex requires of an embedding, each in one of the two roles."""

    _source: InBothRoles = PrivateAttr()

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._get_query_embeddings([query])[0]

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return (await self._aget_query_embeddings([query]))[0]

    def _get_query_embeddings(self, queries: list[str]) -> list[Embedding]:
        return _lists(self._source.encode_queries(queries))

    async def _aget_query_embeddings(self, queries: list[str]) -> list[Embedding]:
        return await asyncio.to_thread(_lists, await self._source.aencode_queries(queries))

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return _lists(self._source.encode_documents(texts))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await asyncio.to_thread(_lists, await self._source.aencode_documents(texts))


def _lists(vectors: NDArray[np.float32]) -> list[Embedding]:
    """Return Python floats, row by row: one `tolist` for all would keep every other thread waiting."""
    return [vector.tolist() for vector in vectors]
