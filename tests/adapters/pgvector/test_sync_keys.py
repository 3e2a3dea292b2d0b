"""A source's key is changed in place: no write of the application fails, and no row is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harrier_pgvector.sync import SyncWorker
from ingesting import Hashing
from syncs import Execute, opened

from harrier_core import Chunking


def declare(database: str, **options: Any) -> Any:
    sync = opened(database, table="chunks")
    sync.create("articles", Hashing().space, text="body", chunking=Chunking(tokens=16), **options)
    return sync


def drain(database: str) -> None:
    SyncWorker(database, Hashing(), poll=0.2).drain()


def texts(execute: Execute) -> dict[str, str]:
    return dict(execute("SELECT record_id, text FROM chunks"))


@pytest.mark.parametrize(
    ("kind", "value", "wider", "longer", "ids"),
    [
        ("varchar(5)", "a", "varchar(50)", "longer-key", ["a", "longer-key"]),
        ("varchar(5)", "a", "varchar", "longer-key", ["a", "longer-key"]),
        ("char(5)", "a b", "char(20)", "longer-key", ["a b", "longer-key"]),
        ("numeric(10,2)", "1.25", "numeric(12,4)", "1.2345", ["1.2345", "1.25"]),
        (
            "timestamp(0)", "2026-01-01", "timestamp", "2026-01-02 00:00:00.25",
            ["2026-01-01T00:00:00.000000", "2026-01-02T00:00:00.250000"],
        ),
        (
            "timestamptz(3)", "2026-01-01 00:00+00", "timestamptz(6)", "2026-01-02 00:00:00.000025+00",
            ["2026-01-01T00:00:00.000000Z", "2026-01-02T00:00:00.000025Z"],
        ),
    ],
)  # fmt: skip
def test_a_wider_key(
    database: str, execute: Execute, kind: str, value: str, wider: str, longer: str, ids: list[str]
) -> None:
    execute(f"CREATE TABLE articles (id {kind} PRIMARY KEY, body text)")
    insert = "INSERT INTO articles VALUES (%s, 'one')"
    execute(insert, [value])
    sync = declare(database)
    drain(database)
    execute(f"ALTER TABLE articles ALTER id TYPE {wider}")
    execute(insert, [longer])
    drain(database)
    assert sync.status().state == "active"
    assert sorted(texts(execute)) == ids
    execute("UPDATE articles SET body = 'two'")
    drain(database)
    assert texts(execute) == dict.fromkeys(ids, "two")
    execute("DELETE FROM articles WHERE id = %s", [longer])
    drain(database)
    assert len(texts(execute)) == 1


def test_a_narrower_key(database: str, execute: Execute) -> None:
    """A migration that rounds keys is not a write; a scan finds the new ones."""
    execute("CREATE TABLE articles (id numeric(12,4) PRIMARY KEY, body text)")
    execute("INSERT INTO articles VALUES (1.2345, 'one'), (2, 'two')")
    declare(database)
    drain(database)
    execute("ALTER TABLE articles ALTER id TYPE numeric(10,2)")
    drain(database)
    assert texts(execute) == {"1.23": "one", "2": "two"}


def test_a_declaration_with_a_limited_key(database: str, execute: Execute) -> None:
    """One made before keys were noted without their limits is broken when the limit changes, and declared again."""
    execute("CREATE TABLE articles (id varchar(5) PRIMARY KEY, body text)")
    execute("INSERT INTO articles VALUES ('a', 'one')")
    sync = declare(database)
    [[said]] = execute("SELECT obj_description('harrier_sync.queue_1'::regclass, 'pg_class')")
    declared = json.loads(said)
    declared["key"][0]["type"] = "character varying(5)"
    quoted = json.dumps(declared).replace("'", "''")
    execute(f"COMMENT ON TABLE harrier_sync.queue_1 IS '{quoted}'")
    for table in ("queue_1", "changes_1"):
        execute(f"ALTER TABLE harrier_sync.{table} ALTER k1 TYPE varchar(5)")
    drain(database)
    assert (sync.status().state, texts(execute)) == ("active", {"a": "one"})
    execute("ALTER TABLE articles ALTER id TYPE varchar(50)")
    drain(database)
    assert sync.status().state == "broken"
    assert "no column 'id' now, or its type has changed; restore it, or declare it again" in str(sync.status().reason)
    declare(database, replace=True)
    execute("INSERT INTO articles VALUES ('longer-key', 'two')")
    drain(database)
    assert (sync.status().state, texts(execute)) == ("active", {"a": "one", "longer-key": "two"})
