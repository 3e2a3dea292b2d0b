"""The live sync among roles that do not trust each other: whose code runs, with whose rights, who sees what."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from harrier_pgvector.sync import SyncWorker, TableSync, sync_statuses
from hijacking import SPECTATOR, called, plant
from ingesting import Hashing
from psycopg.conninfo import make_conninfo
from syncs import opened

from harrier_core import Chunking
from harrier_core.errors import SettingError, StoreUnsuitable

Execute = Callable[..., list[Any]]
NewRole = Callable[[str], str]


@pytest.fixture
def execute(database: str) -> Iterator[Execute]:
    """Run a statement as a superuser, whatever the search path, and return the rows."""
    settings = {"options": "-c search_path=public,pg_temp", "application_name": SPECTATOR}
    with psycopg.connect(make_conninfo(database, **settings), autocommit=True) as connection:

        def run(statement: str, values: Sequence[Any] | None = None) -> list[Any]:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def shop(database: str, execute: Execute, new_role: NewRole) -> tuple[str, str]:
    """Return the name and connection string of an ordinary role that owns a table and may declare it."""
    role = new_role("shop")
    execute("CREATE EXTENSION vector")
    execute(f"GRANT CREATE ON SCHEMA public TO {role}")
    execute(f"DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {role}', current_database()); END $$")
    conninfo = make_conninfo(database, user=role)
    as_role(conninfo, "CREATE TABLE articles (id int PRIMARY KEY, body text)")
    as_role(conninfo, "INSERT INTO articles VALUES (1, 'one'), (2, 'two')")
    return role, conninfo


def as_role(conninfo: str, *statements: str) -> list[Any]:
    """Run statements as a role, and return the rows of the last one."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def declare(conninfo: str, text: str | list[str] = "body", **options: Any) -> TableSync:
    trust = options.pop("trust", ())
    sync = opened(conninfo, table="chunks", trust=trust)
    sync.create("articles", Hashing().space, text=text, chunking=Chunking(tokens=16), **options)
    return sync


def drain(conninfo: str, **options: Any) -> SyncWorker:
    worker = SyncWorker(conninfo, Hashing(), poll=0.2, **options)
    worker.drain()
    return worker


