"""HarrierDocumentStore: an Index as Haystack's document store."""

from __future__ import annotations

import asyncio
import re
import warnings
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret
from haystack_integrations.components.embedders.harrier.embedders import Encoding, in_thread
from haystack_integrations.document_stores.harrier.filters import FilterError, ids_of, where_of

from harrier_core import Chunk, Index, IngestReport, Match, Record, Skipped, open_store
from harrier_core.errors import InputError, InputWarning, Problem, SettingError, StoreMissing

Filters = dict[str, Any]

_NONE = DuplicatePolicy.NONE


class HarrierDocumentStore(Encoding):
    """Documents in an Index: writing one again replaces it, and unchanged documents are not embedded again.

    A document is a record under its id; the Index embeds its content, and ignores an embedding that comes with it. If
    an Index splits long records, each piece is found and counted as a document with the record's id. An index that does
    not exist yet is an empty one. The methods of Haystack's document stores have async twins, whose names end in
    `_async`.

    ```python
    store = HarrierDocumentStore("pgvector:FOLDER?table=docs", model="harrier-0.6b")
    store.write_documents([Document(content="Bread rises because of yeast.", meta={"year": 2021})])
    ```
    """

    def __init__(
        self, place: Index | str | Secret, *, on_rejected: Literal["error", "warn"] = "error", **settings: Any
    ) -> None:
        """Make a document store for an Index, or for the one that a URL names. Nothing is opened yet.

        place: an Index, which its owner has to close, and which is not serialised; or a URL, and with it `model` and
        more, as for a HarrierTextEmbedder. on_rejected: whether documents that cannot be stored, such as blank ones,
        raise an "error" after all others are stored, or only "warn".
        """
        super().__init__(*[place.encoder] if isinstance(place, Index) else [], **settings)
        if on_rejected not in ("error", "warn"):
            raise SettingError(f"on_rejected must be 'error' or 'warn', got {on_rejected!r}")
        secret = isinstance(place, str) and re.search("://[^/]*:[^/]*@|password=", place)
        self.place = Secret.from_token(str(place)) if secret else place  # Haystack never writes it to YAML
        self.on_rejected = on_rejected

    @cached_property
    def index(self) -> Index:
        """The Index that holds the documents."""
        if isinstance(self.place, Index):
            return self.place
        url = self.place.resolve_value() if isinstance(self.place, Secret) else self.place
        return Index(open_store(url or ""), self.index_encoder)

    def close(self) -> None:
        """Close the Index, if it was made from a URL; the next call makes it again."""
        if not isinstance(self.place, Index) and (made := vars(self).pop("index", None)):
            made.close()

    # -- writing

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = _NONE) -> int:
        """Store documents, and return how many. By default they replace those with the same ids.

        With SKIP and FAIL, the ids are looked up first.
        """
        records = self._records(documents, policy)
        return self._written(records, self.index.ingest(records))

    async def write_documents_async(self, documents: list[Document], policy: DuplicatePolicy = _NONE) -> int:
        """Do what `write_documents` does; if cancelled, it ends after the current pass."""
        records = await asyncio.to_thread(self._records, documents, policy)
        return self._written(records, await self.index.aingest(records))

    def _records(self, documents: list[Document], policy: DuplicatePolicy) -> list[Record | Skipped]:
        if not isinstance(documents, list) or not all(isinstance(each, Document) for each in documents):
            raise SettingError("documents must be a list of Documents")
        if any(each.embedding is not None for each in documents):
            warnings.warn("embeddings of documents are ignored: the Index makes its own", InputWarning, stacklevel=3)
        if not isinstance(policy, DuplicatePolicy):
            raise SettingError(f"policy must be a DuplicatePolicy, got {policy!r}")
        if policy in (_NONE, DuplicatePolicy.OVERWRITE):
            return [_record(each) for each in documents]
        ids = [each.id for each in documents]
        there = {each.id for each in self.filter_documents({"field": "id", "operator": "in", "value": ids})}
        new = {each.id: each for each in reversed(documents) if each.id not in there}  # the first of several counts
        if policy == DuplicatePolicy.FAIL and len(new) < len(documents):
            raise DuplicateDocumentError(f"{len(documents) - len(new)} of the documents already exist")
        return [_record(each) for each in reversed(new.values())]

    def _written(self, records: list[Record | Skipped], report: IngestReport) -> int:
        reasons = dict(report.rejected)
        problems = [Problem(at, InputError, reasons[each.id]) for at, each in enumerate(records) if each.id in reasons]
        if problems and self.on_rejected == "error":
            raise InputError(problems)
        if problems:
            warnings.warn(str(InputError(problems)), InputWarning, stacklevel=3)
        return len(records) - len(problems)

    def update_by_filter(self, filters: Filters, meta: dict[str, Any]) -> int:
        """Add to the metadata of the documents that meet the filters, and return how many; none is embedded again."""
        found = self.filter_documents(filters)
        if len({each.id for each in found}) < len(found):
            raise SettingError("documents that were cut into chunks cannot be updated by a filter; write them again")
        return self.write_documents([replace(each, meta={**each.meta, **meta}) for each in found])

    def delete_documents(self, document_ids: list[str]) -> None:
        """Remove the documents with these ids, whether they exist or not."""
        self.index.delete(document_ids)

    def delete_by_filter(self, filters: Filters) -> int:
        """Remove the documents that meet the filters, and return how many. Empty filters are an error."""
        if not filters or filters.get("conditions") == []:
            raise FilterError("filters must say what to delete, got none; use delete_all_documents()")
        return self.index.delete({each.id for each in self.filter_documents(filters)})

    def delete_all_documents(self) -> None:
        """Remove all documents."""
        self.index.clear()

    # -- reading

    def count_documents(self) -> int:
        """Return how many documents there are."""
        with suppress(StoreMissing):
            return self.index.count()
        return 0

    def filter_documents(self, filters: Filters | None = None) -> list[Document]:
        """Return the documents that meet the filters, which may name ids instead, in any order."""
        ids = ids_of(filters)
        where = where_of(filters) if ids is None else None
        with suppress(StoreMissing):
            return [_document(each.chunk) for each in self.index.read(ids, where)]
        return []

    def search(self, query: str | list[float], filters: Filters | None, k: int, **how: Any) -> list[Document]:
        """Return the k documents that best answer a query, or the embedding of one, best first.

        how: further keywords of `Index.search`, or of `search_vectors` for an embedding.
        """
        where = where_of(filters)
        with suppress(StoreMissing):
            if isinstance(query, str):
                matches = self.index.search(query, k, where, **how)
            else:
                [matches] = self.index.search_vectors([query], k, where, **how)
            return [_document(each, each.score) for each in matches]
        return []

    count_documents_async = in_thread(count_documents)
    delete_all_documents_async = in_thread(delete_all_documents)
    delete_by_filter_async = in_thread(delete_by_filter)
    delete_documents_async = in_thread(delete_documents)
    filter_documents_async = in_thread(filter_documents)
    update_by_filter_async = in_thread(update_by_filter)


def _record(document: Document) -> Record | Skipped:
    if document.blob or document.sparse_embedding:
        return Skipped(document.id, "has a blob or a sparse embedding, which an Index does not store")
    return Record(document.id, document.content or "", document.meta)


def _document(found: Chunk | Match, score: float | None = None) -> Document:
    """Return a document with a copy of the metadata, so that changing them changes nothing in the store."""
    return Document(id=found.record_id, content=found.text, meta=dict(found.metadata), score=score)
