"""Foreign code never runs with the caller's rights, row visibility is respected, and no secret is shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from ingesting import Hashing
from planting import Garden, Names
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool

from harrier_core import EmbeddingSpace, Index, Record, SettingError, StoreError, StoreUnsuitable
from harrier_core.query import Search
from harrier_core.records import Chunk
from harrier_core.store import Write

RECORDS = [Record(f"r{number}", f"text number {number}", {"n": number, "tags": ["a"]}) for number in range(1_100)]

CONDITIONS: list[dict[str, Any]] = [
    {"n": 1},
    {"n": {"$gte": 2, "$lt": 9}},
    {"n": {"$exists": True}},
    {"$not": {"tags": "a"}},
    {"$or": [{"n": 1}, {"tags": "b"}]},
    {"tags": {"$contains": "a"}},
    {"n": {"$in": [1, 2]}},
    {"n": {"$in": list(range(20))}},
    {"n": {"$in": list(range(1_200))}},
]

Open = Callable[..., PgVectorStore]


def execute(conninfo: str, statement: str, *names: str, **settings: Any) -> list[Any]:
    with psycopg.connect(conninfo, autocommit=True, **settings) as connection:
        cursor = connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
        return cursor.fetchall() if cursor.description else []


def use_everything(open_: Open) -> None:
    """Run every operation of a store."""
    with Index(open_(table="docs", keywords=True), Hashing()) as index:
        store = index.store
        assert isinstance(store, PgVectorStore)
        assert index.ingest(RECORDS).written == 1_100  # and builds the indexes
        changed = [replace(record, text=f"{record.text} changed") for record in RECORDS[:5]]
        described = [replace(record, metadata={"n": -1}) for record in RECORDS[5:9]]
        assert index.ingest([*changed, *described, Record("new", "new")]).written == 10
        assert index.ingest([replace(changed[0], text="one")]).written == 1
        for where in [None, *CONDITIONS]:
            assert index.search("text", k=3, where=where) is not None
            assert index.search("text 7", k=3, where=where, mode="hybrid") is not None
            list(index.read(where=where))
        assert index.ingest(RECORDS[:1_050], prune=True).deleted == 51
        assert index.verify().sound
        assert index.delete(["r1"]) == 1
        assert (index.count(), len(list(index.read(["r2"])))) == (1_049, 1)
        store.create_langchain_view("view", as_owner=True)  # which Postgres has before 15 too
        with psycopg.connect(open_.conninfo) as connection:  # type: ignore[attr-defined]
            connection.execute("SELECT")
            opened = store.open_on(connection, Hashing().space, create=True)
            known = opened.known(["r3"])
            chunk = Chunk.of(RECORDS[3], 0, 0, "again")
            opened.write_on(connection, Write({"r3": 1}, [chunk], np.ones((1, 16), np.float32), [], known))
            opened.delete_on(connection, ["r3"])
    with Index(open_(table="wordless"), Hashing()) as index:
        index.ingest(RECORDS)
        index.add_keywords()  # and builds the index
        index.ingest([replace(RECORDS[0], text="changed")])
        assert index.search("changed", k=1, mode="keyword")[0].record_id == "r0"
        assert index.verify().sound
    for dimensions, precision in ((5_376, "float16"), (8, "float32")):
        with open_(table=precision, precision=precision) as store:
            opened = store.open(EmbeddingSpace("m", None, "w", "t", dimensions, "last", "l2", "{text}"), create=True)
            vectors = np.eye(3, dimensions, dtype=np.float32)
            chunks = [Chunk.of(record, 0, 0, record.text) for record in RECORDS[:3]]
            opened.write(
                Write({c.record_id: 1 for c in chunks}, chunks, vectors, [], {c.record_id: {} for c in chunks})
            )
            for statement in opened._opened.table.indexes().values():  # for which there are too few rows
                store._reach().run(partial(psycopg.Connection.execute, query=statement, params=[]))
            assert len(opened.search(Search(vectors[:1], 2, with_vectors=True))[0]) == 2


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record every statement that psycopg executes."""
    seen: list[str] = []
    for name in ("execute", "copy"):
        original: Callable[..., Any] = getattr(psycopg.Cursor, name)

        def run(self: Any, query: Any, *args: Any, original: Any = original, **options: Any) -> Any:
            seen.append(query.as_string(self) if isinstance(query, sql.Composable) else str(query))
            return original(self, query, *args, **options)

        monkeypatch.setattr(psycopg.Cursor, name, run)
    return seen