class TestNames:
    """Names of functions, operators, types and relations refer to Postgres's own only."""

    def test_planted_objects_never_run(self, database: str, execute: Execute, new_role: NewRole) -> None:
        execute("CREATE EXTENSION vector")
        execute("CREATE TABLE articles (id int, day date, price numeric, title text, body text, seen timestamptz,"
                " PRIMARY KEY (id, day, price))")  # fmt: skip
        insert = (
            "INSERT INTO articles SELECT i, '2026-01-01', 1.5, 'title', 'body ' || i, now() "
            "FROM generate_series(%s::int, %s) AS i"
        )
        execute(insert, [1, 20])
        plant(database, new_role("mallory"))
        with TableSync(database, table="chunks") as sync:
            sync.create("articles", Hashing().space, text=["title", "body"], metadata=["seen", "price"])
            drain(database)
            execute(insert, [21, 30])
            execute("UPDATE articles SET body = 'other' WHERE id < 5")
            execute("DELETE FROM articles WHERE id = 6")
            drain(database)
            assert execute("SELECT count(*) FROM chunks") == [(29,)]
            sync.rescan()
            execute("ALTER TABLE articles ALTER title TYPE varchar(90)")
            drain(database)
            execute("TRUNCATE articles")
            sync.pause()
            sync.resume()
            assert (sync.retry(), sync.failures(), sync.status().state) == (0, [], "active")
            worker = SyncWorker(database, Hashing(), poll=0.1)
            thread = threading.Thread(target=worker.run)
            thread.start()
            try:
                while execute("SELECT count(*) FROM chunks") != [(0,)]:
                    assert thread.is_alive()
            finally:
                worker.stop()
                thread.join(60)
            assert [each.table for each in sync_statuses(database)] == ["public.chunks"]
            sync.create("articles", Hashing().space, text="body", replace=True, dry_run=True)
            sync.create("articles", Hashing().space, text="body", replace=True, prune=True)
            sync.drop(chunks=True)
        as_role(database, "SELECT length('counted')")  # or nothing would have been noticed
        assert called(database) == {"length"}

    def test_the_extension_in_a_schema_of_its_own(self, database: str, execute: Execute) -> None:
        execute("CREATE SCHEMA extensions")
        execute("CREATE EXTENSION vector SCHEMA extensions")
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        execute("INSERT INTO articles VALUES (1, 'one')")
        with declare(database) as sync:
            drain(database)
            execute("UPDATE articles SET body = 'other'")
            drain(database)
            assert execute("SELECT chunk_text FROM chunks_by_key") == [("other",)]
            sync.drop(chunks=True)

    def test_a_function_that_is_created_later(self, database: str, execute: Execute) -> None:
        """An expression keeps the meaning that it had when it was declared."""
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        execute("INSERT INTO articles VALUES (1, 'one')")
        execute("CREATE FUNCTION mine(text) RETURNS text LANGUAGE sql AS 'SELECT $1 || ''!'''")
        declare(database, text="mine(body) || id")
        execute("CREATE FUNCTION joined(text, int) RETURNS text LANGUAGE sql AS 'SELECT ''hijacked'''")
        execute("CREATE OPERATOR || (LEFTARG = text, RIGHTARG = int, FUNCTION = joined)")
        execute("CREATE FUNCTION pg_temp.mine(text) RETURNS text LANGUAGE sql AS 'SELECT ''hijacked'''")
        drain(database)
        assert execute("SELECT text FROM chunks") == [("one!1",)]

    def test_a_function_of_any_type(self, database: str, execute: Execute) -> None:
        """Functions of any type are refused, because a later overload could match more closely."""
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        execute("CREATE FUNCTION mine(anyelement) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1::text'")
        with pytest.raises(SettingError, match="mine of the text takes arguments of any type"):
            declare(database, text="mine(body)")
        declare(database, text="coalesce(body, '') || id")  # Postgres's own are not meant

    @pytest.mark.parametrize("made", ["CREATE DOMAIN m.code AS text", "CREATE TYPE m.code AS ENUM ('a', 'b')"])
    def test_a_type_of_another_role(self, database: str, execute: Execute, new_role: NewRole, made: str) -> None:
        """It is refused, because its owner may add checks and casts at any time."""
        mallory = new_role("mallory")
        execute(f"CREATE SCHEMA m AUTHORIZATION {mallory}")
        as_role(make_conninfo(database, user=mallory), made)
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text, codes m.code[])")
        with pytest.raises(StoreUnsuitable, match="a type of its columns.*mallory"):
            declare(database)
        declare(database, trust=[mallory])
        assert "mallory" in str(sync_statuses(database)[0].reason)

    def test_a_function_of_another_role(self, database: str, execute: Execute, new_role: NewRole) -> None:
        """It is not mistaken for one of Postgres's own."""
        mallory = new_role("mallory")
        execute(f"GRANT CREATE ON SCHEMA public TO {mallory}")
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        as_role(
            make_conninfo(database, user=mallory),
            "CREATE FUNCTION public.joined(text, int) RETURNS text LANGUAGE sql AS 'SELECT ''hijacked'''",
            "CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = int, FUNCTION = public.joined)",
        )
        with pytest.raises(StoreUnsuitable, match=f"a function or operator of the text belongs to role {mallory}"):
            declare(database, text="body || id")
        declare(database, text="body || id::text")
        assert execute("SELECT to_regclass('harrier_sync.s')") == [(None,)]


