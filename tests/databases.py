"""A real PostgreSQL 18 with pgvector for the whole session, and a table's name for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from harrier_pgvector.embedded import start

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its connection string."""
    conninfo, stop = start(tmp_path_factory.mktemp("postgres"))
    yield conninfo
    stop()


@pytest.fixture
def table() -> str:
    """A name that is not taken, and needs its quotes."""
    return f'documents "{next(_numbers)}"; 100%s --'
