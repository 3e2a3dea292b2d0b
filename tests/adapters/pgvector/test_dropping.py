"""Dropping a table removes the kit's own objects, and nothing that others need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from databases import NewRole
from harrier_pgvector import PgVectorStore, dropping
from harrier_pgvector.sync import TableSync
from ingesting import Hashing
from psycopg import sql
from psycopg.conninfo import make_conninfo

from harrier_core import EmbeddingSpace, Index, Record, StoreMissing, StoreUnavailable, StoreUnsuitable

RECORDS = [Record(f"r{number}", f"text number {number}") for number in range(5)]


def execute(conninfo: str, statement: str, *names: str) -> list[Any]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
        return cursor.fetchall() if cursor.description else []


def relations(conninfo: str) -> set[str]:
    said = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v', 'i') AND relnamespace = 'public'::regnamespace"
    return {name for (name,) in execute(conninfo, said)}


@pytest.fixture
def store(database: str) -> Iterator[PgVectorStore]:
    with PgVectorStore(database, table="docs") as store:
        Index(store, Hashing()).ingest(RECORDS)
        yield store


def test_views_of_the_kit_are_dropped(store: PgVectorStore, database: str) -> None:
    """The extension and other tables are kept."""
    with PgVectorStore(database, table="other") as other:
        Index(other, Hashing()).ingest(RECORDS)
        others = relations(database) - {"docs", "docs_pkey"}
        for name in ("one view", "another"):
            store.create_langchain_view(name, as_owner=True)
        store.drop()
        assert relations(database) == others
        assert Index(other, Hashing()).count() == 5
        store.drop()


def test_views_of_others_prevent_a_drop(store: PgVectorStore, database: str) -> None:
    """The error names the views, and nothing is dropped, including the kit's own views."""
    store.create_langchain_view("ours", as_owner=True)
    execute(database, "CREATE VIEW theirs AS SELECT text FROM docs")
    with pytest.raises(StoreUnsuitable, match="view public.theirs depends on table public.docs; drop what"):
        store.drop()
    assert execute(database, "SELECT (SELECT count(*) FROM ours), (SELECT count(*) FROM theirs)") == [(5, 5)]
    execute(database, "DROP VIEW theirs")
    store.drop()
    assert relations(database) == set()


def test_a_view_of_a_view(store: PgVectorStore, database: str) -> None:
    """A user's view over the kit's view is kept."""
    store.create_langchain_view("ours", as_owner=True)
    execute(database, "CREATE VIEW theirs AS SELECT content FROM ours")
    with pytest.raises(StoreUnsuitable, match="view public.theirs depends on view public.ours"):
        store.drop()
    assert execute(database, "SELECT count(*) FROM theirs") == [(5,)]


def test_a_foreign_table_is_not_dropped(store: PgVectorStore, database: str) -> None:
    """A table with other columns, without a space, or of a newer kit is refused; so is a view of that name."""
    others = {
        "CREATE TABLE docs (id int)": "was not created by Harrier Kit",
        "CREATE TABLE docs (LIKE kept INCLUDING ALL EXCLUDING COMMENTS)": "does not identify its embedding space",
    }
    execute(database, "ALTER TABLE docs RENAME TO kept")
    for statement, said in others.items():
        execute(database, statement)
        with pytest.raises(StoreUnsuitable, match=said):
            store.drop()
        execute(database, "DROP TABLE docs")
    execute(database, "CREATE VIEW docs AS SELECT 1 AS one")
    store.drop()
    assert {"docs", "kept"} <= relations(database)


def test_a_role_that_is_not_the_owner(store: PgVectorStore, database: str, new_role: NewRole) -> None:
    """The error is the one that Postgres reports."""
    role = new_role("writer")
    execute(database, "GRANT ALL ON docs TO {}", role)
    with (
        PgVectorStore(make_conninfo(database, user=role), table="docs") as theirs,
        pytest.raises(StoreUnsuitable, match="lacks a privilege: must be owner of table docs"),
    ):
        theirs.drop()
    assert Index(store, Hashing()).count() == 5


