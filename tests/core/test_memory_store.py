"""The store in memory keeps the contract, and is small enough that whoever reads it believes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harrier_core.store import VectorStore
from harrier_core.testing import MemoryStore
from harrier_core.testing.contract import StoreContract
from harrier_core.testing.wording import WordingContract


class TestMemoryStore(StoreContract):
    """All of the contract."""

    @pytest.fixture
    def new_store(self) -> Callable[[], VectorStore]:
        store = MemoryStore()
        return lambda: store


class TestItsWords(WordingContract):
    """The store that others are compared with."""

    @pytest.fixture
    def new_store(self) -> Callable[[], VectorStore]:
        store = MemoryStore(keywords=True)
        return lambda: store

    @pytest.fixture
    def wordless_store(self) -> Callable[[], VectorStore]:
        store = MemoryStore()
        return lambda: store
