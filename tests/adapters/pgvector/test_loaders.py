"""Concurrent loads of one new table: none waits for another's index build, and the last one builds."""

from __future__ import annotations

import multiprocessing
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import psycopg
from harrier_pgvector import PgVectorStore
from ingesting import Hashing

from harrier_core import Index, Record

PROCESSES, ROWS = 4, 1_500


def load(index: bytes, name: int, barrier: Any) -> tuple[int, list[str]]:
    """Return the report of one process and its warnings."""
    with pickle.loads(index) as own, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        barrier.wait(100)
        report = own.ingest(Record(f"{name} {row}", f"text {row} of {name}") for row in range(ROWS))
        return report.written, [str(each.message) for each in caught]


def test_the_last_loader_builds(postgres: str, table: str) -> None:
    """A loader that ends while another writes leaves the indexes to it, with a warning."""
    index = pickle.dumps(Index(PgVectorStore(postgres, table=table), Hashing()))
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(PROCESSES, context) as pool:
        barrier = manager.Barrier(PROCESSES)
        loads = [pool.submit(load, index, number, barrier) for number in range(PROCESSES)]
        results = [each.result(100) for each in loads]
    assert [written for written, _ in results] == [ROWS] * PROCESSES
    told = [text for _, texts in results for text in texts if "were not built" in text]
    assert len(told) < PROCESSES
    assert all("another session is writing to it; the last of several loads builds them" in text for text in told)
    with psycopg.connect(postgres, autocommit=True) as connection:
        query = "SELECT count(*) FROM pg_index WHERE indrelid = quote_ident(%s)::regclass AND indisvalid"
        assert connection.execute(query, [table]).fetchone() == (3,)  # and the primary key
        count = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX%'"
        assert connection.execute(count).fetchone() == (0,)
