"""Behaviour of the document store beyond Haystack's own tests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.document_stores.harrier import HarrierDocumentStore

from harrier_core import Chunking, Encoder, FilterError, Index, InputError, InputWarning, Record, SettingError
from harrier_core.testing import MemoryStore

GOOD = Document(id="good", content="Bread rises.", meta={"year": 2020, "tags": ["a", "b"], "of": {"a": None}})
BAD = [
    Document(id="blank", content=" "),
    Document(id="none"),
    Document(id="blob", content="a", blob=ByteStream(b"a")),
    Document(id="sparse", content="a", sparse_embedding=SparseEmbedding([0], [1.0])),
    Document(id="nan", content="a", meta={"year": float("nan")}),
    Document(id="object", content="a", meta={"year": object()}),
]


def test_an_empty_place(document_store: HarrierDocumentStore) -> None:
    """A missing place acts as an empty one, and is not created."""
    assert document_store.filter_documents() == []
    assert document_store.search("bread", None, 3) == []
    assert document_store.search([0.1] * document_store.index.encoder.dimensions, None, 3) == []
    assert document_store.delete_by_filter({"field": "meta.a", "operator": "==", "value": 1}) == 0
    nothing: list[Any] = [None, {}, {"operator": "AND", "conditions": []}]
    for filters in nothing:
        with pytest.raises(FilterError, match=r"use delete_all_documents\(\)"):
            document_store.delete_by_filter(filters)
    with pytest.raises(SettingError, match="policy must be a DuplicatePolicy, got 'overwrite'"):
        document_store.write_documents([GOOD], "overwrite")  # type: ignore[arg-type]
    document_store.delete_documents(["a"])
    assert document_store.index.store.space() is None


@pytest.mark.parametrize("policy", [DuplicatePolicy.NONE, DuplicatePolicy.SKIP])
def test_rejected_documents(document_store: HarrierDocumentStore, policy: DuplicatePolicy) -> None:
    """They are listed with reasons after the others are stored."""
    with pytest.raises(InputError, match="text 0 has a text that is empty or blank .and 5 more") as raised:
        document_store.write_documents([*BAD, GOOD], policy)
    assert [each.position for each in raised.value.problems] == list(range(6))
    reasons = [each.reason for each in raised.value.problems]
    assert reasons[1] == "has a text that is empty or blank"
    assert reasons[2] == reasons[3] == "has a blob or a sparse embedding, which an Index does not store"
    assert document_store.filter_documents() == [GOOD]


def test_rejected_documents_as_a_warning(encoder: Encoder) -> None:
    """With a warning, a pipeline continues."""
    document_store = HarrierDocumentStore(Index(MemoryStore(), encoder), on_rejected="warn")
    with pytest.warns(InputWarning, match="has a text that is empty or blank .and 5 more"):
        assert document_store.write_documents([*BAD, GOOD]) == 1
    with pytest.warns(InputWarning, match="has a text that is empty or blank"):
        assert asyncio.run(document_store.write_documents_async([GOOD, BAD[0]])) == 1
    assert document_store.count_documents() == 1


@pytest.mark.parametrize("write", ["write_documents", "write_documents_async"])
def test_policies(document_store: HarrierDocumentStore, write: str) -> None:
    """Of duplicates in a call, the first one counts, or fails before anything is written."""

    def written(documents: list[Document], policy: DuplicatePolicy) -> int:
        made: Any = getattr(document_store, write)(documents, policy)
        count: int = asyncio.run(made) if write.endswith("async") else made
        return count

    first, second, other = (Document(id=id_, content=text) for id_, text in (("a", "one"), ("a", "two"), ("b", "one")))
    assert written([first, second, other], DuplicatePolicy.SKIP) == 2
    assert sorted(str(each.content) for each in document_store.filter_documents()) == ["one", "one"]
    with pytest.raises(DuplicateDocumentError, match="1 of the documents already exist"):
        written([Document(id="c", content="one"), second], DuplicatePolicy.FAIL)
    with pytest.raises(DuplicateDocumentError):
        written([Document(id="c", content="one")] * 2, DuplicatePolicy.FAIL)
    assert document_store.count_documents() == 2
    assert written([second, other], DuplicatePolicy.OVERWRITE) == 2
    assert sorted(str(each.content) for each in document_store.filter_documents()) == ["one", "two"]
    assert written([], DuplicatePolicy.FAIL) == written([], DuplicatePolicy.NONE) == 0


def test_embeddings_are_ignored(document_store: HarrierDocumentStore) -> None:
    """They may be of another model; the Index computes its own, with a warning."""
    with pytest.warns(InputWarning, match="embeddings of documents are ignored: the Index makes its own"):
        document_store.write_documents([Document(content="Bread rises.", embedding=[0.5, 0.5])])
    assert document_store.index.verify().sound


def test_an_update_embeds_nothing(document_store: HarrierDocumentStore, read: list[str]) -> None:
    """Only the metadata is written again."""
    document_store.write_documents([GOOD])
    read.clear()
    assert document_store.update_by_filter({"field": "meta.year", "operator": "==", "value": 2020}, {"b": 1}) == 1
    assert read == []
    assert [each.meta for each in document_store.filter_documents()] == [{**GOOD.meta, "b": 1}]


def test_found_metadata_is_a_copy(document_store: HarrierDocumentStore) -> None:
    """Changing it does not change the store, also in memory."""
    document_store.write_documents([GOOD])
    document_store.filter_documents()[0].meta["year"] = 1
    document_store.search("bread", None, 1)[0].meta["year"] = 1
    assert document_store.filter_documents() == [GOOD]


def test_records_with_several_chunks(encoder: Encoder) -> None:
    """Each chunk is found under the record's id; updates are refused, and deletes work."""
    index = Index(MemoryStore(), encoder, chunking=Chunking(tokens=8))
    document_store = HarrierDocumentStore(index)
    assert document_store.write_documents([Document(id="long", content="Bread rises. " * 20, meta={"a": 1})]) == 1
    found = document_store.search("bread", None, 3)
    assert [each.id for each in found] == ["long"] * 3
    assert document_store.count_documents() == index.count() > 3
    with pytest.raises(SettingError, match="that were cut into chunks cannot be updated by a filter"):
        document_store.update_by_filter({"field": "meta.a", "operator": "==", "value": 1}, {"a": 2})
    document_store.delete_documents(["long"])
    assert document_store.count_documents() == 0


