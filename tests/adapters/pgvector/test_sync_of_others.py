"""A live sync that another role declared: no copy, re-embedding or switch writes to its table unnoticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from databases import NewRole
from harrier_pgvector import PgVectorStore
from harrier_pgvector.sync import SyncWorker
from ingesting import Hashing
from psycopg.conninfo import make_conninfo
from reembeds import Other
from syncs import Execute, opened

from harrier_core import Index, Record, StoreUnsuitable
from harrier_core.migration import copy, reembed, switch
from harrier_core.testing import MemoryStore


@pytest.fixture
def app(database: str, execute: Execute, new_role: NewRole) -> str:
    """Return the role whose sync keeps the chunks of notes in docs."""
    role = new_role("app")
    [(name,)] = execute("SELECT current_database()")
    execute(f'GRANT CREATE ON DATABASE "{name}" TO {role}')
    execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {role}")
    execute("CREATE EXTENSION vector")
    with psycopg.connect(make_conninfo(database, user=role), autocommit=True) as connection:
        connection.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
        connection.execute("INSERT INTO notes VALUES (1, 'one')")
    conninfo = make_conninfo(database, user=role)
    opened(conninfo, table="docs").create("notes", Hashing.space, text="body")
    SyncWorker(conninfo, Hashing()).drain()
    return role


@pytest.fixture
def other() -> MemoryStore:
    store = MemoryStore()
    Index(store, Hashing()).ingest([Record("foreign", "a text of another source")])
    return store


@pytest.fixture
def store(database: str) -> Iterator[PgVectorStore]:
    with PgVectorStore(database, table="docs") as store:
        yield store


@pytest.mark.usefixtures("app")
def test_a_superuser(store: PgVectorStore, other: MemoryStore, execute: Execute) -> None:
    """It reads what the role declared, with or without the view, and changes nothing."""
    for without_view in (False, True):
        if without_view:
            execute("DROP VIEW docs_by_key")
        assert store.follows() == "a live sync of public.notes"
        with pytest.raises(StoreUnsuitable, match="is kept up to date by a live sync of public.notes"):
            copy(other, store, extra="remove")
        with pytest.raises(StoreUnsuitable, match="a live sync of public.notes writes to table public.docs, but no"):
            reembed(store, Other())
        with pytest.raises(StoreUnsuitable, match="a live sync keeps the chunks of public.notes in it"):
            store.drop()
    assert execute("SELECT record_id FROM docs") == [("1",)]


def test_a_table_that_was_filled_before(database: str, store: PgVectorStore, app: str, execute: Execute) -> None:
    """A switch is refused too: the source's new rows would go to the old table."""
    sync = opened(make_conninfo(database, user=app), table="docs")
    sync.drop()
    reembed(store, Other())
    sync.create("notes", Hashing.space, text="body")
    with pytest.raises(StoreUnsuitable, match="a live sync of public.notes writes to table public.docs, but no sync"):
        switch(store, Other())
    opened(make_conninfo(database, user=app), table="docs_next").create("notes", Other.space, text="body")
    with pytest.raises(StoreUnsuitable, match=f"belongs to role {app}, .* connect as {app}"):
        switch(store, Other())
    assert execute("SELECT to_regclass('docs_before')") == [(None,)]


def without_usage(_: str) -> list[str]:
    return []


def without_select(role: str) -> list[str]:
    return [f"GRANT USAGE ON SCHEMA harrier_sync TO {role}"]


def without_its_rows(role: str) -> list[str]:
    return [
        *without_select(role),
        f"GRANT SELECT ON harrier_sync.tables TO {role}",
        "ALTER TABLE harrier_sync.tables ENABLE ROW LEVEL SECURITY",
    ]


@pytest.mark.parametrize("rights", [without_usage, without_select, without_its_rows])
def test_a_role_that_cannot_tell(
    database: str, app: str, other: MemoryStore, execute: Execute, new_role: NewRole, rights: Callable[[str], list[str]]
) -> None:
    """Everything is refused until it may read what is declared; a table that does not exist can be filled."""
    role = new_role("writer")
    execute(f"ALTER TABLE docs OWNER TO {role}")
    execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {role}")
    for statement in rights(role):
        execute(statement)
    place = make_conninfo(database, user=role)
    with PgVectorStore(place, table="docs") as docs, PgVectorStore(place, table="new") as new:
        copy(other, new)
        needed = f"role {role} may not read .*connect as role {app}, or grant {role} .*SELECT on harrier_sync.tables"
        for use in (
            docs.follows,
            lambda: copy(other, docs, extra="remove"),
            lambda: reembed(docs, Other()),
            lambda: copy(other, new),
        ):
            with pytest.raises(StoreUnsuitable, match=needed):
                use()
        assert execute("SELECT record_id FROM docs") == [("1",)]
        execute("ALTER TABLE harrier_sync.tables DISABLE ROW LEVEL SECURITY")
        execute(f"GRANT USAGE ON SCHEMA harrier_sync TO {role}")
        execute(f"GRANT SELECT ON harrier_sync.tables TO {role}")
        assert docs.follows() == "a live sync of public.notes"
        assert copy(other, new).records == 1


@pytest.mark.usefixtures("app")
def test_its_code_does_not_run(store: PgVectorStore, execute: Execute) -> None:
    """Neither a plan, nor a policy, nor a view calls a function of the role that owns the schema."""
    execute(
        "CREATE FUNCTION attack(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'taken over'; END $$"
    )
    execute("CREATE INDEX ON harrier_sync.tables ((state = 'paused')) WHERE false")
    execute("CREATE FUNCTION planned() RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true'")
    execute("CREATE INDEX ON harrier_sync.tables ((planned()))")
    execute(
        "CREATE OR REPLACE FUNCTION planned() RETURNS boolean IMMUTABLE LANGUAGE sql AS $$ SELECT attack('plan') $$"
    )
    with pytest.raises(psycopg.errors.RaiseException, match="taken over"):
        execute("SELECT source FROM harrier_sync.tables")
    assert store.follows() == "a live sync of public.notes"
    execute("ALTER TABLE harrier_sync.tables RENAME TO hidden")
    execute(
        "CREATE VIEW harrier_sync.tables AS SELECT 1::regclass AS source, 1::regclass AS target WHERE attack('view')"
    )
    with pytest.raises(StoreUnsuitable):
        store.follows()
