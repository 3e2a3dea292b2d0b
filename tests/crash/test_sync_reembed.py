"""`kill -9` of the workers of a live sync while a second sync fills the table of another model: both stay in step."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from harrier_pgvector.sync import TableSync
from ingesting import CHUNKING, Hashing
from reembeds import Other, models
from tormenting import CREATE, Writer, content, expected, stopped, wait_until_quiet, worker

from harrier_core import Index
from harrier_core.migration import back, switch

ROWS = "SELECT id, concat_ws(E'\\n\\n', title, body), jsonb_build_object('lang', lang) FROM articles"
MODELS = ("hashing", "hashing", "other", "other")


class Torment:
    """Two workers of each model that are killed and replaced, while writers change the source."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._chance = random.Random(0)
        self._workers: list[subprocess.Popen[bytes]] = []
        self.kills = self._rounds = 0

    @contextmanager
    def workers(self) -> Iterator[None]:
        self._workers = [worker(self._conninfo, each) for each in MODELS]
        try:
            yield
            assert [stopped(each) for each in self._workers] == [0] * len(MODELS)
        finally:
            for each in self._workers:
                each.kill()

    def run(self, kills: int) -> None:
        """Run the writers, and kill this many workers."""
        stop = threading.Event()
        self._rounds += 1
        writers = [Writer(self._conninfo, 10 * self._rounds + each) for each in range(2)]
        threads = [threading.Thread(target=each.run, args=[stop]) for each in writers]
        for thread in threads:
            thread.start()
        try:
            for _ in range(kills):
                time.sleep(self._chance.uniform(0.1, 0.8))
                victim = self._chance.randrange(len(MODELS))
                self._workers[victim].kill()
                self._workers[victim].communicate()
                self._workers[victim] = worker(self._conninfo, MODELS[victim])
                self.kills += 1
        finally:
            stop.set()
            for thread in threads:
                thread.join()


@pytest.mark.timeout(2_000)
def test_both_tables(database: str, pytestconfig: pytest.Config) -> None:
    """While the second is filled, after the switch and after the way back, each holds all rows and no deleted ones."""
    kills = max(3, pytestconfig.getoption("--kills") // 4)
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in CREATE:
            connection.execute(statement.encode())
        insert = (
            "INSERT INTO articles SELECT i, 'title ' || i, 'the body of it', 'en' FROM generate_series(1, 400) AS i"
        )
        connection.execute(insert)
    torment = Torment(database)
    with (
        TableSync(database, table="chunks") as old,
        TableSync(database, table="chunks_next") as new,
        PgVectorStore(database, table="chunks") as store,
        torment.workers(),
    ):
        text = "concat_ws(E'\\n\\n', title, body)"
        old.create("articles", Hashing.space, text=text, metadata=["lang"], chunking=CHUNKING)
        torment.run(1)
        new.create("articles", Other.space, text=text, metadata=["lang"], chunking=CHUNKING)
        torment.run(kills)
        in_step(database, [old, new], {"chunks": Hashing(), "chunks_next": Other()})
        index = Index(store, encoders=models(), chunking=CHUNKING)
        for turn, model in ((switch, Other()), (back, Hashing())):
            assert turn(store, model).complete
            torment.run(kills // 2)
            names = ("chunks_before", "chunks") if turn is switch else ("chunks", "chunks_next")
            syncs = [TableSync(database, table=each) for each in names]
            in_step(database, syncs, dict(zip(names, models(), strict=True)))
            assert index.search("title 7")
            assert index.encoder.name == model.name
            for each in syncs:
                each.close()


def in_step(conninfo: str, syncs: list[TableSync], tables: dict[str, Hashing]) -> None:
    """Compare each table with an ingest of all rows by its model, once the workers have nothing left to do."""
    wait_until_quiet(conninfo, syncs)
    assert [each.failures() for each in syncs] == [[], []]
    for table, model in tables.items():
        assert content(conninfo, table) == expected(conninfo, "wanted", ROWS, model), table
