"""Changing the model of a synced table: a second sync fills a second table, and takes its name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, LiteralString

import psycopg
import pytest
from databases import NewRole
from harrier_pgvector import PgVectorStore
from harrier_pgvector.connections import Connections
from harrier_pgvector.sync import SyncWorker
from harrier_pgvector.sync.batch import Batch
from harrier_pgvector.sync.declaration import Declaration, declarations
from harrier_pgvector.sync.queue import Queue
from harrier_pgvector.sync.session import run
from harrier_pgvector.sync.table_worker import TableWorker
from ingesting import Hashing
from reembeds import Other, models
from syncs import Execute, opened

from harrier_core import Index, StoreUnsuitable, WrongSpace
from harrier_core.embedder import refuse_too_long
from harrier_core.migration import back, check, drop_old, reembed, switch


@pytest.mark.usefixtures("execute")
def test_switching_and_switching_back(database: str, execute: Execute) -> None:
    """Rows that change at any time are in both tables, and deleted rows are in neither."""
    execute("CREATE TABLE notes (id int PRIMARY KEY, body text NOT NULL)")
    execute("INSERT INTO notes SELECT n, 'note number ' || n FROM generate_series(1, 20) AS n")

    def drain(*encoders: Hashing) -> None:
        for encoder in encoders:
            SyncWorker(database, encoder).drain()

    opened(database, table="docs").create("notes", Hashing.space, text="body")
    drain(Hashing())
    with PgVectorStore(database, table="docs") as store:
        with pytest.raises(
            StoreUnsuitable, match="a live sync of .*notes writes to .*; declare one to table public.docs_next"
        ):
            reembed(store, Other())
        opened(database, table="docs_next").create("notes", Other.space, text="body")
        with pytest.raises(StoreUnsuitable, match="has not caught up: its sync has about [0-9,]+ rows left"):
            switch(store, Other())
        drain(Other())
        assert check(store, Other(), Hashing()).differing == 0
        index = Index(store, encoders=models())
        assert index.search("note number 7")[0].text == "note number 7"
        assert switch(store, Other()).complete
        with pytest.raises(WrongSpace):
            Index(store, Hashing()).search("note number 7")
        execute("UPDATE notes SET body = 'another note' WHERE id = 3")
        execute("DELETE FROM notes WHERE id = 4")
        drain(*models())
        for turn, model in ((back, Hashing()), (switch, Other())):
            assert index.search("another note")[0].text == "another note"
            assert execute("SELECT count(*) FROM docs_by_key WHERE id = 4") == [(0,)]
            assert execute("SELECT chunk_text FROM docs_by_key WHERE id = 3") == [("another note",)]
            turn(store, model)
        assert (index.count(), index.encoder.dimensions) == (19, 24)
        with pytest.raises(StoreUnsuitable, match="a live sync keeps the chunks"):
            drop_old(store)
        opened(database, table="docs_before").drop(chunks=True)
        assert execute("SELECT to_regclass('docs_before_by_key') IS NULL") == [(True,)]


def test_dependents_of_the_view(database: str, execute: Execute, new_role: NewRole) -> None:
    """Views of the sync's view are refused, and its grants are kept."""
    reader = new_role("reader")
    execute("CREATE TABLE notes (id int PRIMARY KEY, body text NOT NULL)")
    execute("INSERT INTO notes VALUES (1, 'the first')")
    for table, model in (("docs", Hashing()), ("docs_next", Other())):
        opened(database, table=table).create("notes", model.space, text="body")
        SyncWorker(database, model).drain()
    execute(f'GRANT SELECT ON docs_by_key TO "{reader}"')
    execute("CREATE VIEW mine AS SELECT id, chunk_text FROM docs_by_key")
    with PgVectorStore(database, table="docs") as store:
        with pytest.raises(StoreUnsuitable, match="has a view 'public.mine', which the new table would lack"):
            switch(store, Other())
        execute("DROP VIEW mine")
        switch(store, Other())
    asked = "SELECT has_table_privilege(%s, 'docs_by_key', 'SELECT')"
    assert execute(asked, [reader]) == [(True,)]


def test_workers_that_run_on(database: str, execute: Execute) -> None:
    """They know the tables by their names, of which the exchange leaves none; to them no table is gone."""
    execute("CREATE TABLE notes (id int PRIMARY KEY, body text NOT NULL)")
    execute("INSERT INTO notes VALUES (1, 'the first')")
    for table, model in (("docs", Hashing()), ("docs_next", Other())):
        opened(database, table=table).create("notes", model.space, text="body")
    workers = [SyncWorker(database, model, poll=0.1) for model in models()]
    threads = [threading.Thread(target=each.run) for each in workers]
    for thread in threads:
        thread.start()
    try:
        with PgVectorStore(database, table="docs") as store:
            wait_for(execute, "the first", "docs", "docs_next")
            switch(store, Other())
            execute("UPDATE notes SET body = 'the second'")
            wait_for(execute, "the second", "docs", "docs_before")
            back(store, Hashing())
            execute("UPDATE notes SET body = 'the third'")
            wait_for(execute, "the third", "docs", "docs_next")
    finally:
        for each in workers:
            each.stop()
        for thread in threads:
            thread.join()


class Short(Other):
    """A model with a low limit."""

    max_tokens = 5

    def submit_documents(self, texts: Any) -> Any:
        refuse_too_long(self, given := list(texts))
        return super().submit_documents(given)