def opener(place: Any, conninfo: str) -> Open:
    def open_(**options: Any) -> PgVectorStore:
        return PgVectorStore(place, **options)

    open_.conninfo = conninfo  # type: ignore[attr-defined]
    return open_


@pytest.fixture
def other_database(postgres: str) -> Iterator[str]:
    """Return a second database."""
    name = f"planted_{os.getpid()}"
    execute(postgres, "CREATE DATABASE {}", name)
    yield make_conninfo(postgres, dbname=name)
    execute(postgres, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.mark.slow  # continuous integration runs it on the oldest PostgreSQL
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize(
    ("schema", "extension", "path"),
    [
        ("public", "public", '"$user", public'),  # as a database comes; all may create in public before 15
        ("hostile", "extensions", "hostile, pg_catalog"),  # the worst; the extension is not on the path
    ],
)
def test_planted_objects_are_never_used(
    database: str, other_database: str, statements: list[str], schema: str, extension: str, path: str, pool: bool
) -> None:
    """Planted functions, operators, types and tables with matching names are never used."""
    use_everything(opener(database, database))
    names = Names(statements)
    assert {
        "set_config",
        "jsonb_array_elements_text",
        "unnest",
        "count",
        "binary_quantize",
        "string_agg",
        "array_send",
        "sparsevec_send",
        "ln",
    } <= names.functions
    assert {"=", "<=>", "<#>", "&&", "@>", ">"} <= names.operators
    assert {"jsonb", "halfvec", "sparsevec", "text"} <= names.types
    with psycopg.connect(other_database, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}; CREATE SCHEMA IF NOT EXISTS {extension}")
        connection.execute(f"CREATE EXTENSION vector SCHEMA {extension}")
        garden = Garden(connection, schema, extension)
        garden.plant(names)
        assert {"operator =", "set_config", "unnest", "count", "table pg_class", "type jsonb"} <= set(garden.waiting())
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET search_path = {path}")
    if pool:
        with ConnectionPool(other_database, min_size=1, max_size=2, open=True) as theirs:
            use_everything(opener(theirs, other_database))
    else:
        use_everything(opener(other_database, other_database))
    with psycopg.connect(other_database, autocommit=True) as connection:
        assert Garden(connection, schema, extension).sprung() == []


@pytest.fixture
def reader(database: str) -> Iterator[str]:
    """Return a connection string of a role that may only log in."""
    name = f"reader_{os.getpid()}"
    password = conninfo_to_dict(database).get("password")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
        )
    yield make_conninfo(database, user=name)
    execute(database, "DROP OWNED BY {}", name)
    execute(database, "DROP ROLE {}", name)


def test_the_extension_off_the_path(database: str, reader: str) -> None:
    """Readers and writers work if the extension is in another schema, as on Supabase."""
    execute(database, "CREATE SCHEMA {}", 'my "ext" %s')
    execute(database, "CREATE EXTENSION vector SCHEMA {}", 'my "ext" %s')
    with Index(PgVectorStore(database, table="docs"), Hashing()) as index:
        assert index.ingest(RECORDS).written == 1_100
        assert index.ingest([replace(RECORDS[0], text="changed")]).written == 1
        assert index.search("changed", k=1)[0].text == "changed"
    execute(database, "GRANT USAGE ON SCHEMA {} TO PUBLIC", 'my "ext" %s')
    execute(database, "GRANT SELECT ON {} TO {}", "docs", str(conninfo_to_dict(reader)["user"]))
    with Index(PgVectorStore(reader, table="docs"), Hashing()) as index:
        assert index.search("changed", k=1, where={"n": 0})[0].text == "changed"
        assert index.verify().sound


def test_an_extension_that_moves(database: str) -> None:
    """Moving the extension under an open store is handled."""
    with Index(PgVectorStore(database, table="docs"), Hashing()) as index:
        index.ingest(RECORDS[:3])
        execute(database, "CREATE SCHEMA extensions")
        execute(database, "ALTER EXTENSION vector SET SCHEMA extensions")
        assert index.search("text number 1", k=1)[0].record_id == "r1"
        assert index.ingest([replace(RECORDS[0], text="changed")]).written == 1


