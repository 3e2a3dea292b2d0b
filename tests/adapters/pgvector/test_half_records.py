"""Records are deleted whole: chunks that a concurrent writer adds go too, and a half of a record can be removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.sync import SyncWorker
from ingesting import DIMENSIONS, Hashing
from syncs import Execute
from syncs import opened as opened_sync

from harrier_core import Index, Record, SettingError
from harrier_core.records import Chunk
from harrier_core.store import Write

KEPT = Record("kept", "a record that stays")


@pytest.fixture
def store(postgres: str, table: str) -> Iterator[PgVectorStore]:
    with PgVectorStore(postgres, table=table) as store:
        yield store


def opened(store: PgVectorStore) -> OpenTable:
    return store.open(Hashing.space, create=True)


def write(store: OpenTable, text: str, numbers: Sequence[int], size: int) -> Write:
    """Return a write of chunks of the record "r", which has this many chunks afterwards."""
    chunks = [Chunk.of(Record("r", ""), number, 0, f"{text} {number}") for number in numbers]
    known = {"r": {}, **store.known(["r"])}
    return Write({"r": size}, chunks, np.full((len(chunks), DIMENSIONS), 0.25, np.float32), [], known)


def left(store: OpenTable) -> list[tuple[str, int]]:
    return [(each.chunk.record_id, each.chunk.number) for each in store.read()]


def delete(store: PgVectorStore) -> int:
    return opened(store).delete(["r"])


def delete_on(store: PgVectorStore) -> int:
    with store._reach().run(lambda c: psycopg.connect(c.info.dsn, password=c.info.password)) as connection:
        connection.execute("SELECT")  # begins a transaction
        return opened(store).delete_on(connection, ["r"])


def prune(store: PgVectorStore) -> int:
    return Index(store, Hashing()).ingest([KEPT], prune=True).deleted


def clear(store: PgVectorStore) -> int:
    return Index(store, Hashing()).clear()


@pytest.mark.parametrize("numbers", [[1], [0, 1], [0, 1, 2]], ids=["added", "changed too", "two added"])
@pytest.mark.parametrize("remove", [delete, delete_on, prune, clear])
def test_a_record_that_grows_while_it_is_deleted(
    postgres: str, store: PgVectorStore, remove: Callable[[PgVectorStore], int], numbers: list[int]
) -> None:
    """The delete waits for the write, and then removes the chunks that it added as well."""
    table = opened(store)
    table.write(write(table, "old", [0], 1))
    if remove is prune:
        Index(store, Hashing()).ingest([KEPT])
    with ThreadPoolExecutor(1) as pool, psycopg.connect(postgres) as connection:
        connection.execute("SELECT")  # begins a transaction
        table.write_on(connection, write(table, "new", numbers, numbers[-1] + 1))
        removing = pool.submit(remove, store)
        wait_for_a_lock(postgres, removing.done)
        connection.commit()
        assert removing.result(60) == numbers[-1] + 1
    assert left(table) == ([("kept", 0)] if remove is prune else [])


def wait_for_a_lock(postgres: str, is_done: Callable[[], bool]) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        while connection.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone() == (
            0,
        ):
            assert not is_done()
            time.sleep(0.01)


@pytest.mark.parametrize("level", list(psycopg.IsolationLevel), ids=lambda level: level.name)
def test_only_read_committed_sees_what_others_added(
    postgres: str, store: PgVectorStore, level: psycopg.IsolationLevel
) -> None:
    """A caller's transaction with a snapshot of its own may neither write nor delete."""
    table = opened(store)
    table.write(write(table, "old", [0], 1))
    mine, theirs = write(table, "mine", [0], 1), write(table, "theirs", [1], 2)
    with psycopg.connect(postgres) as connection:
        connection.isolation_level = level
        connection.execute("SELECT FROM pg_class LIMIT 1")  # takes a snapshot
        table.write(theirs)
        if level in (psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.READ_UNCOMMITTED):
            assert table.write_on(connection, mine).changed == ["r"]
            assert table.delete_on(connection, ["r"]) == 2
        else:
            for use in (lambda: table.write_on(connection, mine), lambda: table.delete_on(connection, ["r"])):
                with pytest.raises(SettingError, match=f"{level.name.replace('_', ' ')}.*; use READ COMMITTED$"):
                    use()
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert left(table) == ([] if "COMMITTED" in level.name else [("r", 0), ("r", 1)])


@pytest.mark.parametrize("remove", [prune, clear])
def test_half_of_a_record(postgres: str, store: PgVectorStore, remove: Callable[[PgVectorStore], int]) -> None:
    """It is found: `verify` reports it, and everything that removes records removes it."""
    index = Index(store, Hashing())
    index.ingest([KEPT, Record("r", "a record without its begin")])
    with psycopg.connect(postgres, autocommit=True) as connection:
        table = psycopg.sql.Identifier(store._name.name)
        connection.execute(psycopg.sql.SQL("UPDATE {} SET number = 1 WHERE record_id = 'r'").format(table))
    assert sorted(index.record_ids()) == ["kept", "r"]
    assert index.verify().problems == [("r", "has no first chunk; delete it, and ingest it again")]
    assert remove(store) == (1 if remove is prune else 2)
    assert index.count() == (1 if remove is prune else 0)
    assert index.verify().sound


def test_half_of_a_record_under_live_sync(database: str, execute: Execute) -> None:
    """A scan removes it if its row is gone, as a concurrent write may leave it when a declaration prunes."""
    execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    execute("INSERT INTO notes VALUES (1, 'one'), (2, 'two')")
    sync = opened_sync(database, table="docs")
    sync.create("notes", Hashing.space, text="body")
    SyncWorker(database, Hashing()).drain()
    execute("UPDATE docs SET record_id = '3', number = 1 WHERE record_id = '2'")
    sync.rescan()
    SyncWorker(database, Hashing()).drain()
    assert execute("SELECT record_id, number FROM docs ORDER BY 1") == [("1", 0), ("2", 0)]
