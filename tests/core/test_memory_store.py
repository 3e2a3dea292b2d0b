"""The store in memory fulfils the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from harrier_core import Contents, EmptyText, Encoder, Index, StoreMissing, StoreUnsuitable
from harrier_core.store import VectorStore
from harrier_core.testing import MemoryStore
from harrier_core.testing.contract import StoreContract
from harrier_core.testing.wording import NOTES, WordingContract


class TestMemoryStore(StoreContract):
    """Run the whole contract."""

    @pytest.fixture
    def new_store(self) -> Callable[[], VectorStore]:
        store = MemoryStore()
        return lambda: store


class TestWords(WordingContract):
    """Run the contract on words with the store that others are compared with."""

    @pytest.fixture
    def new_store(self) -> Callable[[], VectorStore]:
        store = MemoryStore(keywords=True)
        return lambda: store

    @pytest.fixture
    def wordless_store(self) -> Callable[[], VectorStore]:
        store = MemoryStore()
        return lambda: store


def test_by_word_without_a_model(encoder: Encoder) -> None:
    """Contents find what an Index finds with mode="keyword", without an encoder."""
    store = MemoryStore(keywords=True)
    index = Index(store, encoder)
    index.ingest(NOTES)
    contents = Contents(store)
    for query in ("refused", "kb 5034441", "nothing-of-it"):
        assert contents.search_words(query, 2) == index.search(query, 2, mode="keyword")
        assert asyncio.run(contents.asearch_words(query, 2)) == contents.search_words(query, 2)
    [found] = contents.search_words("refused", 1, {"kind": "error"}, offset=1, min_score=0.1, expand=1)
    assert found.record_id in ("conn", "near")
    assert contents.search_words("refused", min_score=1e9) == []
    with pytest.raises(TypeError, match="unexpected keyword argument 'exact'"):
        contents.search_words("refused", exact=True)  # type: ignore[call-arg]
    with pytest.raises(EmptyText):
        contents.search_words(" ")


def test_by_word_without_words(encoder: Encoder) -> None:
    """The error names the remedy, or says that there is no index."""
    with pytest.raises(StoreMissing):
        Contents(MemoryStore(keywords=True)).search_words("bread")
    store = MemoryStore()
    Index(store, encoder).ingest(NOTES)
    with pytest.raises(StoreUnsuitable, match=r"add_keywords\(\)"):
        Contents(store).search_words("bread")