def test_a_callers_transaction_keeps_its_path(database: str) -> None:
    """The session's search_path is restored after each operation, also after a failure."""
    with Index(PgVectorStore(database, table="docs"), Hashing()) as index:
        index.ingest(RECORDS[:3])
        store = index.store
        assert isinstance(store, PgVectorStore)
        execute(database, "ALTER TABLE docs ADD CHECK (text <> 'bad')")

        def write(text: str, known: dict[str, dict[int, bytes]]) -> Write:
            return Write({"r0": 1}, [Chunk.of(RECORDS[0], 0, 0, text)], np.ones((1, 16), np.float32), [], known)

        with psycopg.connect(database, options="-c search_path=theirs,public") as connection:
            new: dict[str, dict[int, bytes]] = {"r0": {}}
            opened = store.open(Hashing().space)
            for known in (opened.known(["r0"]), new):  # first outside of a transaction, then in one
                opened = store.open_on(connection, Hashing().space, create=True)
                opened.write_on(connection, write("changed", known))
                assert opened.delete_on(connection, ["r0"]) == 1
                assert connection.execute("SHOW search_path").fetchone() == ("theirs,public",)
            with pytest.raises(psycopg.errors.CheckViolation):
                opened.write_on(connection, write("bad", new))
            assert connection.execute("SHOW search_path").fetchone() == ("theirs,public",)


def restrict(database: str, role: str) -> None:
    """Let a role use the table, but only see and write its tenant's rows."""
    execute(database, "GRANT SELECT, INSERT, UPDATE, DELETE ON docs TO {}", role)
    execute(database, "ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    execute(database, "CREATE POLICY own ON docs USING (metadata @> '{{\"tenant\": 1}}')")


TENANTS = [Record(f"r{number}", f"text {number}", {"tenant": number % 2}) for number in range(10)]


def test_a_view_for_langchain_respects_row_security(database: str, reader: str) -> None:
    """Row-level security holds in the view; before Postgres 15 the view must be requested explicitly."""
    role = str(conninfo_to_dict(reader)["user"])
    with Index(PgVectorStore(database, table="docs"), Hashing()) as index:
        index.ingest(TENANTS)
        restrict(database, role)
        store = index.store
        assert isinstance(store, PgVectorStore)
        [(version,)] = execute(database, "SELECT current_setting('server_version_num')::int")
        if version < 150_000:
            with pytest.raises(StoreUnsuitable, match="before Postgres 15 a view shows.*pass as_owner=True"):
                store.create_langchain_view("view")
            assert execute(database, "SELECT to_regclass('view')") == [(None,)]
        else:
            store.create_langchain_view("view")
            execute(database, "GRANT SELECT ON view TO {}", role)
            assert (
                execute(reader, "SELECT count(*) FROM view") == execute(reader, "SELECT count(*) FROM docs") == [(5,)]
            )
        store.create_langchain_view("all of it", as_owner=True)
        execute(database, "GRANT SELECT ON {} TO {}", "all of it", role)
        assert execute(reader, "SELECT count(*) FROM {}", "all of it") == [(10,)]


def test_a_view_for_langchain_is_read_only(database: str) -> None:
    """Not even its owner can write to it, and its searches use the index."""
    with Index(PgVectorStore(database, table="docs"), Hashing()) as index:
        index.ingest(RECORDS)
        store = index.store
        assert isinstance(store, PgVectorStore)
        store.create_langchain_view("view", as_owner=True)
        for statement in ("DELETE FROM view", "UPDATE view SET content = ''"):
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="cannot (delete from|update) view"):
                execute(database, statement)
        nearest = "EXPLAIN SELECT content FROM view ORDER BY embedding <=> %s::halfvec(16) LIMIT 3"
        with psycopg.connect(database) as connection:
            connection.execute("SET enable_seqscan = off")
            plan = connection.execute(nearest, [str([1.0] * 16)]).fetchall()
        assert any("Index Scan using docs_embedding_idx" in line for (line,) in plan)


def test_writers_under_row_level_security(database: str, reader: str) -> None:
    """Such writers insert without COPY, and rows that violate a policy are refused."""
    with Index(PgVectorStore(database, table="docs"), Hashing()) as index:
        index.ingest(TENANTS)
    restrict(database, str(conninfo_to_dict(reader)["user"]))
    own = [Record(f"new{number}", "a new text", {"tenant": 1}) for number in range(5)]
    with Index(PgVectorStore(reader, table="docs"), Hashing()) as index:
        assert index.ingest(own).written == 5
        assert index.ingest([replace(own[0], text="changed")]).written == 1
        assert index.count() == 10
        with pytest.raises(StoreUnsuitable, match="violates row-level security"):
            index.ingest([Record("other", "text", {"tenant": 0})])


