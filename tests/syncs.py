"""Helpers for tests of the live sync: declared tables that are closed after a test, workers, and an application."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from harrier_pgvector.sync import SyncWorker, TableSync
from ingesting import Hashing

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


@contextmanager
def running(database: str, encoder: Any = None, **options: Any) -> Iterator[SyncWorker]:
    """Run a worker until the block ends."""
    worker = SyncWorker(database, encoder or Hashing(), **{"poll": 0.2, **options})
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(60)


def wait_for(met: Callable[[], bool]) -> None:
    """Wait until a condition is met, or fail after a minute."""
    until = time.monotonic() + 60
    while not met():
        assert time.monotonic() < until
        time.sleep(0.05)
