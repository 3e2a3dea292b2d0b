"""Writing to a HarrierVectorStore: LangChain's names for what an Index ingests and deletes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from langchain_core.documents import Document

from harrier_core import SettingError
from harrier_core.progress import Progress
from langchain_harrier.documents import (
    OnRejected,
    Row,
    checked_choice,
    ids_of,
    length_of,
    one_for_each,
    records_of,
    rows_of_documents,
    rows_of_texts,
)
from langchain_harrier.keywords import WRITING, Where, refuse_unknown, where_of
from langchain_harrier.progress import told
from langchain_harrier.reading import Reading, as_ids

Id = str | int | UUID  # stored as a str
Pair = tuple[str, Sequence[float]]
Vectors = Iterable[Sequence[float]]

_KEYWORDS = ("ids", "on_rejected", "show_progress", "on_progress", *WRITING)
_NOT_GIVEN: Any = object()


class Writing(Reading):
    """The methods of a vector store over an Index that write.

    Methods that add take these keywords. ids: used instead of the documents' own; an integer or a UUID becomes a str.
    on_rejected: overrides the vector store's own. Documents that cannot be stored raise DocumentsRejected, or cause an
    InputWarning and are left out of the ids; the rest is stored in either case. show_progress: show a progress bar.
    on_progress: called with an IngestReport after each window.
    """

    _on_rejected: OnRejected

    def add_documents(
        self,
        documents: Iterable[Document],
        *,
        ids: Iterable[Id | None] | None = None,
        on_rejected: OnRejected | None = None,
        show_progress: bool = False,
        on_progress: Progress | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Store documents from any iterable, and return their ids; a document without an id gets a new one.

        See `Writing` for the keywords.
        """
        refuse_unknown("add_documents", kwargs, _KEYWORDS)
        rows, own = rows_of_documents(documents), one_for_each("ids", ids, documents)
        with told(on_progress, show=show_progress, total=length_of(documents)) as tell:
            return self._add(rows, own, on_rejected, tell)

    async def aadd_documents(
        self,
        documents: Iterable[Document],
        *,
        ids: Iterable[Id | None] | None = None,
        on_rejected: OnRejected | None = None,
        show_progress: bool = False,
        on_progress: Progress | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Do what `add_documents` does, without blocking the event loop."""
        refuse_unknown("aadd_documents", kwargs, _KEYWORDS)
        rows, own = rows_of_documents(documents), one_for_each("ids", ids, documents)
        with told(on_progress, show=show_progress, total=length_of(documents)) as tell:
            return await self._aadd(rows, own, on_rejected, tell)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[Id | None] | None = None,
        on_rejected: OnRejected | None = None,
        show_progress: bool = False,
        on_progress: Progress | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Store texts with their metadata, as `add_documents` stores documents."""
        refuse_unknown("add_texts", kwargs, _KEYWORDS)
        rows, own = rows_of_texts(texts, metadatas), one_for_each("ids", ids, texts)
        with told(on_progress, show=show_progress, total=length_of(texts)) as tell:
            return self._add(rows, own, on_rejected, tell)

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[Id | None] | None = None,
        on_rejected: OnRejected | None = None,
        show_progress: bool = False,
        on_progress: Progress | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Do what `add_texts` does, without blocking the event loop."""
        refuse_unknown("aadd_texts", kwargs, _KEYWORDS)
        rows, own = rows_of_texts(texts, metadatas), one_for_each("ids", ids, texts)
        with told(on_progress, show=show_progress, total=length_of(texts)) as tell:
            return await self._aadd(rows, own, on_rejected, tell)

    def add_embeddings(
        self,
        texts: Iterable[str] | Iterable[Pair],
        embeddings: Iterable[Sequence[float]] | None = None,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[Id | None] | None = None,
        *,
        on_rejected: OnRejected | None = None,
        show_progress: bool = False,
        on_progress: Progress | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Store texts whose vectors were made before, by the same model; some vectors are made again and compared.

        embeddings: one for each text; without them, texts are pairs of a text and its vector. See `Writing` for the
        other keywords.
        """
        refuse_unknown("add_embeddings", kwargs, _KEYWORDS)
        given, vectors = _apart(texts, embeddings)
        rows, own = rows_of_texts(given, metadatas), one_for_each("ids", ids, given)
        with told(on_progress, show=show_progress, total=length_of(given)) as tell:
            return self._add(rows, own, on_rejected, tell, vectors)

    async def aadd_embeddings(
        self,
        texts: Iterable[str] | Iterable[Pair],
        embeddings: Iterable[Sequence[float]] | None = None,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[Id | None] | None = None,
        *,
        on_rejected: OnRejected | None = None,
        show_progress: bool = False,
        on_progress: Progress | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Do what `add_embeddings` does, without blocking the event loop."""
        refuse_unknown("aadd_embeddings", kwargs, _KEYWORDS)
        given, vectors = _apart(texts, embeddings)
        rows, own = rows_of_texts(given, metadatas), one_for_each("ids", ids, given)
        with told(on_progress, show=show_progress, total=length_of(given)) as tell:
            return await self._aadd(rows, own, on_rejected, tell, vectors)

    def delete(
        self,
        ids: Iterable[str] | None = None,
        *,
        filter: Where = _NOT_GIVEN,  # noqa: A002
        where: Where = _NOT_GIVEN,
        **kwargs: Any,
    ) -> bool:
        """Remove the documents with these ids, those that meet conditions, or, given both, those with the ids that do.

        Without ids and conditions, remove all documents; conditions that are None or empty are then an error. It does
        not matter whether such documents exist.
        """
        refuse_unknown("delete", kwargs, ("ids", "filter", "where"))  # ignoring one would remove everything
        met = _conditions(ids, filter, where)
        if ids is None and met is None:
            self.index.clear()
        else:
            self.index.delete(None if ids is None else as_ids(ids), where=met)
        return True

    async def adelete(
        self,
        ids: Iterable[str] | None = None,
        *,
        filter: Where = _NOT_GIVEN,  # noqa: A002
        where: Where = _NOT_GIVEN,
        **kwargs: Any,
    ) -> bool:
        """Do what `delete` does, without blocking the event loop."""
        refuse_unknown("adelete", kwargs, ("ids", "filter", "where"))
        return await asyncio.to_thread(self.delete, ids, filter=filter, where=where)

    def _add(
        self,
        rows: Iterable[Row],
        ids: Iterable[Id | None] | None,
        on_rejected: OnRejected | None,
        on_progress: Progress | None,
        vectors: Vectors | None = None,
    ) -> list[str]:
        choice, taken = checked_choice(on_rejected or self._on_rejected), list[str]()
        records = records_of(rows, ids, taken)
        return ids_of(taken, self.index.ingest(records, vectors=vectors, on_progress=on_progress), choice)

    async def _aadd(
        self,
        rows: Iterable[Row],
        ids: Iterable[Id | None] | None,
        on_rejected: OnRejected | None,
        on_progress: Progress | None,
        vectors: Vectors | None = None,
    ) -> list[str]:
        choice, taken = checked_choice(on_rejected or self._on_rejected), list[str]()
        records = records_of(rows, ids, taken)
        return ids_of(taken, await self.index.aingest(records, vectors=vectors, on_progress=on_progress), choice)


def _conditions(ids: object, filter: Any, where: Any) -> Where | None:  # noqa: A002
    """Return the conditions for a removal. Raise SettingError if empty ones would mean everything."""
    given = [each for each in (filter, where) if each is not _NOT_GIVEN]
    if ids is None and any(each is None or each == {} for each in given):
        raise SettingError(
            "delete got ids and conditions that are None or empty; to remove all documents, write delete()"
        )
    return where_of(*(None if each is _NOT_GIVEN or each == {} else each for each in (filter, where)))


def _apart(texts: Any, embeddings: Vectors | None) -> tuple[Iterable[str], Vectors]:
    """Return texts and their vectors, which may come in pairs."""
    if isinstance(texts, str):
        raise SettingError("texts must be a list of texts; put a single one in a list")
    if embeddings is not None:
        return texts, embeddings
    pairs = list(texts)
    if not all(isinstance(each, tuple | list) and len(each) == 2 for each in pairs):
        raise SettingError(
            "without embeddings, texts must be pairs of a text and its vector; add_texts takes texts alone"
        )
    return [text for text, _ in pairs], [vector for _, vector in pairs]
