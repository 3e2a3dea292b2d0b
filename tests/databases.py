"""A real PostgreSQL 18 with pgvector for the whole session, and a table's name for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
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
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """One of the test's own, to be killed, and its folder."""
    conninfo, stop = start(tmp_path / "data")
    yield conninfo, tmp_path / "data"
    stop()


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """An empty database of the test's own on that server."""
    name = f"database{next(_numbers)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def table() -> str:
    """A name that is not taken, and needs its quotes."""
    return f'documents "{next(_numbers)}"; 100%s --'
