"""Statements that change texts or metadata without a write to the source."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harrier_pgvector.sync import SyncWorker
from ingesting import Hashing
from syncs import Execute, opened


def declare(database: str, text: str = "body", **options: Any) -> Any:
    sync = opened(database, table="chunks")
    sync.create("articles", Hashing().space, text=text, **options)
    SyncWorker(database, Hashing(), poll=0.2).drain()
    return sync


def drain(database: str) -> list[str]:
    encoder = Hashing()
    SyncWorker(database, encoder, poll=0.2).drain()
    return encoder.encoded


@pytest.mark.parametrize("text", ["s::text", "to_jsonb(s)::text"])
def test_a_whole_row_gets_a_column(database: str, execute: Execute, text: str) -> None:
    """The column is in the texts at once, and its later changes are noticed."""
    execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
    execute("INSERT INTO articles VALUES (1, 'one'), (2, 'two')")
    sync = declare(database, text)
    execute("ALTER TABLE articles ADD COLUMN more text DEFAULT 'more'")
    read = f"SELECT record_id, text, (SELECT {text} FROM articles AS s WHERE id::text = record_id) FROM chunks"
    drain(database)
    assert all(stored == now and "more" in now for _, stored, now in execute(read))
    execute("UPDATE articles SET more = 'changed' WHERE id = 1")
    assert len(drain(database)) == 1
    assert all(stored == now for _, stored, now in execute(read))
    execute("ALTER TABLE articles ALTER more SET DEFAULT 'other'")
    execute("UPDATE articles SET body = body")
    assert drain(database) == []
    assert sync.status().state == "active"


def test_a_whole_row_gets_a_virtual_column(database: str, execute: Execute) -> None:
    """Postgres computes none in a trigger's tables: writes succeed, and every updated row is noticed."""
    if execute("SHOW server_version_num") < [("180000",)]:
        pytest.skip("this release of Postgres has no virtual columns; use 18 or later")
    execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
    execute("INSERT INTO articles VALUES (1, 'one'), (2, 'two')")
    declare(database, "s::text")
    execute("UPDATE articles SET body = 'planned' WHERE id = 2")
    execute("ALTER TABLE articles ADD COLUMN made text GENERATED ALWAYS AS ('v1 ' || body) VIRTUAL")
    execute("UPDATE articles SET body = 'new' WHERE id = 1")
    execute("ALTER TABLE articles ADD COLUMN more text")
    execute("UPDATE articles SET more = 'changed' WHERE id = 2")
    drain(database)
    read = "SELECT text = (SELECT s::text FROM articles AS s WHERE id::text = record_id) FROM chunks"
    assert execute(read) == [(True,), (True,)]
    execute("UPDATE articles SET more = 'again' WHERE id = 2")
    assert len(drain(database)) == 1
    assert execute(read) == [(True,), (True,)]


@pytest.mark.parametrize(("text", "state"), [("s::text", "broken"), ("body", "active")])
def test_a_declaration_of_before(database: str, execute: Execute, text: str, state: str) -> None:
    """One whose triggers have a fixed list of columns asks to be declared again if its text uses all of them."""
    execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
    execute("INSERT INTO articles VALUES (1, 'one')")
    sync = declare(database, text)
    [[said]] = execute("SELECT obj_description('harrier_sync.queue_1'::regclass, 'pg_class')::jsonb - 'whole'")
    quoted = json.dumps(said).replace("'", "''")
    execute(f"COMMENT ON TABLE harrier_sync.queue_1 IS '{quoted}'")
    execute("UPDATE articles SET body = 'new'")
    drain(database)
    assert sync.status().state == state
    declare(database, text, replace=True)
    assert sync.status().state == "active"
    assert "new" in str(execute("SELECT text FROM chunks"))


@pytest.mark.parametrize("kind", ["STORED", "VIRTUAL"])
def test_a_generated_column_gets_another_expression(database: str, execute: Execute, kind: str) -> None:
    [[version]] = execute("SHOW server_version_num")
    if int(version) < (180_000 if kind == "VIRTUAL" else 170_000):
        pytest.skip("this release of Postgres cannot do that; use a later one")
    made = f"GENERATED ALWAYS AS ('v1 ' || body) {kind}"
    execute(f"CREATE TABLE articles (id int PRIMARY KEY, body text, made text {made})")
    execute("INSERT INTO articles VALUES (1, 'one')")
    declare(database, "made")
    execute("ALTER TABLE articles ALTER made SET EXPRESSION AS ('v2 ' || body)")
    assert drain(database) == ["v2 one"]
    assert drain(database) == []


@pytest.mark.parametrize("kind", ["kind", "kind[]", "chosen"])
def test_a_label_is_renamed(database: str, execute: Execute, kind: str) -> None:
    execute("CREATE TYPE kind AS ENUM ('draft', 'live')")
    execute("CREATE DOMAIN chosen AS kind")
    execute(f"CREATE TABLE articles (id int PRIMARY KEY, body text, kind {kind}, other text)")
    execute("INSERT INTO articles VALUES (1, 'one', %s)", ["{draft}" if "[" in kind else "draft"])
    declare(database, metadata=["kind"])
    execute("ALTER TYPE kind RENAME VALUE 'draft' TO 'sketch'")
    drain(database)
    assert "sketch" in str(execute("SELECT metadata FROM chunks"))


def test_a_label_of_a_key_is_renamed(database: str, execute: Execute) -> None:
    """The chunks of the old one are reported; once they are removed, the table goes on."""
    execute("CREATE TYPE kind AS ENUM ('a', 'b')")
    execute("CREATE TABLE articles (id kind PRIMARY KEY, body text)")
    execute("INSERT INTO articles VALUES ('a', 'one'), ('b', 'two')")
    sync = declare(database)
    execute("ALTER TYPE kind RENAME VALUE 'a' TO 'z'")
    drain(database)
    assert sync.status().state == "broken"
    assert "ids are not keys of its source; remove them" in str(sync.status().reason)
    execute("DELETE FROM chunks WHERE record_id = 'a'")
    drain(database)
    assert dict(execute("SELECT record_id, text FROM chunks")) == {"z": "one", "b": "two"}
    assert sync.status().state == "active"
