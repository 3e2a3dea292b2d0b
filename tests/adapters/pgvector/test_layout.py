"""Layouts of tables: described, and copied from another store unless set explicitly."""

from __future__ import annotations

import pickle

import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from harrier_pgvector.sync import TableSync
from ingesting import Hashing

from harrier_core import Hnsw, Index, Record
from harrier_core.filters import Key
from harrier_core.layout import StoreLayout

MADE = StoreLayout("float32", Hnsw(8, 64), {"year": "integer", "a.b": "keyword", "x": "bool"}, keywords=True)
MANY = [Record(f"r{number}", f"text {number}", {"year": number}) for number in range(1_000)]


def test_a_layout_is_copied(postgres: str, table: str) -> None:
    """A layout is described with and without indexes, and pickles; an existing table is unchanged."""
    with PgVectorStore(postgres, table=table) as store:
        assert store.layout() == StoreLayout("float16", None, {}, keywords=False)
        store.adopt(StoreLayout.from_json(MADE.as_json()))
        assert store.layout() == pickle.loads(pickle.dumps(store)).layout() == MADE
        store.open(Hashing.space, create=True)
        assert store.layout() == MADE
        Index(store, Hashing()).ingest(MANY)
        assert store.layout() == MADE
    with PgVectorStore(postgres, table=table) as other:  # whose settings say nothing
        told = StoreLayout("float32", Hnsw(8, 64), {"a.b": "keyword", "x": "bool", "year": "float"}, keywords=True)
        assert other.layout() == told
        other.adopt(StoreLayout("float16", Hnsw(4, 32), {}, keywords=False))
        other.open(Hashing.space, create=True)
        assert other.layout() == told


def test_own_settings_take_precedence(postgres: str, table: str) -> None:
    """An index that only the other store has is not built."""
    with PgVectorStore(postgres, table=table, precision="float16", indexes={}, keywords=False) as store:
        store.adopt(MADE)
        Index(store, Hashing()).ingest(MANY)
        assert store.layout() == StoreLayout("float16", MADE.hnsw, {}, keywords=False)


@pytest.mark.parametrize("hnsw", [Hnsw(m=200), Hnsw(32, 40), Hnsw(ef_construction=2)])
def test_unsupported_indexes(postgres: str, hnsw: Hnsw) -> None:
    """Indexes that pgvector cannot build are left out."""
    with PgVectorStore(postgres) as store:
        store.adopt(StoreLayout("float32", hnsw, {Key("a.b"): "keyword"}))
        assert store.layout() == StoreLayout("float32", None, {"a.b": "keyword"}, keywords=False)


def test_the_sync_that_keeps_a_table(database: str) -> None:
    """The live sync of a table is described; other tables and missing ones have none."""
    with PgVectorStore(database, table="chunks") as store, psycopg.connect(database, autocommit=True) as connection:
        assert store.follows() is None
        connection.execute("CREATE TABLE notes (id int PRIMARY KEY, text text)")
        sync = TableSync(database, table="chunks")
        sync.create("notes", Hashing.space, text="text")
        assert store.follows() == "a live sync of public.notes"
        sync.drop()
        assert store.follows() is None