def test_records_of_other_surfaces(document_store: HarrierDocumentStore) -> None:
    """They are returned as documents."""
    document_store.index.ingest([Record("a", "Bread rises.", {"year": 2020})])
    assert document_store.filter_documents() == [Document(id="a", content="Bread rises.", meta={"year": 2020})]


def test_an_index_is_its_owners_to_close(document_store: HarrierDocumentStore) -> None:
    """A pipeline that closes its components leaves a given Index open."""
    document_store.write_documents([GOOD])
    index = document_store.index
    document_store.close()
    assert index.count() == 1
    assert document_store.index is index


def test_settings(words: str, encoder: Encoder) -> None:
    """Invalid settings are refused by the constructor, which opens nothing."""
    index = Index(MemoryStore(), encoder)
    with pytest.raises(SettingError, match="task is a setting of Encoder"):
        HarrierDocumentStore(index, task="sts_query")
    wrong: Any = "ignore"
    with pytest.raises(SettingError, match="on_rejected must be 'error' or 'warn', got 'ignore'"):
        HarrierDocumentStore(index, on_rejected=wrong)
    with pytest.raises(SettingError, match="a store's URL must begin with one of"):
        HarrierDocumentStore("nowhere", model=words).count_documents()
    unread: Any = "not a list"
    with pytest.raises(SettingError, match="documents must be a list of Documents"):
        HarrierDocumentStore(index).write_documents(unread)
