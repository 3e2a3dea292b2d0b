"""Limits and errors of the session or the server are not the fault of a row."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

import psycopg
import pytest
from harrier_pgvector.sync import SyncWorker
from harrier_pgvector.sync.embedding import Embedding
from ingesting import Hashing
from psycopg.conninfo import conninfo_to_dict
from syncs import Execute, opened, running, wait_for

from harrier_core import Chunking, Encoded

# Raises an error, or sleeps, for each statement.
_TRIGGER = """
    CREATE FUNCTION held_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NULL; END $$;
    CREATE TRIGGER held_up BEFORE INSERT OR UPDATE ON {table} EXECUTE FUNCTION held_up()"""


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Record the attempts that are counted against rows, and count none."""
    attempts: list[object] = []
    monkeypatch.setattr(Embedding, "_count_attempt", lambda *args: attempts.append(args))
    return attempts


@pytest.fixture
def sync(database: str, execute: Execute) -> Any:
    execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
    execute("INSERT INTO articles VALUES (1, 'one')")
    sync = opened(database, table="chunks")
    sync.create("articles", Hashing().space, text="body", chunking=Chunking(tokens=16))
    SyncWorker(database, Hashing(), poll=0.2).drain()
    return sync


def limit(database: str, execute: Execute, setting: str) -> None:
    """Change a setting of the database, for sessions that begin later."""
    execute(f"ALTER DATABASE {conninfo_to_dict(database)['dbname']} SET {setting}")


def texts(execute: Execute) -> dict[str, str]:
    return dict(execute("SELECT record_id, text FROM chunks"))


@pytest.mark.parametrize("table", ["articles", "chunks"])
def test_a_lock_timeout(database: str, execute: Execute, sync: Any, attempts: list[object], table: str) -> None:
    """The rows of a table that is locked for long are retried until it is not."""
    limit(database, execute, "lock_timeout = '100ms'")
    with psycopg.connect(database) as other:
        execute("UPDATE articles SET body = 'new'")
        other.execute(f"LOCK TABLE {table}".encode())
        with running(database, lease=3.0) as worker:
            wait_for(lambda: "lock timeout" in worker.troubles.get("public.chunks", ""))
            other.rollback()
            wait_for(lambda: texts(execute) == {"1": "new"})
    assert attempts == []
    assert sync.status().failed == 0


@pytest.mark.parametrize("state", ["53200", "55006", "57014", "58030", "XX000"])
def test_an_error_of_the_server(database: str, execute: Execute, sync: Any, attempts: list[object], state: str) -> None:
    execute(_TRIGGER.format(body=f"RAISE 'one' USING ERRCODE = '{state}'", table="chunks"))
    execute("UPDATE articles SET body = 'new'")
    with running(database, lease=3.0) as worker:
        wait_for(lambda: state in worker.troubles.get("public.chunks", ""))
        execute("DROP TRIGGER held_up ON chunks")
        wait_for(lambda: texts(execute) == {"1": "new"})
    assert attempts == []
    assert sync.status().failed == 0


@pytest.mark.slow
@pytest.mark.parametrize("table", ["harrier_sync.queue_1", "chunks"])
@pytest.mark.usefixtures("sync")
def test_a_statement_timeout(database: str, execute: Execute, attempts: list[object], table: str) -> None:
    """It does not end the work of a worker, which would never get smaller."""
    limit(database, execute, "statement_timeout = '1s'")
    execute(_TRIGGER.format(body="PERFORM pg_sleep(1.5)", table=table))
    execute("UPDATE articles SET body = 'new'")
    SyncWorker(database, Hashing(), poll=0.2).drain()
    assert texts(execute) == {"1": "new"}
    assert attempts == []


def test_a_statement_timeout_of_a_slow_text(database: str, execute: Execute, attempts: list[object]) -> None:
    execute(
        "CREATE FUNCTION slow(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1.5); RETURN $1; END $$"
    )
    execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
    execute("INSERT INTO articles VALUES (1, 'one')")
    limit(database, execute, "statement_timeout = '1s'")
    opened(database, table="chunks").create("articles", Hashing().space, text="slow(body)")
    SyncWorker(database, Hashing(), poll=0.2).drain()
    assert texts(execute) == {"1": "one"}
    assert attempts == []


@pytest.mark.usefixtures("sync")
def test_a_retry_waits_for_its_pause_only(database: str, execute: Execute) -> None:
    """After an error of rows the next attempt does not wait for the next look, which here comes in hours."""
    errors = [ValueError("of these rows")]

    class Failing(Hashing):
        def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
            if errors:
                raise errors.pop()
            return super().submit_documents(texts)

    execute("UPDATE articles SET body = 'new'")
    with running(database, Failing(), poll=3_600):
        wait_for(lambda: texts(execute) == {"1": "new"})
    assert errors == []
