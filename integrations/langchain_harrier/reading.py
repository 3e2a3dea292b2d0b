"""Reading from a HarrierVectorStore: documents by their ids or metadata, and from matches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from harrier_core import Chunk, Index, Match, SettingError, StoreMissing
from langchain_harrier.documents import as_id, document_of
from langchain_harrier.keywords import Where, refuse_unknown, where_of

T = TypeVar("T")

_GET = ("ids", "filter", "where", "limit", "offset")


class Reading(VectorStore):
    """The documents of a vector store over an Index."""

    index: Index
    positions: bool

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, in their order; unknown ids are left out."""
        given = as_ids(ids)
        chunks = found(lambda: [stored.chunk for stored in self.index.read(given)])
        places = {id_: place for place, id_ in reversed(list(enumerate(given)))}
        chunks.sort(key=lambda each: (places[each.record_id], each.number))
        return [self._document(each) for each in chunks]

    def get(
        self,
        ids: Iterable[str] | None = None,
        where: Where | None = None,
        *,
        filter: Where | None = None,  # noqa: A002
        limit: int | None = None,
        offset: int = 0,
        **kwargs: Any,
    ) -> list[Document]:
        """Return the documents with these ids, or all, that meet conditions on metadata, in the store's order.

        offset: how many to skip. limit: how many to return at most.
        """
        refuse_unknown("get", kwargs, _GET)
        given, met = None if ids is None else as_ids(ids), where_of(filter, where)
        stored = found(lambda: list(self.index.read(given, met, limit=limit, offset=offset)))
        return [self._document(each.chunk) for each in stored]

    async def aget(
        self,
        ids: Iterable[str] | None = None,
        where: Where | None = None,
        *,
        filter: Where | None = None,  # noqa: A002
        limit: int | None = None,
        offset: int = 0,
        **kwargs: Any,
    ) -> list[Document]:
        """Return what `get` returns, without blocking the event loop."""
        refuse_unknown("aget", kwargs, _GET)
        return await asyncio.to_thread(self.get, ids, where, filter=filter, limit=limit, offset=offset)

    def _document(self, match: Match | Chunk) -> Document:
        return document_of(match, positions=self.positions)

    def _documents(self, matches: Iterable[Match]) -> list[Document]:
        return [self._document(match) for match in matches]

    def _scored(self, matches: Iterable[Match]) -> list[tuple[Document, float]]:
        return [(self._document(match), match.score) for match in matches]


def as_ids(ids: Iterable[str]) -> list[str]:
    """Return ids as strs. Raise SettingError for a single str, which would be read as a list of letters."""
    if isinstance(ids, str):
        raise SettingError("ids must be a list of ids; put a single one in a list")
    return [as_id(each) for each in ids]


def found(read: Callable[[], list[T]]) -> list[T]:
    """Return what is read, or an empty list if the place does not exist yet; it is not created."""
    try:
        return read()
    except StoreMissing:
        return []


async def afound(reading: Awaitable[list[T]]) -> list[T]:
    """Return what `found` returns, for an awaitable."""
    try:
        return await reading
    except StoreMissing:
        return []
