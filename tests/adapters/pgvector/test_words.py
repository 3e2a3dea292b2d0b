"""Search by word on a real Postgres: the contract, and what is Postgres's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harrier_pgvector import PgVectorStore

from harrier_core.store import VectorStore
from harrier_core.testing.wording import WordingContract


class TestPgVectorStore(WordingContract):
    """All of the contract, in tables of each test's own."""

    @pytest.fixture
    def new_store(self, postgres: str, table: str) -> Callable[[], VectorStore]:
        return lambda: PgVectorStore(postgres, table=table, keywords=True)

    @pytest.fixture
    def wordless_store(self, postgres: str, table: str) -> Callable[[], VectorStore]:
        return lambda: PgVectorStore(postgres, table=f"{table} wordless")


class TestFloat32(TestPgVectorStore):
    """The same with numbers of full precision."""

    @pytest.fixture
    def new_store(self, postgres: str, table: str) -> Callable[[], VectorStore]:
        return lambda: PgVectorStore(postgres, table=table, keywords=True, precision="float32")