class TestTrust:
    """A worker runs SQL of the declarers, so it only works for roles that it trusts."""

    ATTACK = """
        CREATE TABLE loot (said text);
        CREATE FUNCTION attack(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
            PERFORM set_config('role', 'none', true);
            IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
                RAISE EXCEPTION USING ERRCODE = 'XX001', MESSAGE = 'taken over';
            END IF;
            RETURN $1;
        END $$;
        CREATE FUNCTION attacking() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.loot VALUES (public.attack(session_user));
            RETURN NEW;
        END $$"""

    @pytest.mark.slow
    def test_a_superuser_does_not_run_foreign_code(
        self, shop: tuple[str, str], database: str, execute: Execute
    ) -> None:
        """Code of the declarer never runs: from texts, triggers or indexes."""
        role, conninfo = shop
        as_role(conninfo, self.ATTACK)
        as_role(
            conninfo,
            "CREATE FUNCTION planned() RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN "
            "IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN "
            "ALTER ROLE CURRENT_USER SET application_name = 'owned'; END IF; RETURN 1; END $$",
            "CREATE INDEX ON articles ((planned()))",
        )
        declare(conninfo, text="attack(body)")
        for table in ("chunks", "harrier_sync.queue_1", "harrier_sync.workers", "harrier_sync.tables"):
            name = table.rpartition(".")[2]
            as_role(
                conninfo,
                f"CREATE TRIGGER attack_{name} BEFORE INSERT OR UPDATE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION attacking()",
            )
        worker = SyncWorker(database, Hashing(), poll=0.2)
        with pytest.raises(StoreUnsuitable, match=f"schema harrier_sync belongs to role {role}, whose SQL code would"):
            worker.drain()
        for work in (opened(database, table="chunks").status, lambda: sync_statuses(database)):
            with pytest.raises(StoreUnsuitable, match="trust that role by name"):
                work()
        assert execute("SELECT count(*) FROM loot, chunks") == [(0,)]
        assert execute("SELECT count(*) FROM pg_db_role_setting WHERE setconfig::text LIKE '%owned%'") == [(0,)]

    def test_a_declaration_in_a_schema_of_a_superuser(
        self, shop: tuple[str, str], database: str, execute: Execute
    ) -> None:
        """Only that declaration is skipped; a worker of the declaring role works."""
        role, conninfo = shop
        execute("CREATE TABLE mine (id int PRIMARY KEY, body text)")
        execute("INSERT INTO mine VALUES (1, 'mine')")
        others = opened(database, table="others")
        others.create("mine", Hashing().space, text="body")
        execute(f"GRANT USAGE, CREATE ON SCHEMA harrier_sync TO {role}")
        execute(f"GRANT ALL ON ALL TABLES IN SCHEMA harrier_sync TO {role}")
        declare(conninfo)
        worker = drain(database)
        assert f"belongs to role {role}" in worker.troubles["public.chunks"]
        assert execute("SELECT (SELECT count(*) FROM chunks), (SELECT count(*) FROM others)") == [(0, 1)]
        drain(conninfo)
        assert execute("SELECT count(*) FROM chunks") == [(2,)]

    def test_a_trusted_role(self, shop: tuple[str, str], database: str, execute: Execute, new_role: NewRole) -> None:
        """Its source is read with its own rights, in a read-only transaction."""
        role, conninfo = shop
        as_role(
            conninfo,
            "CREATE TABLE noted (text text)",
            "CREATE FUNCTION noting(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN "
            "IF $1 = 'two' THEN INSERT INTO public.noted VALUES ($1); END IF; RETURN $1 || ' ' || current_user; END $$",
        )
        declare(conninfo, text="noting(body)")
        drain(database, trust=[role])
        assert execute("SELECT text FROM chunks") == [(f"one {role}",)]
        with TableSync(database, table="chunks", trust=[role]) as sync:
            [failure] = sync.failures()
        assert (failure.record_id, "ReadOnlySqlTransaction (25006)" in failure.reason) == ("2", True)
        helper = new_role("helper")
        worker = make_conninfo(database, user=helper)
        execute(f"GRANT USAGE ON SCHEMA harrier_sync TO {helper}")
        execute(f"GRANT ALL ON ALL TABLES IN SCHEMA harrier_sync TO {helper}")
        execute(f"GRANT ALL ON chunks TO {helper}")
        execute("UPDATE articles SET body = 'three' WHERE id = 2")
        said = drain_in_trouble(worker, role)
        assert f"run GRANT {role} TO {helper}" in said
        execute(f"GRANT {role} TO {helper}")
        drain(worker, trust=[role])
        assert execute("SELECT text FROM chunks ORDER BY 1") == [(f"one {role}",), (f"three {role}",)]

    def test_privileges_of_a_worker(self, database: str, execute: Execute, new_role: NewRole) -> None:
        """The documented privileges suffice, and none lets a worker change code that others run."""
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        execute("INSERT INTO articles VALUES (1, 'one'), (2, 'two')")
        declare(database)
        role = new_role("worker")
        for grant in (
            "USAGE ON SCHEMA harrier_sync",
            "SELECT, UPDATE (state, reason, seen) ON harrier_sync.tables",
            "SELECT, INSERT, UPDATE, DELETE ON harrier_sync.scans, harrier_sync.workers",
            "SELECT, INSERT, UPDATE, DELETE ON harrier_sync.queue_1, harrier_sync.changes_1, chunks",
            "SELECT ON articles",
        ):
            execute(f"GRANT {grant} TO {role}")
        worker = make_conninfo(database, user=role)
        drain(worker)
        execute("UPDATE articles SET body = 'other' WHERE id = 1")
        execute("DELETE FROM articles WHERE id = 2")
        drain(worker)
        assert execute("SELECT text FROM chunks") == [("other",)]
        for statement in (
            "COMMENT ON TABLE harrier_sync.queue_1 IS '{}'",
            "UPDATE harrier_sync.tables SET target = 'articles'",
            "CREATE FUNCTION harrier_sync.x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                as_role(worker, statement)

    def test_a_source_of_another_role(self, shop: tuple[str, str], database: str) -> None:
        role, _ = shop
        with pytest.raises(StoreUnsuitable, match=f"table public.articles belongs to role {role}"):
            declare(database)
        declare(database, trust=[role])
        drain(database, trust=[role])

    def test_advisory_locks_do_not_block_the_sync(self, database: str, execute: Execute, new_role: NewRole) -> None:
        """Neither changes nor declarations wait for advisory locks."""
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        execute("INSERT INTO articles VALUES (1, 'one')")
        mallory = make_conninfo(database, user=new_role("mallory"))
        with psycopg.connect(mallory, autocommit=True) as connection:
            for name in ("harrier_sync", "harrier_sync fold 1", "public.chunks"):
                connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [name])
            declare(database)
            execute("INSERT INTO articles VALUES (2, 'two')")
            drain(database)
            assert execute("SELECT count(*) FROM chunks") == [(2,)]

    def test_triggers_of_other_tables(self, database: str, execute: Execute, new_role: NewRole) -> None:
        """A worker's role cannot make the declarer's function queue its own keys."""
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        declare(database)
        role = new_role("worker")
        execute(f"GRANT USAGE ON SCHEMA harrier_sync TO {role}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            as_role(
                make_conninfo(database, user=role),
                "CREATE TEMP TABLE own (id int PRIMARY KEY, body text)",
                "CREATE TRIGGER t AFTER DELETE ON own REFERENCING OLD TABLE AS harrier_old "
                "EXECUTE FUNCTION harrier_sync.note_1()",
            )


