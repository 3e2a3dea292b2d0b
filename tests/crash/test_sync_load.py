"""The load that the live sync puts on a server, with killed workers and when idle."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from harrier_pgvector.sync import SyncWorker, TableSync
from ingesting import Hashing

from harrier_core import Chunking

SYNCING = Path(__file__).with_name("syncing.py")
ROWS, WRITERS, WORKERS = 2_000, 12, 2
LEASE = 2.0
GROWTH = 100_000  # bytes per minute by which the catalogs may grow
LEFT = "SELECT (SELECT count(*) FROM harrier_sync.queue_1) + (SELECT count(*) FROM harrier_sync.changes_1)"
ENTRIES = 40  # the kit's statements with different texts must be fewer


@pytest.fixture
def execute(database: str) -> Iterator[Callable[..., list[Any]]]:
    with psycopg.connect(database, autocommit=True, application_name="measuring") as connection:

        def run(statement: str, values: Any = None) -> list[Any]:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

        yield run


def statements(execute: Callable[..., list[Any]]) -> bool:
    """Return whether the server counts statements, and reset the counts."""
    if not execute("SELECT 1 FROM pg_settings WHERE name = 'pg_stat_statements.max'"):
        return False
    execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    execute("SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)")
    return True


def declare(database: str, execute: Callable[..., list[Any]], table: str) -> TableSync:
    execute(f"CREATE TABLE {table} (id int PRIMARY KEY, body text, views int DEFAULT 0)")
    execute(f"INSERT INTO {table} SELECT i, 'body ' || i FROM generate_series(1, {ROWS}) AS i")
    sync = TableSync(database, table=f"{table}_chunks")
    sync.create(table, Hashing().space, text="body", chunking=Chunking(tokens=16))
    return sync


class Load:
    """Short transactions of an application, with one parametrised statement each."""

    def __init__(self, database: str) -> None:
        self._database = database
        self.transactions = 0

    def run(self, seed: int, stop: threading.Event) -> None:
        chance = random.Random(seed)
        with psycopg.connect(self._database, autocommit=True, application_name="application") as connection:
            while not stop.is_set():
                id_, text = chance.randrange(1, ROWS + 500), f"body {chance.random()}"
                kind = chance.randrange(4)
                if kind == 0:
                    connection.execute("UPDATE articles SET body = %s WHERE id = %s", [text, id_])
                elif kind == 1:
                    connection.execute("UPDATE articles SET views = views + 1 WHERE id = %s", [id_])
                elif kind == 2:
                    connection.execute("DELETE FROM articles WHERE id = %s", [id_])
                else:
                    upsert = "ON CONFLICT (id) DO UPDATE SET body = excluded.body"
                    connection.execute(f"INSERT INTO articles VALUES (%s, %s) {upsert}", [id_, text])
                self.transactions += 1
                time.sleep(0.02)


def worker(database: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(SYNCING), database, str(LEASE)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
@pytest.mark.timeout(4_000)
def test_catalogs_and_statements(
    database: str, execute: Callable[..., list[Any]], pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    """After load and kills, chunks are exact, catalogs have not grown, and statements are few."""
    seconds = pytestconfig.getoption("--sync-seconds")
    declare(database, execute, "articles")
    SyncWorker(database, Hashing(), poll=0.2).drain()
    counted = statements(execute)
    size = "SELECT pg_relation_size('pg_attribute') + pg_relation_size('pg_class') + pg_relation_size('pg_depend')"
    [[before]] = execute(size)
    load, stop, kills = Load(database), threading.Event(), 0
    writers = [threading.Thread(target=load.run, args=[seed, stop]) for seed in range(WRITERS)]
    workers = [worker(database) for _ in range(WORKERS)]
    begin = time.monotonic()
    try:
        for writer in writers:
            writer.start()
        while time.monotonic() < begin + seconds:
            time.sleep(seconds / 11)
            victim = kills % WORKERS
            workers[victim].kill()
            workers[victim].wait()
            workers[victim] = worker(database)
            kills += 1
        stop.set()
        for writer in writers:
            writer.join()
        until = time.monotonic() + 100
        while execute(LEFT) != [(0,)]:
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        stop.set()
        for each in workers:
            each.kill()
            each.wait()
    [[after]] = execute(size)
    ours = 0
    if counted:
        mine = (
            "SELECT query, calls FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = "
            "current_database()) AND toplevel AND query !~ '(articles SET|FROM articles WHERE|INTO articles VALUES)' "
            "AND query !~ 'pg_stat_statements|pg_relation_size|^SELECT \\(SELECT count|^SELECT current_setting'"
        )
        if execute("SELECT current_setting('server_version_num')::int < 140000") == [(True,)]:
            mine = mine.replace("AND toplevel ", "")
        found = execute(mine)
        ours = len(found)
        assert ours < ENTRIES, "\n".join(f"{calls} {' '.join(query.split())[:150]}" for query, calls in found)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{load.transactions / seconds:.0f} transactions a second for {seconds:.0f} s, {kills} workers killed: "
            f"catalogs {after - before:+,} bytes, {ours or 'uncounted'} statements by the kit\n"
        )
    assert execute("SELECT record_id, text FROM articles_chunks ORDER BY record_id::int") == [
        (str(id_), body) for id_, body in execute("SELECT id, body FROM articles ORDER BY id")
    ]
    assert after - before < GROWTH * max(1.0, seconds / 60)


@pytest.mark.slow
@pytest.mark.parametrize(("tables", "most"), [(1, 30), (4, 60)])
@pytest.mark.parametrize("wake", ["notify", "poll"])
def test_nothing_to_do(
    database: str,
    execute: Callable[..., list[Any]],
    pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
    tables: int,
    most: int,
    wake: str,
) -> None:
    """An idle worker with default settings issues few statements."""
    seconds = max(12.0, pytestconfig.getoption("--sync-seconds"))
    for number in range(tables):
        execute(f"CREATE TABLE t{number} (id int PRIMARY KEY, body text)")
        with TableSync(database, table=f"c{number}") as sync:
            sync.create(f"t{number}", Hashing().space, text="body", wake=wake)
    idle = SyncWorker(database, Hashing())
    thread = threading.Thread(target=idle.run)
    thread.start()
    try:
        while execute("SELECT (SELECT count(*) FROM harrier_sync.workers), count(*) FROM harrier_sync.scans") != [
            (1, 0)
        ]:
            assert thread.is_alive()
        counted = statements(execute)
        # Wait until the lanes have found nothing to do; a server counts the transactions of an idle session late.
        time.sleep(3 if counted else 13)
        calls = (
            "SELECT sum(calls)::int FROM pg_stat_statements WHERE query !~ 'pg_stat_statements|pg_database' AND dbid = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
            if counted
            else "SELECT (xact_commit + xact_rollback)::int FROM pg_stat_database WHERE datname = current_database()"
        )
        [[before]] = execute(calls)
        time.sleep(seconds)
        [[after]] = execute(calls)
        execute("INSERT INTO t0 VALUES (1, 'one')")
        begin = time.monotonic()
        while wake == "notify" and execute("SELECT count(*) FROM c0") != [(1,)]:
            assert thread.is_alive()
        took = time.monotonic() - begin
    finally:
        idle.stop()
        thread.join(60)
    a_minute = ((after or 0) - (before or 0)) * 60 / seconds
    with capsys.disabled():
        what = "statements" if counted else "transactions"
        sys.stdout.write(
            f"\n{tables} tables, {wake}: {a_minute:.0f} {what} a minute"
            + (f"; then a change took {took:.3f} s\n" if wake == "notify" else "\n")
        )
    others = 0 if counted else 5  # transactions of autovacuum, and of this test
    assert a_minute <= most + others * 60 / seconds
