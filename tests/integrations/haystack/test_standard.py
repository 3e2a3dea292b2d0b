"""Haystack's own tests of document stores, for every kind of store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy
from haystack.testing.document_store import DocumentStoreBaseExtendedTests, create_filterable_docs
from haystack.testing.document_store_async import (
    CountDocumentsAsyncTest,
    DeleteAllAsyncTest,
    DeleteByFilterAsyncTest,
    DeleteDocumentsAsyncTest,
    FilterDocumentsAsyncTest,
    UpdateByFilterAsyncTest,
    WriteDocumentsAsyncTest,
)
from haystack_integrations.document_stores.harrier import HarrierDocumentStore

from harrier_core import Encoder, Index
from harrier_core.store import VectorStore

DOCUMENT = Document(id="1", content="bread rises", meta={"year": 2020})


class TestDocumentStore(
    DocumentStoreBaseExtendedTests,
    CountDocumentsAsyncTest,
    DeleteAllAsyncTest,
    DeleteByFilterAsyncTest,
    DeleteDocumentsAsyncTest,
    FilterDocumentsAsyncTest,
    UpdateByFilterAsyncTest,
    WriteDocumentsAsyncTest,
):
    """Run all of Haystack's tests; each override states its reason."""

    @pytest.fixture
    def document_store(self, place: VectorStore, encoder: Encoder) -> HarrierDocumentStore:
        return HarrierDocumentStore(Index(place, encoder))

    @pytest.fixture
    def filterable_docs(self) -> list[Document]:
        """Return Haystack's documents without random embeddings, because an Index computes its own."""
        return [replace(each, embedding=None) for each in create_filterable_docs()]

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        """Compare documents sorted by id, because an Index has no order."""
        assert by_id(received) == by_id(expected)

    def test_write_documents(self, document_store: Any) -> None:
        """Without a policy, a document replaces the one with its id."""
        assert document_store.write_documents([DOCUMENT]) == 1
        assert document_store.write_documents([replace(DOCUMENT, content="sand")]) == 1
        assert document_store.filter_documents() == [replace(DOCUMENT, content="sand")]

    async def test_write_documents_async(self, document_store: Any) -> None:
        """The same holds for the async method."""
        assert await document_store.write_documents_async([DOCUMENT]) == 1
        assert await document_store.write_documents_async([DOCUMENT], policy=DuplicatePolicy.NONE) == 1
        assert await document_store.filter_documents_async() == [DOCUMENT]


def by_id(documents: list[Document]) -> list[Document]:
    return sorted(documents, key=lambda each: each.id)
