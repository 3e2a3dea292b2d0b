"""Helpers for tests of the live sync: declared tables that are closed after a test, and an application."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from harrier_pgvector.sync import TableSync

Execute = Callable[..., list[Any]]

_open: list[TableSync] = []


def opened(place: str, **options: Any) -> TableSync:
    """Return a declared table that is closed with the test."""
    _open.append(TableSync(place, **options))
    return _open[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _open:
        _open.pop().close()


@pytest.fixture
def execute(database: str) -> Iterator[Execute]:
    """Run a statement as an application, and return the rows."""
    with psycopg.connect(database, autocommit=True) as connection:

        def run(statement: str, values: Sequence[Any] | None = None) -> list[Any]:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

        yield run
