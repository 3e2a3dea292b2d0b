"""The store contract on a real Postgres."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harrier_pgvector import PgVectorStore

from harrier_core.store import VectorStore
from harrier_core.testing.contract import StoreContract


class TestPgVectorStore(StoreContract):
    """Run the whole contract, with a separate table for each test."""

    @pytest.fixture
    def new_store(self, postgres: str, table: str) -> Callable[[], VectorStore]:
        return lambda: PgVectorStore(postgres, table=table)
