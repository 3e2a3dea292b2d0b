"""Arguments that newcomers pass to a store: names and objects of other libraries."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from harrier_pgvector import PgVectorStore
from harrier_pgvector.urls import Target
from ingesting import Hashing
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from harrier_core import Hnsw, Index, Record, SettingError, open_store

URL = "postgresql://me:hunter2@host/db"


@pytest.mark.parametrize("name", ["database", "connection", "connection_string", "conninfo"])
def test_names_of_the_database(name: str) -> None:
    """Argument names of LangChain, LlamaIndex and psycopg are accepted."""
    for value in (URL, "host=h user=u"):
        assert str(PgVectorStore(**{name: value})) == str(PgVectorStore(value))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["table", "table_name", "collection_name"])
def test_names_of_the_table(name: str) -> None:
    """Names for the table are accepted on a server and in a folder."""
    named: Any = {name: "docs"}
    assert str(PgVectorStore(URL, **named)) == "postgresql://me@host/db (table 'docs')"
    assert str(PgVectorStore.embedded("/a", **named)) == "pgvector:/a?table=docs"
    assert "schema='s'" in repr(PgVectorStore(URL, schema_name="s", **named))


def test_a_setting_given_twice() -> None:
    """Two names for one setting are refused, because the intended value is unclear."""
    with pytest.raises(SettingError, match="database= and connection= of PgVectorStore are one setting; give one of"):
        PgVectorStore(URL, connection=URL)
    with pytest.raises(SettingError, match="connection= and conninfo= of PgVectorStore are one setting"):
        PgVectorStore(connection=URL, conninfo=URL)
    with pytest.raises(SettingError, match="table= and table_name= of PgVectorStore are one setting"):
        PgVectorStore.embedded("folder", table="a", table_name="b")
    with pytest.raises(SettingError, match="table_name= and collection_name= ") as caught:
        PgVectorStore(URL, table_name="a", collection_name="b")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("host", "pass one connection string, postgresql://user:password@host:5432/database"),
        ("engine", "pass one connection string"),
        ("async_connection_string", "an Index over it has asearch, aingest"),
        ("embedding", "a store has no model; the encoder of an Index defines"),
        ("embed_dim", "the encoder of an Index defines the vectors"),
        ("hnsw_kwargs", r"write hnsw=Hnsw\(m=..., ef_construction=...\)"),
        ("metadata_indexes", "write indexes={'year': 'integer', 'lang': 'keyword'}"),
        ("distance_strategy", "compared by cosine"),
        ("use_halfvec", "write precision='float16'"),
        ("pre_delete_collection", r"call store.drop\(\) first"),
    ],
)
def test_refused_names(name: str, said: str) -> None:
    """The error has the kit's own name for the setting."""
    makes: list[Any] = [partial(PgVectorStore, URL), partial(PgVectorStore.embedded, "folder")]
    for make in makes:
        with pytest.raises(SettingError, match=f"PgVectorStore takes no {name}=; .*{said}"):
            make(**{name: "x"})


def test_unknown_names() -> None:
    """Unknown names raise the usual errors; embedded servers have no connection string."""
    makes: list[Any] = [partial(PgVectorStore, URL), partial(PgVectorStore.embedded, "folder")]
    for make in makes:
        with pytest.raises(TypeError, match="unexpected keyword argument 'tabel'"):
            make(tabel="x")
    with pytest.raises(TypeError, match="unexpected keyword argument 'connection'"):
        PgVectorStore.embedded("folder", connection=URL)  # type: ignore[call-arg]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_urls_of_sqlalchemy(scheme: str, driver: str, postgres: str, table: str) -> None:
    """SQLAlchemy's driver is removed by the store, by a table's URL, and when the core looks for an adapter."""
    url = f"{scheme}+{driver}://me:hunter2@host/db?table=docs"
    assert str(Target.of(url)) == f"{scheme}://me@host/db (table 'docs')"
    assert str(open_store(url)) == f"{scheme}://me@host/db (table 'docs')"
    store = PgVectorStore(postgres.replace("postgresql://", f"{scheme}+{driver}://"), table=table)
    with Index(pickle.loads(pickle.dumps(store)), Hashing()) as index:
        assert index.ingest([Record("a", "a text")]).written == 1


def test_objects_of_other_libraries(postgres: str) -> None:
    """The error says what to pass instead, and shows no password."""
    engine = sqlalchemy.create_engine("sqlite://")
    url = sqlalchemy.make_url("postgresql+psycopg://me:hunter2@host/db")
    refused: list[tuple[Any, str]] = [
        (engine, r"got Engine of sqlalchemy; give the URL that it was created from as a str, .*hide_password=False"),
        (url, "got URL of sqlalchemy; give the URL"),
        (Path("folder"), r"for one in a folder, use PgVectorStore.embedded\(folder\); got PosixPath"),
        (AsyncConnectionPool(postgres, open=False), "or as a psycopg_pool.ConnectionPool; .*; got AsyncConnectionPool"),
        (None, r"must be given as a connection string, .*PgVectorStore.embedded\(folder\)$"),
        (7, "got int"),
    ]
    for given, said in refused:
        with pytest.raises(SettingError, match=said) as caught:
            PgVectorStore(given)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(SettingError, match="must be given as a connection string"):
        PgVectorStore()
    with psycopg.connect(postgres) as connection, pytest.raises(SettingError, match="one connection serves one thread"):
        PgVectorStore(connection)  # type: ignore[arg-type]


def test_repr_of_a_store() -> None:
    """The repr shows non-default settings, and no password."""
    shown = {
        PgVectorStore(URL): "PgVectorStore('user=me dbname=db host=host', table='documents', schema='public')",
        PgVectorStore(
            URL, table="t", precision="float32", retry_for=5.0, hnsw=Hnsw(m=8), indexes={"year": "integer"}
        ): "PgVectorStore('user=me dbname=db host=host', table='t', schema='public', retry_for=5.0, "
        "precision='float32', hnsw=Hnsw(m=8, ef_construction=None), indexes={'year': 'integer'})",
        PgVectorStore.embedded("/a"): "PgVectorStore('/a', table='documents', schema='public')",
        PgVectorStore(ConnectionPool(URL, open=False), table="t"): "PgVectorStore(a pool, table='t', schema='public')",
    }
    for store, said in shown.items():
        assert repr(store) == said


def test_repr_of_an_open_table(postgres: str, table: str) -> None:
    """The repr shows the table, its place and its model, and no password."""
    with PgVectorStore(postgres, table=table) as store:
        said = repr(store.open(Hashing.space, create=True))
    assert said.startswith(f"OpenTable({f'public.{table}'!r} at ")
    assert said.endswith(", hashing)")
    assert "password" not in said


def test_all_settings_are_pickled() -> None:
    """Settings survive pickling, including those passed under other names."""
    store = PgVectorStore(
        connection=URL, table_name="t", hnsw=Hnsw(8, 64), indexes={"y": "integer"}, hybrid_search=True
    )
    again = pickle.loads(pickle.dumps(store))
    assert (repr(again), again.__getstate__()) == (repr(store), store.__getstate__())
    assert again.__getstate__() == {
        "where": URL,
        "table": "t",
        "schema": "public",
        "precision": None,
        "retry_for": 60.0,
        "hnsw": Hnsw(8, 64),
        "indexes": {"y": "integer"},
        "keywords": True,
    }