def test_no_temporary_table(database: str, reader: str) -> None:
    """Writers need no TEMPORARY privilege, and catalogs do not grow."""
    role = str(conninfo_to_dict(reader)["user"])
    with Index(PgVectorStore(database, table="docs"), Hashing()) as index:
        index.ingest(RECORDS[:10])
    execute(database, "REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC", str(conninfo_to_dict(database)["dbname"]))
    execute(database, "GRANT SELECT, INSERT, UPDATE, DELETE ON docs TO {}", role)
    made = "SELECT max(oid::bigint) FROM pg_class"
    before = execute(database, made)
    with Index(PgVectorStore(reader, table="docs"), Hashing()) as index:
        for version in range(5):
            changed = [replace(record, text=f"version {version}") for record in RECORDS[:10]]
            assert index.ingest(changed).written == 10
    assert execute(database, made) == before


def test_advisory_locks_do_not_block(database: str, reader: str) -> None:
    """An advisory lock of an unprivileged role blocks no one."""
    with psycopg.connect(reader, autocommit=True) as connection, ThreadPoolExecutor(1) as pool:
        connection.execute("SELECT pg_advisory_lock(hashtextextended('public.docs', 0))")
        with Index(PgVectorStore(database, table="docs"), Hashing()) as index:
            assert pool.submit(index.ingest, RECORDS).result(60).written == 1_100
            assert execute(database, "SELECT count(*) FROM pg_indexes WHERE tablename = 'docs'") == [(3,)]


@pytest.mark.parametrize(
    "place",
    [
        "host=h user=u password=SECRET",
        "host=h user=u sslpassword=SECRET sslkey=/SECRET",
        "host=h user=u options='-c my.password=SECRET'",
        "postgresql://u:SECRET@h/db?passfile=/SECRET",
    ],
)
def test_no_secret_is_shown(place: str) -> None:
    """Only the address in a connection string is shown."""
    with PgVectorStore(place) as store:
        assert "SECRET" not in repr(store)
        assert "user=u" in repr(store)
        assert "host=h" in repr(store)


def test_a_password_that_libpq_takes_for_a_port() -> None:
    """libpq's error, which would quote the password, is not shown."""
    with pytest.raises(SettingError, match="the port .* is not a number") as caught:
        PgVectorStore("postgresql://user:SECRET/7@host/db")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("state", ["P0001", "23514"])
def test_a_trigger_that_quotes_a_row(database: str, state: str) -> None:
    """The message of an error raised by a function is not repeated, because it may quote a text."""
    with Index(PgVectorStore(database, table="docs"), Hashing()) as index:
        index.ingest([])
        execute(
            database,
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"RAISE EXCEPTION 'row %', NEW.text USING ERRCODE = '{state}'; END $$",
        )
        execute(database, "CREATE TRIGGER refuse BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION refuse()")
        with pytest.raises(StoreError, match=rf"refused \({state}\): .* in a function or trigger") as refused:
            index.ingest([Record("a", "a secret text")])
    assert "secret" not in str(refused.value)


def test_the_application_name(database: str) -> None:
    """Connections have an application name, unless the user sets another."""
    for place, name in (
        (database, "harrier-kit"),
        (make_conninfo(database, application_name="billing"), "billing"),
    ):
        with PgVectorStore(place, table="docs") as store:
            store.open(Hashing().space, create=True)
            assert execute(
                database,
                "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() ORDER BY backend_start",
            )[-1:] == [(name,)]


def test_a_character_that_the_encoding_lacks(postgres: str) -> None:
    """Only the record with such a character in its id or text is rejected."""
    name = f"latin_{os.getpid()}"
    execute(postgres, "CREATE DATABASE {} ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'", name)
    records = [Record(f"r{number}", f"été {number}", {}) for number in range(20)]
    records[3:5] = [Record("text", "漢字"), Record("id 漢字", "été")]
    with Index(PgVectorStore(make_conninfo(postgres, dbname=name), table="docs"), Hashing()) as index:
        for _ in range(2):
            report = index.ingest([*records, Record("metadata", "été", {"k": "漢"})])
            reason = "has a character that the database's encoding, LATIN1, does not have"
            assert sorted(report.rejected) == [("id 漢字", reason), ("metadata", reason), ("text", reason)]
            assert index.count() == 18
        assert index.ingest([replace(records[0], metadata={"k": "漢"})]).rejected == [("r0", reason)]
    execute(postgres, "DROP DATABASE {} WITH (FORCE)", name)


def test_an_index_error_quotes_no_value(database: str) -> None:
    """A value that an index expression cannot convert is not quoted."""
    with Index(PgVectorStore(database, table="docs"), Hashing()) as index:
        index.ingest([Record("a", "text", {"year": "2020"})])
        execute(database, "CREATE INDEX ON docs (((metadata->>'year')::int))")
        with pytest.raises(StoreError, match="invalid input syntax for type integer$"):
            index.ingest([Record("b", "text", {"year": "my secret"})])
