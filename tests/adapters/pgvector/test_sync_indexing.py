"""Indexes are built while a table is in use, and no one waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from harrier_pgvector.sync import SyncWorker
from ingesting import Hashing
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool
from syncs import Execute, opened

from harrier_core import Index, Record
from harrier_core.indexes import IndexKind

ROWS = 1_100  # enough for an index
BUILDING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE INDEX%' "
    "AND wait_event_type = 'Lock'"
)
INDEXES = (
    "SELECT m.amname, i.indisvalid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid "
    "JOIN pg_am m ON m.oid = x.relam WHERE i.indrelid = '{}'::regclass ORDER BY 1, 2"
)
RECORDS = [Record(f"r{number}", f"text {number}", {"n": number}) for number in range(ROWS)]


def wait_until(met: Callable[[], Any]) -> Any:
    until = time.monotonic() + 60
    while not (found := met()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return found


@contextmanager
def working(database: str) -> Iterator[None]:
    """Run a worker."""
    worker = SyncWorker(database, Hashing(), poll=0.1)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(60)


@pytest.fixture
def articles(database: str, execute: Execute) -> None:
    """Declare a table that needs an index as soon as its rows are embedded."""
    execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
    execute(f"INSERT INTO articles SELECT i, 'body ' || i FROM generate_series(1, {ROWS}) AS i")
    opened(database, table="chunks").create("articles", Hashing().space, text="body")


@pytest.mark.usefixtures("articles")
def test_changes_during_the_first_build(database: str, execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are embedded while the index is built, and a build that is killed is repeated."""
    monkeypatch.setattr("harrier_pgvector.building._is_written_to", lambda *_: False)
    with working(database), psycopg.connect(database) as other:
        wait_until(lambda: execute("SELECT count(*) = %s FROM chunks", [ROWS]) == [(True,)] or None)
        other.execute("UPDATE chunks SET number = number WHERE record_id = '1'")
        execute("UPDATE articles SET body = 'a change' WHERE id = 2")  # after it, the worker looks for missing indexes
        building = wait_until(lambda: execute(BUILDING))
        execute("UPDATE articles SET body = 'another' WHERE id = 3")
        execute("DELETE FROM articles WHERE id = 4")
        changed = "SELECT text FROM chunks WHERE record_id IN ('3', '4')"
        wait_until(lambda: execute(changed) == [("another",)])
        assert execute(BUILDING) == building
        execute("SELECT pg_terminate_backend(%s)", building[0])
        other.rollback()
        wait_until(lambda: execute(INDEXES.format("chunks")) == [("btree", True), ("gin", True), ("hnsw", True)])


@pytest.mark.parametrize("change", ["UPDATE articles SET body = 'other'", "DELETE FROM articles"])
@pytest.mark.usefixtures("articles")
def test_a_worker_that_waits_for_the_chunks(database: str, execute: Execute, change: str) -> None:
    """It locks no row of the queue meanwhile, for which the other workers would wait."""
    SyncWorker(database, Hashing(), poll=0.1).drain()
    waiting = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'chunks'::regclass AND NOT granted"
    with working(database), psycopg.connect(database) as other:
        other.execute("LOCK TABLE chunks IN SHARE MODE")
        execute(f"{change} WHERE id = 1")
        wait_until(lambda: execute(waiting) == [(True,)])
        assert len(execute("SELECT 1 FROM harrier_sync.queue_1 FOR UPDATE NOWAIT")) == 1
        other.rollback()
        wait_until(lambda: execute("SELECT count(*) FROM harrier_sync.queue_1") == [(0,)])


def test_writers_during_the_build_of_another_index(
    database: str, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field gets an index in a table that has others already."""
    monkeypatch.setattr("harrier_pgvector.building._is_written_to", lambda *_: False)
    with Index(PgVectorStore(database, table="docs"), Hashing()) as index:
        index.ingest(RECORDS)
        with (
            PgVectorStore(database, table="docs", indexes={"n": "integer"}) as store,
            psycopg.connect(database) as other,
            ThreadPoolExecutor(1) as thread,
        ):
            other.execute("UPDATE docs SET number = number WHERE record_id = 'r1'")
            building = thread.submit(store.open(Hashing.space).build_indexes)
            wait_until(lambda: execute(BUILDING) or building.done())
            execute("SET lock_timeout = '2s'")
            execute("UPDATE docs SET number = number WHERE record_id = 'r2'")
            other.rollback()
            building.result(60)
            assert store.describe().health == "fine"
        assert [match.record_id for match in index.search("text", k=9, where={"n": {"$lt": 1}})] == ["r0"]


def test_settings_of_a_session(database: str) -> None:
    """A build that cannot run in a transaction leaves those of a caller's connection as they were."""
    options = "-c statement_timeout=59s -c lock_timeout=58s -c maintenance_work_mem=2MB -c search_path=public"
    kinds: list[dict[str, IndexKind]] = [{}, {"n": "integer"}]
    with ConnectionPool(make_conninfo(database, options=options), min_size=1, max_size=1, open=True) as pool:
        for indexes in kinds:
            with Index(PgVectorStore(pool, table="docs", indexes=indexes), Hashing()) as index:
                index.ingest(RECORDS)
        with pool.connection() as connection:
            for name, value in (part.split("=") for part in options.replace("-c ", "").split()):
                assert connection.execute(f"SHOW {name}").fetchone() == (value,)
