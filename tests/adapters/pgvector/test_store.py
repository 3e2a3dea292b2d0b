"""The contract on a real Postgres, and what is Postgres's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harrier_pgvector import PgVectorStore

from harrier_core.store import VectorStore
from harrier_core.testing.contract import StoreContract


class TestPgVectorStore(StoreContract):
    """All of the contract, in a table of each test's own."""

    @pytest.fixture
    def new_store(self, postgres: str, table: str) -> Callable[[], VectorStore]:
        return lambda: PgVectorStore(postgres, table=table)