def drain_in_trouble(conninfo: str, trusted: str) -> str:
    worker = SyncWorker(conninfo, Hashing(), poll=0.2, trust=[trusted])
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        while not worker.troubles:
            assert thread.is_alive()
        return worker.troubles["public.chunks"]
    finally:
        worker.stop()
        thread.join(60)


class TestRowLevelSecurity:
    """Chunks are hidden from roles that cannot see their rows."""

    @pytest.fixture
    def tenant(self, database: str, execute: Execute, new_role: NewRole) -> str:
        """Return a role that is granted new tables by default, as on a Supabase project."""
        role = new_role("tenant")
        execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {role}")
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        execute("INSERT INTO articles VALUES (1, 'one')")
        execute("ALTER TABLE articles ENABLE ROW LEVEL SECURITY")
        return make_conninfo(database, user=role)

    def test_chunks_have_the_row_security_of_the_source(self, tenant: str, database: str, execute: Execute) -> None:
        said = declare(database, dry_run=True)
        sync = declare(database)
        drain(database)
        assert execute("SELECT count(*) FROM chunks") == [(1,)]
        for relation in ("chunks", "chunks_by_key"):
            assert as_role(tenant, f"SELECT * FROM {relation}") == []
        assert as_role(tenant, "DELETE FROM chunks RETURNING 1") == []
        sync.create("articles", Hashing().space, text="body", replace=True, row_security=False)
        execute("ALTER TABLE chunks DISABLE ROW LEVEL SECURITY")
        drain(database)
        assert sync.status().state == "active"
        assert as_role(tenant, "SELECT text FROM chunks") == [("one",)]
        said.close()

    def test_row_security_that_is_enabled_later(self, tenant: str, database: str, execute: Execute) -> None:
        execute("ALTER TABLE articles DISABLE ROW LEVEL SECURITY")
        sync = declare(database)
        drain(database)
        execute("ALTER TABLE articles ENABLE ROW LEVEL SECURITY")
        execute("UPDATE articles SET body = 'secret'")
        drain(database)
        assert "has row-level security and its chunks have none" in str(sync.status().reason)
        assert as_role(tenant, "SELECT text FROM chunks") == [("one",)]
        execute("ALTER TABLE chunks ENABLE ROW LEVEL SECURITY")
        drain(database)
        assert execute("SELECT text FROM chunks") == [("secret",)]
        assert as_role(tenant, "SELECT * FROM chunks") == []