def declare(database: str, table: str = "docs") -> TableSync:
    execute(database, "CREATE TABLE articles (id int PRIMARY KEY, body text)")
    sync = TableSync(database, table=table)
    sync.create("articles", Hashing.space, text="body", prune=True)
    return sync


@pytest.mark.parametrize("without_view", [False, True])
def test_a_table_that_a_live_sync_writes_to(store: PgVectorStore, database: str, without_view: bool) -> None:
    """The table can be dropped once the sync is; a missing view does not make a difference."""
    sync = declare(database)
    if without_view:
        execute(database, "DROP VIEW docs_by_key")
    with pytest.raises(
        StoreUnsuitable, match="a live sync keeps the chunks of public.articles in it; drop the sync first"
    ):
        store.drop()
    with PgVectorStore(database, table="other") as other:
        Index(other, Hashing()).ingest(RECORDS)
        other.drop()  # nothing follows it
    sync.drop()
    sync.close()
    store.drop()
    assert relations(database) == {"articles", "articles_pkey"}


def test_a_live_sync_of_another_role(store: PgVectorStore, database: str, new_role: NewRole) -> None:
    """Its tables are not read and its code does not run; its view keeps the table."""
    owner, stranger = new_role("owner"), new_role("stranger")
    declare(database).close()
    execute(database, "ALTER TABLE docs OWNER TO {}", owner)
    execute(database, "GRANT CREATE, USAGE ON SCHEMA public TO {}", owner)
    execute(database, "GRANT USAGE ON SCHEMA harrier_sync TO PUBLIC")
    execute(database, "ALTER SCHEMA harrier_sync OWNER TO {}", stranger)
    execute(database, "ALTER TABLE harrier_sync.tables OWNER TO {}", stranger)
    with (
        PgVectorStore(make_conninfo(database, user=owner), table="docs") as theirs,
        pytest.raises(StoreUnsuitable, match="view public.docs_by_key depends on table public.docs"),
    ):
        theirs.drop()
    assert Index(store, Hashing()).count() == 0  # the declaration pruned it


def test_a_table_in_use(store: PgVectorStore, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for a table in use is bounded, because later sessions would wait too."""
    monkeypatch.setattr(dropping, "_LOCK_TIMEOUT", "100ms")
    with psycopg.connect(database) as connection:
        connection.execute("SELECT FROM docs")
        with pytest.raises(StoreUnavailable, match="was not dropped: a transaction has been using it .*; try again"):
            store.drop()
    store.drop()
    assert relations(database) == set()


def test_concurrent_drops(store: PgVectorStore, database: str) -> None:
    """Several concurrent drops remove the table without an error."""
    with psycopg.connect(database) as connection, ThreadPoolExecutor(4) as pool:
        connection.execute("SELECT FROM docs")
        dropping_it = [pool.submit(store.drop) for _ in range(4)]
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        with psycopg.connect(database, autocommit=True) as watching:
            while watching.execute(waiting).fetchone() != (4,):
                assert not any(each.done() for each in dropping_it)
        connection.commit()
        assert [each.result(60) for each in dropping_it] == [None] * 4
    assert relations(database) == set()


def test_another_space_afterwards(store: PgVectorStore) -> None:
    """After a drop, the name can be used for any model."""
    other = EmbeddingSpace("other", None, "v", "t", 8, "last token", "l2", "{text}")
    store.drop()
    store.open(other, create=True)
    assert store.space() == other


def test_an_embedded_server(tmp_path: Path) -> None:
    """A drop of nothing starts no server; afterwards the folder exists and is empty."""
    with PgVectorStore.embedded(tmp_path / "data", table="docs") as store:
        store.drop()
        assert not (tmp_path / "data").exists()
        index = Index(store, Hashing())
        index.ingest(RECORDS)
        store.drop()
        uses: list[Callable[[], object]] = [index.count, store.describe]
        for use in uses:
            with pytest.raises(StoreMissing):
                use()
        assert index.ingest(RECORDS).written == 5
