"""Behaviour specific to Postgres: the table, query plans, privileges, spaces, restarts, passwords."""

from __future__ import annotations

import os
import pwd
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psycopg
import pytest
from databases import NewDatabase, NewRole
from harrier_pgvector import PgVectorStore, embedded, near
from harrier_pgvector.embedded import start
from harrier_pgvector.filters import compile_condition
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.schema import Table
from harrier_pgvector.sync import SyncWorker, TableSync, sync_statuses
from ingesting import Hashing
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row, namedtuple_row, scalar_row, tuple_row
from psycopg_pool import ConnectionPool

from harrier_core import (
    Chunking,
    EmbeddingSpace,
    Encoder,
    Index,
    Record,
    SettingError,
    StoreError,
    StoreMissing,
    StoreUnavailable,
    StoreUnsuitable,
    WrongSpace,
)
from harrier_core.filters import meets, parse
from harrier_core.query import Search
from harrier_core.records import Chunk
from harrier_core.store import Write
from harrier_core.testing import build_model

RECORDS = [
    Record(f"r{number}", f"text number {number}", {"n": number, "even": number % 2 == 0}) for number in range(50)
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    with Encoder(build_model(tmp_path_factory.mktemp("words"), vectors="words")) as encoder:
        yield encoder


@pytest.fixture
def index(postgres: str, table: str, encoder: Encoder) -> Iterator[Index]:
    with Index(PgVectorStore(postgres, table=table), encoder) as index:
        yield index


def execute(conninfo: str, statement: str, *names: str, **settings: Any) -> list[Any]:
    with psycopg.connect(conninfo, autocommit=True, **settings) as connection:
        cursor = connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
        return cursor.fetchall() if cursor.description else []


def a_space(dimensions: int) -> EmbeddingSpace:
    return EmbeddingSpace("model", None, "w", "t", dimensions, "last token", "l2", "{text}")


def fill(
    store: PgVectorStore, dimensions: int, rows: int, seed: int = 0
) -> tuple[OpenTable, np.ndarray[Any, np.dtype[np.float32]]]:
    """Store unit vectors in clusters of 25 under records r0, r1, ..., one in a hundred marked as rare."""
    opened = store.open(a_space(dimensions), create=True)
    chance = np.random.default_rng(seed)
    topics = chance.normal(size=(max(1, rows // 25), dimensions)).astype(np.float32)
    vectors = chance.normal(size=(rows, dimensions)).astype(np.float32) + topics[np.arange(rows) % len(topics)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    records = [Record(f"r{number}", f"text {number}", {"rare": number % 100 == 0}) for number in range(rows)]
    chunks = [Chunk.of(record, 0, 0, record.text) for record in records]
    known: dict[str, dict[int, bytes]] = {record.id: {} for record in records}
    opened.write(Write(dict.fromkeys(known, 1), chunks, vectors, [], known))
    opened.build_indexes()
    return opened, vectors


@pytest.mark.parametrize(
    ("dimensions", "precision", "kind", "storage"),
    [
        (640, "float16", "halfvec(640)", "p"),
        (1_024, "float16", "halfvec(1024)", "p"),
        (1_024, "float32", "vector(1024)", "p"),
        (5_376, "float16", "halfvec(5376)", "e"),
    ],
)
def test_vectors_are_in_their_rows(
    postgres: str, table: str, dimensions: int, precision: str, kind: str, storage: str
) -> None:
    """Vectors that fit are stored in their rows; otherwise an exact scan takes five times as long."""
    with PgVectorStore(postgres, table=table, precision=precision) as store:
        fill(store, dimensions, 3)
        [found] = execute(
            postgres,
            "SELECT format_type(atttypid, atttypmod), attstorage FROM pg_attribute "
            f"WHERE attrelid = quote_ident($q${table}$q$)::regclass AND attname = 'embedding'",
        )
    assert found == (kind, storage)


def plan(opened: OpenTable, where: dict[str, Any] | None) -> str:
    table: Table = opened._opened.table
    vector = np.ones(table.dimensions, np.float32)
    query, values = near.statement(table, vector, 10, compile_condition(parse(where)), exact=False, with_vectors=False)
    rows = opened._connections.run(lambda c: c.execute(sql.SQL("EXPLAIN ") + query, values).fetchall())
    return "\n".join(row for (row,) in rows)


def test_plans(postgres: str, table: str) -> None:
    """Vectors use HNSW, equality uses GIN; long vectors use signs first, then the full vectors."""
    with PgVectorStore(postgres, table=table) as store:
        opened, _ = fill(store, 64, 5_000)
        assert re.search(r"Index Scan using .*\n +Order By: \(embedding <=>", plan(opened, None))
        assert "Bitmap Index Scan" in plan(opened, {"rare": True})
    with PgVectorStore(postgres, table=f"{table} 27b") as store:
        opened, _ = fill(store, 5_376, 400)
        assert "binary_quantize" in plan(opened, None)


def test_a_table_without_statistics_is_not_read_whole(postgres: str, table: str, encoder: Encoder) -> None:
    """During a load, work on each thousand records does not scan the whole table."""
    records = [Record(f"r{number}", f"text {number % 10}") for number in range(6_000)]
    with Index(PgVectorStore(postgres, table=table), encoder) as index:
        index.store.open(encoder.space, create=True)
        execute(postgres, "ALTER TABLE {} SET (autovacuum_enabled = false)", table)
        for changed in (
            records,
            records,
            [replace(record, text=f"{record.text} changed") for record in records],
            [replace(record, text=f"{record.text} changed", metadata={"now": "described"}) for record in records],
        ):
            index.ingest(changed, build_indexes=False)  # which has a look at all, once
        assert len(list(index.read(["r1", "r2"]))) == 2
        assert index.delete([record.id for record in records[:1_000]]) == 1_000
        scans = "SELECT seq_tup_read, idx_tup_fetch > 0 FROM pg_stat_user_tables WHERE relname = $q${}$q$"
    assert execute(postgres, scans.format(table)) == [(0, True)]


@pytest.mark.parametrize("dimensions", [64, 4_100])
def test_recall(postgres: str, table: str, dimensions: int) -> None:
    """Recall is at least 0.99, and k rows are found if they exist, also under a selective filter."""
    rows = 3_000 if dimensions == 64 else 600
    with PgVectorStore(postgres, table=table) as store:
        opened, vectors = fill(store, dimensions, rows)
        queries = vectors[:40] + np.random.default_rng(1).normal(size=(40, dimensions)).astype(np.float32) * 0.05
        rare = np.arange(rows) % 100 == 0
        for where, meant in (
            (None, np.ones(rows, dtype=bool)),
            ({"rare": True}, rare),
            ({"rare": {"$ne": True}}, ~rare),
        ):
            wanted = min(10, int(meant.sum()))
            similar = queries @ vectors.T
            similar[:, ~meant] = -9
            expected = [{f"r{number}" for number in row} for row in np.argsort(-similar, axis=1)[:, :wanted]]
            found = [{match.record_id for match in each} for each in opened.search(Search(queries, 10, parse(where)))]
            assert {len(each) for each in found} == {wanted}
            hits = sum(len(each & right) for each, right in zip(found, expected, strict=True))
            assert hits >= 0.99 * wanted * len(queries)
        assert len(opened.search(Search(queries[:1], rows, None))[0]) == rows


def test_few_rows_are_compared_by_their_vectors(postgres: str, table: str) -> None:
    """A few rows have no index and are compared by full vectors, even if these are very long."""
    with PgVectorStore(postgres, table=table) as store:
        opened, vectors = fill(store, 4_100, 300)
        biased = vectors + 3 * vectors[0]  # as those of texts, which share a direction
        biased /= np.linalg.norm(biased, axis=1, keepdims=True)
        found, exact = (opened.search(Search(biased[:20], 10, exact=each)) for each in (False, True))
        assert [[match.id for match in each] for each in found] == [[match.id for match in each] for each in exact]


VALUES: list[Any] = [
    0,
    1,
    2,
    2.0,
    0.5,
    -0.0,
    1e20,
    True,
    False,
    None,
    "",
    "1",
    "true",
    "null",
    "a",
    "é",
    '"',
    10**17 + 1,
]


@pytest.mark.slow
def test_one_of_many(postgres: str, table: str, encoder: Encoder) -> None:
    """`$in` with many values finds what `meets` accepts: each type separately, lists by element."""
    chance = random.Random(0)
    metadata: list[dict[str, Any]] = [{}, {"f": []}, {"f": [[1]]}, {"f": {"f": 1}}, {"f": {}}, {"f": [{"f": 1}]}]
    metadata += [{"f": value, "g": 1} for value in VALUES]
    metadata += [{"f": chance.sample(VALUES, chance.randrange(1, 4))} for _ in range(30)]
    records = [Record(f"r{number}", "text", each) for number, each in enumerate(metadata)]
    with Index(PgVectorStore(postgres, table=table), encoder) as index:
        index.ingest(records)
        for trial in range(24):
            other: list[Any] = [*range(10, 10 + chance.choice([0, 20, 1_500])), *(f"v{n}" for n in range(trial % 3))]
            wanted = [*chance.sample(VALUES, chance.randrange(0, 5)), *other]
            chance.shuffle(wanted)
            one_of: dict[str, Any] = {"f": {"$in": wanted}}
            for where in (one_of, {"$not": one_of}, {"$or": [one_of, {"g": 1}]}, {**one_of, "g": {"$ne": 1}}):
                expected = {record.id for record in records if meets(record.metadata, parse(where))}
                assert {stored.chunk.record_id for stored in index.read(where=where)} == expected


@pytest.mark.slow
def test_one_of_very_many(postgres: str, table: str) -> None:
    """`$in` with more values than Postgres can bind is fast, and uses the index for a few."""
    with PgVectorStore(postgres, table=table) as store:
        opened, vectors = fill(store, 64, 5_000)
        [found] = opened.search(Search(vectors[:1], 10, parse({"rare": {"$in": [*range(70_000), True]}})))
        assert (len(found), {match.metadata["rare"] for match in found}) == (10, {True})
        assert opened.search(Search(vectors[:1], 10, parse({"rare": {"$in": list(range(70_000))}}))) == [[]]
        for number in (2, 8, 9, 20):
            assert "Bitmap Index Scan" in plan(opened, {"rare": {"$in": [True, *range(1, number)]}})


def test_an_error_of_the_driver(postgres: str, table: str) -> None:
    """A driver error without an SQLSTATE is raised at once, and not taken for a lost connection."""
    with PgVectorStore(postgres, table=table) as store:
        opened = store.open(a_space(3), create=True)
        begin = time.monotonic()
        with pytest.raises(StoreError, match="number of parameters must be between 0 and 65535") as caught:
            opened.search(
                Search(np.eye(3, dtype=np.float32)[:1], 1, parse({"$or": [{f"f{n}": n} for n in range(33_000)]}))
            )
        assert not isinstance(caught.value, StoreUnavailable)
        assert time.monotonic() - begin < 20


def test_a_foreign_table(postgres: str, table: str, index: Index) -> None:
    """A table with other columns, without a space, or created by others is left alone."""
    execute(postgres, "CREATE TABLE {} (id int)", table)
    with pytest.raises(StoreUnsuitable, match="has no column 'record_id'; use another table name"):
        index.ingest(RECORDS)
    assert execute(postgres, "SELECT count(*) FROM {}", table) == [(0,)]
    execute(postgres, "DROP TABLE {}", table)
    index.ingest(RECORDS)
    execute(postgres, "CREATE TABLE {} (LIKE {})", f"{table} new", table)
    execute(postgres, "DROP TABLE {}", table)
    execute(postgres, "ALTER TABLE {} RENAME TO {}", f"{table} new", table)
    for use in (lambda: index.ingest(RECORDS), lambda: index.search("text")):
        with pytest.raises(StoreUnsuitable, match="does not identify its embedding space"):
            use()
    execute(postgres, "DROP TABLE {}", table)
    assert index.ingest(RECORDS).written == 50


def test_a_table_replaced_by_another_space(postgres: str, table: str, index: Index, tmp_path: Path) -> None:
    """A replacement under an open store is noticed at the next use."""
    index.ingest(RECORDS)
    execute(postgres, "DROP TABLE {}", table)
    with (
        Encoder(build_model(tmp_path, vectors="words", seed=3)) as other,
        Index(PgVectorStore(postgres, table=table), other) as theirs,
    ):
        theirs.ingest(RECORDS)
    for use in (lambda: index.ingest(RECORDS), lambda: index.search("text"), index.count):
        with pytest.raises(WrongSpace, match="the weights differ"):
            use()


def test_a_role_that_may_only_read(
    postgres: str, table: str, encoder: Encoder, index: Index, new_role: NewRole
) -> None:
    """It can search, and other operations raise an error."""
    index.ingest(RECORDS)
    role = new_role("reader")
    execute(postgres, "GRANT SELECT ON {} TO {}", table, role)
    with Index(PgVectorStore(make_conninfo(postgres, user=role), table=table), encoder) as reading:
        assert len(reading.search("text number 7", k=3)) == 3
        assert reading.count() == 50
        for use in (lambda: reading.ingest([Record("new", "a new text")]), lambda: reading.delete(["r1"])):
            with pytest.raises(StoreUnsuitable, match="lacks a privilege: permission denied.*grant it"):
                use()
    execute(postgres, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # which everybody may before PostgreSQL 15
    with (
        Index(PgVectorStore(make_conninfo(postgres, user=role), table="new"), encoder) as reading,
        pytest.raises(StoreUnsuitable, match="permission denied for schema public"),
    ):
        reading.ingest(RECORDS)


def test_a_database_without_the_extension(database: str, encoder: Encoder, table: str, new_role: NewRole) -> None:
    """The extension is created if allowed; otherwise the error says what to do."""
    role = new_role("nobody")
    execute(database, "GRANT ALL ON SCHEMA public TO {}", role)
    with (
        Index(PgVectorStore(make_conninfo(database, user=role), table=table), encoder) as index,
        pytest.raises(StoreUnsuitable, match="lacks the extension 'vector'.*run CREATE EXTENSION vector"),
    ):
        index.ingest(RECORDS)
    with Index(PgVectorStore(database, table=table), encoder) as index:
        assert index.ingest(RECORDS).written == 50


def test_a_view_for_langchain(postgres: str, table: str, index: Index, major: int) -> None:
    """It has langchain-postgres's column names, and its nearest rows equal the table's."""
    index.ingest(RECORDS)
    store = index.store
    assert isinstance(store, PgVectorStore)
    for _ in range(2):
        store.create_langchain_view(f"view of {table}", as_owner=major < 15)
    rows = execute(
        postgres,
        "SELECT langchain_id::text, content, langchain_metadata FROM {} ORDER BY embedding <=> "
        "(SELECT embedding FROM {} WHERE record_id = 'r7') LIMIT 1",
        f"view of {table}",
        table,
    )
    assert [row[1:] for row in rows] == [("text number 7", {"n": 7, "even": False})]
    assert len({id_ for (id_,) in execute(postgres, "SELECT langchain_id FROM {}", f"view of {table}")}) == 50


def test_wrong_places(postgres: str, encoder: Encoder) -> None:
    """An invalid place is refused at once, with the reason and without the password."""
    secret = "s3cr3t-password"
    places = {
        f"postgresql://user:{secret}@localhost:1/db": "cannot be reached",
        make_conninfo(postgres, dbname="nowhere"): 'database "nowhere" does not exist',
        make_conninfo(postgres, user="nobody", password=secret): (
            '(role "nobody" does not exist|password authentication failed for user "nobody")'  # as a server is set up
        ),
    }
    for place, reason in places.items():
        store = PgVectorStore(place)
        assert secret not in repr(store)
        with Index(store, encoder) as index, pytest.raises(StoreUnavailable, match=reason) as caught:
            index.search("text")
        assert secret not in str(caught.value)
    with pytest.raises(SettingError, match="neither a URL") as caught_setting:
        PgVectorStore(f"postgresql//user:{secret}@host")
    assert secret not in str(caught_setting.value)
    for wrong in ("", "x" * 64, "a\0b"):
        with pytest.raises(SettingError, match="table must be a name of 1 to 63 bytes"):
            PgVectorStore(postgres, table=wrong)
    with pytest.raises(SettingError, match="precision must be 'float16' or 'float32'"):
        PgVectorStore(postgres, precision="int8")


def test_a_pool_of_the_user(postgres: str, table: str, encoder: Encoder) -> None:
    """The user's pool works as configured, even without autocommit, and stays open."""
    with ConnectionPool(postgres, min_size=1, max_size=2, open=True) as pool:
        for _ in range(2):
            with Index(PgVectorStore(pool, table=table), encoder) as index:
                index.ingest(RECORDS)
                assert len(index.search("text", where={"even": True}, k=100)) == 25
        with pool.connection() as connection:
            assert connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone() == (
                50,
            )


def in_a_child(work: Callable[[], object]) -> str:
    """Return the result of `work` in a forked process, or the text of its error."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(work()).encode())
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    ended = bool(select.select([reading], [], [], 60)[0])
    found = os.read(reading, 10_000) if ended else b"it hangs"
    os.close(reading)
    if not ended:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return found.decode()


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
FORKED = "was connected before this process was forked; open the store after the fork"


@forks
def test_after_a_fork(postgres: str, table: str, encoder: Encoder) -> None:
    """A child does not use the parent's sockets, which would mix up their answers."""
    with Index(PgVectorStore(postgres, table=table), encoder) as index:
        index.ingest(RECORDS[:3])
        store = index.store
        assert isinstance(store, PgVectorStore)
        opened = store.open(encoder.space)
        uses: list[Callable[[], object]] = [index.count, lambda: list(index.read(["r1"])), index.build_indexes]
        for use in uses:
            said = in_a_child(use)
            assert said.startswith("StoreUnavailable: 'user=postgres")
            assert said.endswith(FORKED)
        with opened._connections._lock:  # as another thread may have it at the fork
            assert FORKED in in_a_child(opened.count)
            assert in_a_child(store.close) == "None"
        assert index.count() == 3
        sync = TableSync(postgres, table="nothing")
        with pytest.raises(StoreMissing):
            sync.status()
        assert FORKED in in_a_child(sync.status)
        sync.close()


@forks
def test_made_before_a_fork(postgres: str, table: str, encoder: Encoder) -> None:
    """A store that has not connected yet works in both processes."""
    with Index(PgVectorStore(postgres, table=table), encoder) as index:
        index.ingest(RECORDS[:3])
    for held in (True, False):
        store = PgVectorStore(postgres, table=table)

        def use(store: PgVectorStore = store) -> int:
            with store:
                opened = store.open(encoder.space)
                return opened.count()

        with store._reach()._lock if held else nullcontext():
            assert in_a_child(use) == "3"
        assert use() == 3


@forks
def test_a_pool_of_the_user_after_a_fork(postgres: str, table: str, encoder: Encoder) -> None:
    """A pool opened before the fork belongs to the parent; one opened by the child is its own."""
    with Index(PgVectorStore(postgres, table=table), encoder) as index:
        index.ingest(RECORDS[:3])

    def count(store: PgVectorStore) -> int:
        opened = store.open(encoder.space)
        return opened.count()

    with ConnectionPool(postgres, min_size=1, max_size=2, open=True) as pool:
        pool.wait()
        store = PgVectorStore(pool, table=table)
        assert in_a_child(lambda: count(store)) == f"StoreUnavailable: a pool {FORKED}"
        assert count(store) == 3
        assert in_a_child(lambda: count(store)) == f"StoreUnavailable: a pool {FORKED}"
    pool = ConnectionPool(postgres, min_size=1, max_size=2, open=False)
    store = PgVectorStore(pool, table=table)

    def use() -> int:
        with pool:
            return count(store)

    assert in_a_child(use) == "3"


@forks
def test_a_worker_after_a_fork(database: str) -> None:
    """A worker that is created once and run by several children acts as several workers."""
    worker = SyncWorker(database, Hashing())

    def use() -> tuple[str, object]:
        worker.drain()
        return worker.name, worker._id

    found = {in_a_child(use), in_a_child(use)}
    assert len(found) == 2
    assert all("process" in each and "UUID" in each for each in found)


@forks
def test_an_embedded_postgres_after_a_fork(tmp_path: Path, encoder: Encoder) -> None:
    """Closing in a child leaves the server running; a store opened by the child counts as a user."""
    folder = tmp_path / "data"
    store = PgVectorStore.embedded(folder)
    Index(store, encoder).ingest(RECORDS[:3])
    with embedded._folders.lock:  # as another thread may have it that starts a server
        assert in_a_child(store.close) == "None"
    assert store.open(encoder.space).count() == 3

    def outlive() -> int:
        with PgVectorStore.embedded(folder) as own:
            table = own.open(encoder.space)
            os.write(opened, b"open")
            os.read(closed, 1)
            return table.count()

    (seen, opened), (closed, told) = os.pipe(), os.pipe()
    with ThreadPoolExecutor(1) as pool:
        child = pool.submit(in_a_child, outlive)
        assert os.read(seen, 4) == b"open"
        store.close()
        os.write(told, b".")
        assert child.result(100) == "3"
    for end in (seen, opened, closed, told):
        os.close(end)
    assert not (folder / "data" / "postmaster.pid").exists()


OF_OTHERS: list[dict[str, Any]] = [
    {"row_factory": dict_row, "autocommit": True, "prepare_threshold": 0},  # as LangGraph's checkpointer wants it
    {"row_factory": namedtuple_row},
    {"cursor_factory": psycopg.ClientCursor, "row_factory": scalar_row},
    {"cursor_factory": psycopg.RawCursor, "autocommit": True},
]


def _settings(connection: psycopg.Connection[Any]) -> tuple[Any, ...]:
    return connection.row_factory, connection.cursor_factory, connection.prepare_threshold, connection.autocommit


@pytest.mark.parametrize("settings", OF_OTHERS)
def test_a_pool_of_other_rows_and_cursors(
    database: str, table: str, encoder: Encoder, settings: dict[str, Any]
) -> None:
    """All operations work with other row factories and cursors, and connections keep their settings."""
    with ConnectionPool(database, min_size=1, max_size=1, kwargs=settings, open=True) as pool:
        with pool.connection() as connection:
            before = _settings(connection)
        with Index(PgVectorStore(pool, table=table), encoder) as index:
            assert index.ingest(RECORDS).written == 50
            assert index.ingest([replace(RECORDS[0], text="changed")]).written == 1
            assert index.ingest([replace(RECORDS[1], metadata={"now": "described"})]).written == 1
            assert len(index.search("text", where={"even": True}, k=100)) == 25
            assert index.delete(["r7"]) == 1
            assert (index.count(), len(list(index.read())), len(list(index.record_ids()))) == (49, 49, 49)
            assert index.verify().sound
        execute(database, "CREATE TABLE articles (id text PRIMARY KEY, body text)")
        sync = TableSync(pool, table="chunks")
        sync.create("articles", encoder.space, text="body", chunking=Chunking(tokens=16))
        assert [each.table for each in sync_statuses(pool)] == ["public.chunks"]
        assert (sync.failures(), sync.retry()) == ([], 0)
        sync.drop(chunks=True)
        with pool.connection() as connection:
            assert _settings(connection) == before
            left = connection.cursor(row_factory=tuple_row).execute("SELECT count(*) FROM pg_prepared_statements")
            assert left.fetchone() in ((0,), (1,))  # this one's own


@pytest.mark.parametrize("settings", OF_OTHERS)
def test_a_connection_of_other_rows_and_cursors(
    postgres: str, table: str, encoder: Encoder, settings: dict[str, Any]
) -> None:
    """The same holds for a connection passed by the caller, also after an error."""
    chunk = Chunk.of(RECORDS[0], 0, 0, "changed")
    with PgVectorStore(postgres, table=table) as store, psycopg.connect(postgres, **settings) as connection:
        before = _settings(connection)
        for known, deleted in (({}, None), ({0: bytes(32)}, 1)):
            opened = store.open_on(connection, encoder.space, create=True)
            write = Write({RECORDS[0].id: 1}, [chunk], _one(encoder), [], {RECORDS[0].id: known})
            assert opened.write_on(connection, write).changed == []
            if deleted:
                assert opened.delete_on(connection, [RECORDS[0].id]) == deleted
        assert _settings(connection) == before
        opened.delete_on(connection, [])
        with pytest.raises(WrongSpace):
            store.open_on(connection, a_space(3), create=True)
        assert _settings(connection) == before


def test_another_encoding(
    postgres: str,
    new_database: NewDatabase,
    table: str,
    encoder: Encoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Connections use UTF-8, whatever the default of the database and its user."""
    text = Record("é", "naïve été", {"é": "ü"})
    latin = new_database("ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    places = make_conninfo(postgres, client_encoding="latin1"), latin
    monkeypatch.setenv("PGCLIENTENCODING", "latin1")
    for place in places:
        with Index(PgVectorStore(place, table=table), encoder) as index:
            assert index.ingest([text]).written == 1
            assert index.ingest([text]).unchanged == 1
            assert [(stored.chunk.record_id, stored.chunk.text) for stored in index.read(["é"])] == [("é", text.text)]
            assert [match.metadata for match in index.search("text", where={"é": "ü"})] == [text.metadata]
        assert execute(place, "SELECT text FROM {}", table, client_encoding="utf8") == [(text.text,)]
        with (
            ConnectionPool(place, min_size=1, max_size=1, open=True) as pool,
            Index(PgVectorStore(pool, table=table), encoder) as index,
            pytest.raises(SettingError, match="client_encoding is iso8859-1, not utf-8; connect with client_encoding="),
        ):
            index.ingest([text])


def test_a_connection_in_a_pipeline(postgres: str, table: str, encoder: Encoder) -> None:
    """A connection in pipeline mode is refused before anything is done."""
    with PgVectorStore(postgres, table=table) as store, psycopg.connect(postgres, autocommit=True) as connection:
        opened = store.open(encoder.space, create=True)
        uses: list[Callable[[], object]] = [
            lambda: store.open_on(connection, encoder.space, create=True),
            lambda: opened.write_on(connection, Write({}, [], _one(encoder)[:0], [], {})),
            lambda: opened.delete_on(connection, ["r1"]),
        ]
        uses[0]()
        for use in uses:
            with pytest.raises(SettingError, match="in pipeline mode.*use it outside"), connection.pipeline():
                use()


def test_in_the_callers_transaction(postgres: str, table: str, encoder: Encoder, index: Index) -> None:
    """Writes and deletes are committed with the caller's work, or not at all."""
    index.ingest(RECORDS[:3])
    with PgVectorStore(postgres, table=table) as store, psycopg.connect(postgres) as connection:
        for ending in (psycopg.Rollback, None):
            with connection.transaction():
                opened = store.open_on(connection, encoder.space, create=True)
                for record in RECORDS[:2]:
                    chunk = Chunk.of(replace(record, text="changed"), 0, 0, "changed")
                    known = opened.known([record.id])
                    opened.write_on(connection, Write({record.id: 1}, [chunk], _one(encoder), [], known))
                opened.delete_on(connection, [RECORDS[2].id])
                if ending:
                    raise ending
            texts = sorted(stored.chunk.text for stored in index.read())
            assert texts == ([record.text for record in RECORDS[:3]] if ending else ["changed", "changed"])


def _one(encoder: Encoder) -> Any:
    return encoder.encode_documents(["changed"])


@pytest.mark.parametrize("there", [0, 2])
def test_chunks_that_another_writer_adds(postgres: str, table: str, encoder: Encoder, there: int) -> None:
    """A writer that waited for another sees the added chunks, and leaves the record unchanged."""
    with PgVectorStore(postgres, table=table) as store:
        opened = store.open(encoder.space, create=True)

        def write(text: str, size: int, numbers: range) -> Write:
            chunks = [Chunk.of(Record("r", ""), number, 0, f"{text} {number}") for number in numbers]
            known = opened.known(["r"])
            vectors = encoder.encode_documents([chunk.text for chunk in chunks])
            return Write({"r": size}, chunks, vectors, [], {"r": known.get("r", {})})

        if there:
            opened.write(write("old", there, range(there)))
        mine, theirs = write("mine", 2, range(1) if there else range(2)), write("theirs", 3, range(there, 3))
        with ThreadPoolExecutor(1) as pool, psycopg.connect(postgres) as connection:
            connection.execute("SELECT 1")  # begins a transaction
            opened.write_on(connection, theirs)
            writing = pool.submit(opened.write, mine)
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while not execute(postgres, waiting)[0][0]:
                assert not writing.done()
            connection.commit()
            assert writing.result(60).changed == ["r"]
        kept = ["old 0", "old 1", "theirs 2"] if there else ["theirs 0", "theirs 1", "theirs 2"]
        assert [stored.chunk.text for stored in opened.read(["r"])] == kept


def test_a_delete_during_a_write(postgres: str, table: str, encoder: Encoder) -> None:
    """A record that is replaced and deleted concurrently ends up deleted."""
    with PgVectorStore(postgres, table=table) as store:
        index = Index(store, encoder)
        index.ingest(RECORDS[:1])
        opened = store.open(encoder.space)
        known = opened.known([RECORDS[0].id])
        chunk = Chunk.of(RECORDS[0], 0, 0, "changed")
        with ThreadPoolExecutor(1) as pool, psycopg.connect(postgres) as connection:
            connection.execute("SELECT 1")  # begins a transaction
            opened.write_on(connection, Write({RECORDS[0].id: 1}, [chunk], _one(encoder), [], known))
            deleting = pool.submit(index.delete, [RECORDS[0].id])
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while not execute(postgres, waiting)[0][0]:
                assert not deleting.done()
            connection.commit()
            assert deleting.result(60) == 1
        assert index.count() == 0


def test_nothing_is_left_in_a_session(postgres: str, table: str, encoder: Encoder) -> None:
    """Sessions keep no setting, table or prepared statement, so poolers can reassign them."""
    with ConnectionPool(postgres, min_size=1, max_size=1, open=True, kwargs={"prepare_threshold": None}) as pool:
        index = Index(PgVectorStore(pool, table=table), encoder)
        index.ingest(RECORDS)
        index.ingest([replace(record, text=f"{record.text} changed") for record in RECORDS])
        index.search("text", where={"even": True})
        with pool.connection() as connection:
            left = connection.execute(
                "SELECT current_setting('hnsw.ef_search'), current_setting('hnsw.iterative_scan'), "
                "current_setting('enable_indexscan'), to_regclass('pg_temp.harrier_staging')::text, "
                "(SELECT count(*) FROM pg_prepared_statements)"
            ).fetchone()
    assert left == ("40", "off", "on", None, 0)


def test_readers_see_no_mix(postgres: str, table: str, encoder: Encoder) -> None:
    """A reader always sees all chunks of one version of a record."""
    with Index(PgVectorStore(postgres, table=table), encoder) as index:
        store = index.store
        opened = store.open(encoder.space, create=True)
        stop = threading.Event()

        def versions() -> int:
            version = 0
            while not stop.is_set():
                version += 1
                chunks = [
                    Chunk.of(Record(f"r{record}", ""), number, 0, f"version {version}")
                    for record in range(5)
                    for number in range(3 + version % 4)
                ]
                known = opened.known([f"r{record}" for record in range(5)])
                vectors = encoder.encode_documents([chunk.text for chunk in chunks])
                sizes = dict.fromkeys((f"r{record}" for record in range(5)), 3 + version % 4)
                opened.write(Write(sizes, chunks, vectors, [], {id_: known.get(id_, {}) for id_ in sizes}))
            return version

        with ThreadPoolExecutor(1) as pool, psycopg.connect(postgres, autocommit=True) as connection:
            writing = pool.submit(versions)
            query = sql.SQL("SELECT record_id, array_agg(DISTINCT text), count(*) FROM {} GROUP BY record_id")
            seen: set[str] = set()
            while len(seen) < 40 and not writing.done():
                for _, texts, chunks_ in connection.execute(query.format(sql.Identifier(table))).fetchall():
                    assert len(texts) == 1
                    assert chunks_ == 3 + int(texts[0].split()[1]) % 4
                    seen.add(texts[0])
            stop.set()
            assert writing.result(60) >= 40


RUN = """
import sys
from harrier_core import Encoder, Index, Record
from harrier_pgvector import PgVectorStore
with PgVectorStore.embedded(sys.argv[1]) as store, Encoder(sys.argv[2]) as encoder:
    index = Index(store, encoder)
    index.ingest([Record(sys.argv[3], "a text of " + sys.argv[3])])
    print(sorted(match.record_id for match in index.search("text", k=9)))
"""


@pytest.mark.slow
def test_embedded(tmp_path: Path) -> None:
    """Two processes can open a folder, and its data persists."""
    model = str(build_model(tmp_path / "model", vectors="words"))
    folder = tmp_path / "data"

    def run(name: str) -> str:
        command = [sys.executable, "-W", "ignore", "-c", RUN, str(folder), model, name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert run("one") == "['one']\n"
    with PgVectorStore.embedded(folder) as store, Encoder(model) as own:
        with PgVectorStore.embedded(folder, table="other") as other:  # leaves it to the one that still uses it
            assert other.space() is None
        assert run("two") == "['one', 'two']\n"
        assert Index(store, own).count() == 2
    assert run("three") == "['one', 'three', 'two']\n"


def test_long_ids(database: str, table: str, encoder: Encoder) -> None:
    """Incompressible ids of a thousand bytes fit into every key, including those of the live sync."""
    letters = "".join(map(chr, (*range(0x21, 0x7F), *range(0xA1, 0x800))))
    chance = random.Random(0)
    ids = []
    for _ in range(20):
        id_ = "".join(chance.choices(letters, k=1_000)).encode()[:1_000].decode(errors="ignore")
        ids.append(id_ + "x" * (1_000 - len(id_.encode())))
    records = [Record(id_, f"text {number}") for number, id_ in enumerate(ids)]
    with Index(PgVectorStore(database, table=table), encoder, chunking=Chunking(tokens=16)) as index:
        assert index.ingest(records).written == 20
        assert index.ingest([replace(record, text="changed " * 90) for record in records]).rejected == []
        assert sorted(index.record_ids()) == sorted(ids)
        assert len(list(index.read(ids))) == index.count() > 20
        assert {match.record_id for match in index.search("changed", k=index.count())} == set(ids)
        assert index.delete(ids[:10]) > 10
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE articles (id text PRIMARY KEY, body text)")
        sync = TableSync(database, table="chunks")
        sync.create("articles", Hashing().space, text="body")
        connection.cursor().executemany("INSERT INTO articles VALUES (%s, 'text')", [(id_,) for id_ in ids])
        SyncWorker(database, Hashing()).drain()
        assert connection.execute("SELECT count(DISTINCT record_id) FROM chunks").fetchone() == (20,)
        connection.execute("DELETE FROM articles")
        SyncWorker(database, Hashing()).drain()
        assert connection.execute("SELECT count(*) FROM chunks").fetchone() == (0,)


def test_a_restart_during_an_ingest(tmp_path: Path, encoder: Encoder) -> None:
    """The ingest waits for the server, and nothing is lost or duplicated."""
    folder = tmp_path / "data"
    conninfo, stop = start(folder)
    with Index(PgVectorStore(conninfo), encoder) as index:
        restarts = 0

        def records() -> Iterator[Record]:
            nonlocal restarts
            for number in range(8_000):
                if number in (2_500, 5_500):
                    with psycopg.connect(conninfo, autocommit=True) as connection:
                        connection.execute(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                        )
                    restarts += 1
                yield Record(f"r{number}", f"text number {number}")

        report = index.ingest(records())
        assert (report.written, report.rejected, restarts) == (8_000, [], 2)
        assert index.count() == 8_000
        assert index.ingest(Record(f"r{n}", f"text number {n}") for n in range(8_000)).unchanged == 8_000
    stop()


def test_a_constraint_error_quotes_no_text(postgres: str, table: str, index: Index) -> None:
    """The error does not repeat the row that the server quotes."""
    index.ingest(RECORDS)
    execute(postgres, "ALTER TABLE {} ADD CHECK (length(text) < 100)", table)
    with pytest.raises(StoreError, match="Postgres refused.*violates check constraint") as caught:
        index.ingest([Record("long", "secret " * 30)])
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def let_others_pass(folder: Path) -> None:
    """Let other users of the machine enter a temporary folder."""
    for each in [folder, *folder.parents]:
        mode = each.stat().st_mode
        if each.stat().st_uid == os.geteuid() and mode & 0o11 != 0o11:
            each.chmod(mode | 0o11)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def let_in(postgres: str) -> Iterator[dict[str, Any]]:
    """Return the arguments that start a program as a user that can reach the server, if the tests run as root."""
    folder = Path(str(conninfo_to_dict(postgres)["host"]))
    if os.geteuid() != 0:
        yield {}
    elif not folder.is_absolute():  # by TCP, with a password
        yield {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
    else:  # the embedded server's user has no name to be known by
        access = folder / "pg_hba.conf"
        rules, owner = access.read_text(), access.stat()
        let_others_pass(folder.parent)
        access.write_text(f"local all all trust\n{rules}")
        execute(postgres, "SELECT pg_reload_conf()")
        yield {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        access.write_text(rules)
        execute(postgres, "SELECT pg_reload_conf()")


@pytest.fixture
def pgbouncer(postgres: str, tmp_path: Path) -> Iterator[str]:
    """Run a PgBouncer that reassigns server sessions after each transaction."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program:
        pytest.skip("there is no pgbouncer on this machine; install it to see the store behind one")
    server = conninfo_to_dict(postgres)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": 2,
    }
    to = " ".join(
        f"{name}='{str(server[name]).replace(chr(39), 2 * chr(39))}'"
        for name in ("host", "port", "dbname", "user", "password")
        if server.get(name)
    )
    lines = [f"[databases]\nbehind = {to}\n[pgbouncer]", *(f"{name} = {value}" for name, value in settings.items())]
    (tmp_path / "pgbouncer.ini").write_text("\n".join(lines))
    with let_in(postgres) as user:
        let_others_pass(tmp_path)
        process = subprocess.Popen([program, "-q", str(tmp_path / "pgbouncer.ini")], **user)
        while not _listens(port):
            assert process.poll() is None
        yield f"postgresql://postgres@127.0.0.1:{port}/behind"
        process.terminate()
        process.wait(10)


def test_behind_pgbouncer(pgbouncer: str, table: str, encoder: Encoder) -> None:
    """All operations work in transaction mode with more clients than sessions."""
    with Index(PgVectorStore(pgbouncer, table=table), encoder) as index:
        assert index.ingest(RECORDS).written == 50

        def use(number: int) -> int:
            assert index.ingest([replace(RECORDS[number], text=f"changed {number}")]).written == 1
            return len(index.search("text", k=100, where={"even": True}))

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(use, range(40))) == {25}
        assert index.verify().sound
        assert index.ingest(RECORDS[:10], prune=True).deleted == 40


@pytest.fixture
def small_disk(server: tuple[str, Path], table: str) -> Iterator[tuple[str, Path]]:
    """Return a connection whose tables are on a small separate file system.

    The server is the test's, because a server does not start again without this file system.
    """
    postgres, _ = server
    socket_folder = Path(str(conninfo_to_dict(postgres)["host"])).stat()
    owner = f"uid={socket_folder.st_uid},gid={socket_folder.st_gid}"
    # Not in pytest's own folder, which its next session closes to other users, such as the server's.
    with TemporaryDirectory(prefix="harrier") as outside:
        folder = Path(outside, "small")
        folder.mkdir()
        folder.parent.chmod(0o711)
        mount = ["mount", "-t", "tmpfs", "-o", f"size=4m,mode=700,{owner}", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a small file system; run as root to see a disk run full")
        try:
            execute(postgres, f"CREATE TABLESPACE small LOCATION '{folder}'")
            yield make_conninfo(postgres, options="-c default_tablespace=small"), folder
            execute(postgres, "DROP TABLE IF EXISTS {}", table)
            execute(postgres, "DROP TABLESPACE small")
        finally:
            subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk(small_disk: tuple[str, Path], table: str, encoder: Encoder) -> None:
    """The error says so; with free space, a second run encodes the rest and ends like a clean one."""
    conninfo, folder = small_disk
    chance = random.Random(0)
    records = [Record(f"r{number}", f"text {number} {chance.randbytes(1_500).hex()}") for number in range(2_000)]
    truncating = Encoder(encoder.space.model, on_overflow="truncate", max_tokens=16)
    with truncating, Index(PgVectorStore(conninfo, table=table), truncating) as index:
        with pytest.raises(StoreError, match="disk of the Postgres server is full.*what is stored stays"):
            index.ingest(records)
        stored = index.count()
        assert 0 < stored < len(records)
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
        report = index.ingest(records)
        assert (report.unchanged, report.encoded, index.count()) == (stored, len(records) - stored, len(records))
        assert index.verify().sound
