"""Another table takes over the name of a source while workers use it."""

from __future__ import annotations

from typing import Any

import pytest
from harrier_pgvector.sync import SyncWorker
from ingesting import Hashing
from syncs import Execute, opened, running, wait_for

from harrier_core import Chunking

# Each gives the name public.articles to the other table; the first schema or table keeps its rows under another name.
_SWAP = """
    BEGIN; ALTER TABLE articles RENAME TO articles_old; ALTER TABLE articles_new RENAME TO articles; COMMIT"""
_SWAP_SCHEMAS = """
    BEGIN; ALTER TABLE articles SET SCHEMA old; ALTER TABLE articles_new RENAME TO articles; COMMIT"""


@pytest.fixture
def sync(database: str, execute: Execute) -> Any:
    """Declare a table with five rows, which another one is to replace that has some of the same keys."""
    execute("CREATE SCHEMA old")
    for table, last in (("articles", 5), ("articles_new", 4)):
        execute(f"CREATE TABLE {table} (id int PRIMARY KEY, body text)")
        execute(f"INSERT INTO {table} SELECT i, '{table} ' || i FROM generate_series(1, {last}) AS i")
    sync = opened(database, table="chunks")
    sync.create("articles", Hashing().space, text="body", chunking=Chunking(tokens=16))
    return sync


def texts(execute: Execute, table: str = "chunks") -> list[tuple[str, str]]:
    return execute(f"SELECT record_id, text FROM {table} ORDER BY 1")


def is_done(sync: Any) -> bool:
    status = sync.status()
    return (status.left, status.leased) == (0, 0)


@pytest.mark.parametrize(
    ("swap", "renamed"), [(_SWAP, "articles_old"), (_SWAP_SCHEMAS, "old.articles")], ids=["tables", "schemas"]
)
def test_changes(database: str, execute: Execute, sync: Any, swap: str, renamed: str) -> None:
    """A worker that knows the earlier name reads no row of the other table."""
    with running(database):
        wait_for(lambda: len(texts(execute)) == 5 and is_done(sync))
        execute(swap)
        execute(f"UPDATE {renamed} SET body = 'changed' WHERE id IN (1, 5)")
        wait_for(lambda: is_done(sync))
        assert texts(execute) == execute(f"SELECT id::text, body FROM {renamed} ORDER BY 1")
    assert sync.status().state == "active"


def test_a_scan(database: str, execute: Execute, sync: Any) -> None:
    with running(database):
        wait_for(lambda: len(texts(execute)) == 5 and is_done(sync))
        execute(_SWAP)
        execute("TRUNCATE articles")
        sync.rescan()
        wait_for(lambda: execute("SELECT count(*) FROM harrier_sync.scans") == [(0,)] and is_done(sync))
        assert texts(execute) == execute("SELECT id::text, body FROM articles_old ORDER BY 1")


def test_another_table_that_cannot_be_read(database: str, execute: Execute, sync: Any) -> None:
    """Errors of the other table are not those of the source, and fail no row."""
    execute("ALTER TABLE articles_new RENAME body TO other")
    with running(database):
        wait_for(lambda: len(texts(execute)) == 5 and is_done(sync))
        execute(_SWAP)
        execute("UPDATE articles_old SET body = 'changed' WHERE id IN (1, 5)")
        wait_for(lambda: texts(execute) == execute("SELECT id::text, body FROM articles_old ORDER BY 1"))
    assert (sync.status().state, sync.status().failed) == ("active", 0)


@pytest.mark.usefixtures("sync")
def test_a_source_that_is_dropped(database: str, execute: Execute) -> None:
    """Another table of its name does not become the source."""
    SyncWorker(database, Hashing(), poll=0.2).drain()
    execute("UPDATE articles SET body = 'changed'")
    execute("BEGIN; DROP TABLE articles; ALTER TABLE articles_new RENAME TO articles; COMMIT")
    worker = SyncWorker(database, Hashing(), poll=0.2)
    worker.drain()
    assert "was dropped" in worker.troubles["public.chunks"]
    assert texts(execute) == [(str(i), f"articles {i}") for i in range(1, 6)]
