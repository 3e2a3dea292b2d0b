"""Shared code of the tests that torment the live sync: an application's writers, workers, and the expected content."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from harrier_pgvector import PgVectorStore
from harrier_pgvector.sync import TableSync
from ingesting import CHUNKING, Hashing
from psycopg import sql

from harrier_core import Index, Record

SYNCING = Path(__file__).with_name("syncing.py")
LEASE = 2.0

CREATE = [
    "CREATE TABLE articles (id bigint PRIMARY KEY, title text, body text, lang text NOT NULL, views int DEFAULT 0)",
    'CREATE TABLE "No%tes" ("the id" uuid, part int, note text, PRIMARY KEY (part, "the id"))',
]
WORDS = ["river", "sand", "bread", "yeast", "vaccine", "virus", "glass", "light", "stone", "wind", "lemon"]


class Writer:
    """A writer that changes both tables at random, in transactions of one or more statements; some are rolled back."""

    def __init__(self, conninfo: str, seed: int) -> None:
        self._conninfo = conninfo
        self._chance = random.Random(seed)
        self.statements = 0

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with suppress(psycopg.OperationalError, psycopg.Rollback), psycopg.connect(self._conninfo) as connection:
                while not stop.is_set():
                    self._transaction(connection)
                    time.sleep(self._chance.uniform(0, 0.02))

    def _transaction(self, connection: psycopg.Connection[Any]) -> None:
        # Two writers may change the same keys or block each other; those errors are not the sync's.
        with suppress(psycopg.IntegrityError, psycopg.errors.DeadlockDetected), connection.transaction():
            for _ in range(self._chance.choice([1, 1, 1, 4])):
                statement, values = self._statement()
                connection.execute(statement, values)
                self.statements += 1
            if self._chance.random() < 0.1:
                raise psycopg.Rollback

    def _statement(self) -> tuple[str, list[Any]]:
        low = self._chance.randrange(400)
        span = self._chance.choice([0, 0, 0, 5, 60])
        some, note = [low, low + span], [self._chance.randrange(6)]
        text = " ".join(self._chance.choices(WORDS, k=self._chance.choice([0, 5, 12, 40])))
        lang = self._chance.choice(["en", "fr", "de", "ja", ""]) if self._chance.random() < 0.2 else "en"
        upsert = (
            "INSERT INTO articles SELECT i, 'title ' || i, %s, %s FROM generate_series(%s::bigint, %s) AS i "
            "ON CONFLICT (id) DO UPDATE SET body = excluded.body, lang = excluded.lang"
        )
        move = "UPDATE articles SET id = id + 1000 * (1 - 2 * (id / 1000)) WHERE id %% 1000 BETWEEN %s AND %s"
        kinds: list[tuple[int, str, list[Any]]] = [
            (9, upsert, [text, lang, *some]),
            (6, "UPDATE articles SET body = %s WHERE id BETWEEN %s AND %s", [text, *some]),
            (3, "UPDATE articles SET lang = %s WHERE id BETWEEN %s AND %s", [lang, *some]),
            (4, "UPDATE articles SET views = views + 1 WHERE id BETWEEN %s AND %s", some),
            (3, move, some),
            (4, "DELETE FROM articles WHERE id BETWEEN %s AND %s", some),
            (4, 'INSERT INTO "No%%tes" SELECT gen_random_uuid(), %s, %s FROM generate_series(1, 5)', [*note, text]),
            (3, 'UPDATE "No%%tes" SET note = %s WHERE part = %s', [text, *note]),
            (2, 'UPDATE "No%%tes" SET part = (part + 1) %% 6 WHERE part = %s', note),
            (3, 'DELETE FROM "No%%tes" WHERE part = %s', note),
        ]
        if self._chance.random() < 0.002:
            return self._chance.choice(["TRUNCATE articles", 'TRUNCATE "No%%tes"', 'TRUNCATE articles, "No%%tes"']), []
        [(_, statement, values)] = self._chance.choices(kinds, [weight for weight, *_ in kinds])
        return statement, values


def worker(conninfo: str, model: str = "hashing") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(SYNCING), conninfo, str(LEASE), model],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def wait_until_quiet(conninfo: str, syncs: list[TableSync], seconds: float = 100) -> None:
    until = time.monotonic() + seconds
    scans = "SELECT count(*) FROM harrier_sync.scans"
    while True:
        statuses = [sync.status() for sync in syncs]
        with psycopg.connect(conninfo) as connection:
            left = connection.execute(scans).fetchone()
        if left == (0,) and not any(status.pending or status.leased for status in statuses):
            return
        assert time.monotonic() < until, statuses
        time.sleep(0.1)


def content(conninfo: str, table: str) -> list[Any]:
    columns = "record_id, number, text, metadata, start_at, end_at, hash, embedding::text"
    query = sql.SQL(f"SELECT {columns} FROM {{}} ORDER BY record_id, number").format(sql.Identifier(table))
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query).fetchall()


def expected(conninfo: str, table: str, query: str, model: Hashing | None = None) -> list[Any]:
    """Return the content of a new table into which all rows are ingested."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table)))
        rows = connection.execute(query.encode()).fetchall()
    records = [Record(str(id_), text, metadata) for id_, text, metadata in rows if text and text.strip()]
    with Index(PgVectorStore(conninfo, table=table), model or Hashing(), chunking=CHUNKING) as index:
        assert not index.ingest(records).rejected
    return content(conninfo, table)


def stopped(process: subprocess.Popen[bytes]) -> int:
    """Ask a worker to end once it has begun, and return its exit code."""
    assert process.stdout
    with process.stdout as output:
        assert output.readline() == b"begin\n"
    process.send_signal(signal.SIGTERM)
    return process.wait(30)