class Slow(Other):
    """A model that is further behind than the other one."""

    def submit_documents(self, texts: Any) -> Any:
        time.sleep(0.3)
        return super().submit_documents(texts)


def test_while_rows_keep_coming(database: str, execute: Execute) -> None:
    """The switch succeeds at once, and no reader loses a row that it has seen."""
    execute("CREATE TABLE notes (id int PRIMARY KEY, body text NOT NULL)")
    execute("INSERT INTO notes SELECT n, 'note number ' || n FROM generate_series(1, 20) AS n")
    for table, model in (("docs", Hashing()), ("docs_next", Slow())):
        opened(database, table=table).create("notes", model.space, text="body")
        SyncWorker(database, model).drain()
    workers = [SyncWorker(database, model, poll=0.1) for model in (Hashing(), Slow())]
    over, counts = threading.Event(), [20]

    def repeat(statement: LiteralString, pause: float) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            while not over.wait(pause):
                counts.extend(each for (each,) in connection.execute(statement))

    insert = "INSERT INTO notes SELECT max(id) + 1, 'one more' FROM notes"
    application = partial(repeat, f"WITH one AS ({insert} RETURNING id) SELECT id FROM one WHERE false", 0.05)
    reader = partial(repeat, "SELECT count(*) FROM docs", 0.01)
    work: list[Callable[[], None]] = [*(worker.run for worker in workers), application, reader]
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    try:
        with PgVectorStore(database, table="docs") as store:
            for turn, model in ((switch, Slow()), (back, Hashing())):
                grown = counts[-1] + 20
                while counts[-1] < grown:
                    time.sleep(0.01)
                turn(store, model)
    finally:
        over.set()
        for worker in workers:
            worker.stop()
        for thread in threads:
            thread.join()
    assert counts == sorted(counts)


def test_rows_that_cannot_be_embedded(database: str, execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
    """They prevent the switch only if the table in use has them; so does a sync that does not move."""
    monkeypatch.setattr("harrier_pgvector.sync.exchanging._TRIES", 3)
    execute("CREATE TABLE notes (id int PRIMARY KEY, body text NOT NULL)")
    execute("INSERT INTO notes SELECT n, 'note number ' || n FROM generate_series(1, 20) AS n")
    for table, model in (("docs", Hashing()), ("docs_next", Short())):
        sync = opened(database, table=table)
        sync.create("notes", model.space, text="body || 1 / (id - 7)", chunking=None)
        SyncWorker(database, model).drain()
        assert [each.record_id for each in sync.failures()] == ["7"]
    with PgVectorStore(database, table="docs") as store:
        switch(store, Short())
        back(store, Hashing())
        execute("UPDATE notes SET body = 'a text of far too many words' WHERE id = 8")
        for model in (Hashing(), Short()):
            SyncWorker(database, model).drain()
        with pytest.raises(StoreUnsuitable, match="1 row of table public.docs could not be embedded, such as '8'"):
            switch(store, Short())
        execute("DELETE FROM notes WHERE id = 8")
        SyncWorker(database, Hashing()).drain()
        with pytest.raises(StoreUnsuitable, match="table public.docs_next has not caught up: .* about 1 rows left"):
            switch(store, Short())
        SyncWorker(database, Short()).drain()
        assert switch(store, Short()).complete


def wait_for(execute: Execute, text: str, *tables: str) -> None:
    """Wait until tables have a text; no sync may be broken meanwhile."""
    while any(execute(f"SELECT text FROM {table}") != [(text,)] for table in tables):
        assert execute("SELECT reason FROM harrier_sync.tables WHERE state = 'broken'") == []
        time.sleep(0.01)


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_worker_with_the_names_of_before(database: str, execute: Execute, lanes: int) -> None:
    """It writes to its own table, not to the one that has its name now, even if the model is the same.

    With two lanes, the other one learns the new name in the middle of a step.
    """
    execute("CREATE TABLE notes (id int PRIMARY KEY, body text NOT NULL)")
    execute("INSERT INTO notes VALUES (1, 'the first')")
    for table, precision in (("docs", "float16"), ("docs_next", "float32")):
        opened(database, table=table).create("notes", Hashing.space, text="body", precision=precision)
    with closing(Connections(database, 10)) as connections:

        def look() -> list[Declaration]:
            return run(connections, lambda connection: declarations(connection, ()))

        workers = [TableWorker(each, connections, Hashing(), lease=60) for each in look()]
        finish(workers)
        with PgVectorStore(database, table="docs") as store:
            switch(store, Hashing())
        execute("UPDATE notes SET body = 'the second'")
        if lanes == 2:
            claim = workers[0]._leasing.claim

            def claim_and_learn(queue: Queue, most: int) -> Batch:
                batch = claim(queue, most)
                [workers[0].declaration] = [each for each in look() if each.number == workers[0].declaration.number]
                return batch

            workers[0]._leasing.claim = claim_and_learn  # type: ignore[method-assign]
        finish(workers)
    tables = ("docs", "docs_before")
    assert [execute(f"SELECT text FROM {table}") for table in tables] == [[("the second",)], [("the second",)]]


def finish(workers: list[TableWorker]) -> None:
    """Run the workers, one after the other, until each has nothing left to do."""
    for worker in workers:
        while worker.step() or worker.left():
            time.sleep(0.01)
