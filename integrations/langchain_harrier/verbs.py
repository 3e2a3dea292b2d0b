"""LangChain's names for an Embedder's methods."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from langchain_core.embeddings import Embeddings

from harrier_core import Embedder
from harrier_core.blanks import BlanksLast
from langchain_harrier.callers import warn_of_queries
from langchain_harrier.progress import windows_of

if TYPE_CHECKING:
    from harrier_core.types import Vectors

InBothRoles: TypeAlias = Embedder | BlanksLast


class Verbs(Embeddings):
    """Embeddings of queries and documents, as lists for LangChain, and as arrays."""

    show_progress: bool

    @property
    @abstractmethod
    def _source(self) -> InBothRoles:
        """The embedder that makes the vectors."""

    def embed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Return vectors of documents, each embedded as it is."""
        warn_of_queries()
        if not self.show_progress:
            return _lists(self.encode_documents(texts))
        with windows_of(texts) as windows:
            return [vector for window in windows for vector in _lists(self.encode_documents(window))]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query, embedded after the task's instruction."""
        return self.embed_queries([text])[0]

    def embed_queries(self, texts: Iterable[str]) -> list[list[float]]:
        """Return the vectors of several queries, embedded together."""
        return _lists(self.encode_queries(texts))

    async def aembed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Return what `embed_documents` returns, without blocking the event loop."""
        warn_of_queries()
        if not self.show_progress:
            return await asyncio.to_thread(_lists, await self._source.aencode_documents(texts))
        with windows_of(texts) as windows:
            parts = [_lists(await self._source.aencode_documents(window)) for window in windows]
        return [vector for part in parts for vector in part]

    async def aembed_query(self, text: str) -> list[float]:
        """Return what `embed_query` returns; queries that wait together share a forward pass."""
        [vector] = _lists(await self._source.aencode_queries([text]))
        return vector

    async def aembed_queries(self, texts: Iterable[str]) -> list[list[float]]:
        """Return what `embed_queries` returns, without blocking the event loop."""
        return await asyncio.to_thread(_lists, await self._source.aencode_queries(texts))

    def encode_documents(self, texts: Iterable[str]) -> Vectors:
        """Return what `embed_documents` returns, as a float32 array (texts, dimensions)."""
        return self._source.encode_documents(texts)

    def encode_queries(self, texts: Iterable[str]) -> Vectors:
        """Return what `embed_queries` returns, as a float32 array (texts, dimensions)."""
        return self._source.encode_queries(texts)


def _lists(vectors: Vectors) -> list[list[float]]:
    """Return Python floats, a vector at a time, so that an event loop on another thread gets its turn."""
    return [vector.tolist() for vector in vectors]
