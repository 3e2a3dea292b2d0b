"""URLs of tables: the table and schema do not reach libpq, and passwords are never shown."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from harrier_pgvector.naming import without_password
from harrier_pgvector.urls import Target
from psycopg.conninfo import conninfo_to_dict

from harrier_core import Encoder, Hnsw, Index, Record, SettingError, StoreMissing, open_store
from harrier_core.layout import StoreLayout


def test_a_server() -> None:
    url = "postgresql://me@host/db?sslmode=require&table=a%20b"
    assert Target.of(url) == Target("postgresql://me@host/db?sslmode=require", "a b")
    assert Target.of("postgres:///db?table=t&schema=s") == Target("postgres:///db", "t", "s")
    assert Target.of("postgresql://host/db") == Target("postgresql://host/db", None, "public")


def test_plus_signs() -> None:
    """A plus is literal in connection settings, and a blank in the name of a table."""
    spaced = "postgresql://host/db?options=-c%20statement_timeout%3D30s&application_name=a%2Bb+c&table=a+b"
    target = Target.of(spaced)
    assert target.table == "a b"
    known = conninfo_to_dict(str(target.database))
    assert (known["options"], known["application_name"]) == ("-c statement_timeout=30s", "a+b+c")


def test_the_option_keywords() -> None:
    """It is an option of the URL, and libpq does not get it."""
    url = "postgresql://host/db?keywords=true&table=t"
    worded = StoreLayout(keywords=True)
    assert Target.of(url) == Target("postgresql://host/db", "t", layout=worded)
    assert Target.of("pgvector:d?table=t&keywords=true") == Target(Path("d"), "t", layout=worded)
    assert [Target.of(f"pgvector:d{each}").layout.keywords for each in ("", "?keywords=false")] == [None, False]
    for wrong in ("pgvector:d?keywords=yes", "postgresql://host/db?keywords="):
        with pytest.raises(SettingError, match="keywords in a URL must be true or false"):
            Target.of(wrong)


def test_options_of_a_new_table() -> None:
    """Server and folder URLs take the same options."""
    options = "precision=float32&m=32&ef_construction=128&indexes=year:integer,a%20b:keyword"
    made = StoreLayout("float32", Hnsw(32, 128), {"year": "integer", "a b": "keyword"})
    for url in (f"postgresql://host/db?sslmode=require&{options}", f"pgvector:d?{options}"):
        target = Target.of(url)
        assert target.layout == made
        assert str(target.database) in ("postgresql://host/db?sslmode=require", "d")
        assert "precision='float32', " in repr(target.store())
    assert Target.of("pgvector:d?indexes=").layout.indexes == {}  # none, whatever a copied index has
    for wrong in ("indexes=year", "indexes=year:integer,", "m=none", "m=0", "m=-1"):
        with pytest.raises(SettingError, match="must be"):
            Target.of(f"pgvector:d?{wrong}")
    for wrong in ("precision=int8", "m=1000", "indexes=year:date"):
        with pytest.raises(SettingError, match="'float16' or 'float32'|m of|one of keyword"):
            Target.of(f"pgvector:d?{wrong}").store()


def test_a_folder() -> None:
    assert Target.of("pgvector:a/b?table=t&schema=s") == Target(Path("a/b"), "t", "s")
    assert Target.of("pgvector:~/pg") == Target(Path.home() / "pg")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:hunter2@host:5/db?password=hunter2", "postgresql://me@host:5/db"),
        ("postgresql://me@host/db?table=t", "postgresql://me@host/db (table 't')"),
        ("postgresql:///db?table=t&schema=s", "postgresql:///db (table 't' in schema 's')"),
        ("pgvector:a/b?table=t", "pgvector:a/b?table=t"),
        ("pgvector:a/b?schema=s&table=t", "pgvector:a/b?table=t&schema=s"),
        ("pgvector:a/b", "pgvector:a/b"),
    ],
)
def test_as_a_url(url: str, said: str) -> None:
    assert str(Target.of(url)) == said


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (PgVectorStore("postgresql://me:hunter2@host:5/db"), "postgresql://me@host:5/db (table 'documents')"),
        (PgVectorStore("postgres://host/db", table="t", schema="s"), "postgres://host/db (table 't' in schema 's')"),
        (PgVectorStore("host=h password=hunter2 user=me", table="t"), "'user=me host=h' (table 't')"),
        (PgVectorStore("postgresql://me:hun[ter2@host/db"), "a Postgres server (table 'documents')"),
        (PgVectorStore.embedded("/a/b"), "pgvector:/a/b?table=documents"),
        (PgVectorStore.embedded("/a/b", table="t", schema="s"), "pgvector:/a/b?table=t&schema=s"),
    ],
)
def test_the_url_of_a_store(store: PgVectorStore, said: str) -> None:
    assert str(store) == said


def test_an_address_without_a_host() -> None:
    """Its slashes are kept."""
    assert without_password("postgresql:///db?host=/tmp") == "postgresql:///db?host=%2Ftmp"


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "postgresql:db", "postgresql//me:hunter2@host/db", "postgresql://me:hunter2@[host/db"),
        *("postgresql://me:hun#ter2@host/db", "postgresql://me:hun?ter2@host/db", "postgresql://me:hun%zzter2@host/db"),
        *("pgvector:", "pgvector:?table=x", "pgvector:d?tables=x", "pgvector://d"),
        "postgresql://me:hun/ter2@host/db",
    ],
)
def test_invalid_urls(url: str) -> None:
    """The error does not quote the URL, which may contain a password."""
    with pytest.raises(SettingError) as error:
        Target.of(url)
    assert "hun" not in str(error.value)
    assert "ter2" not in str(error.value)


def test_the_core_finds_it(postgres: str, table: str, tmp_path: Path) -> None:
    """The scheme is found through entry points, and nothing is started or created."""
    for url in (f"{postgres}&{urlencode({'table': table})}", f"pgvector:{tmp_path}/pg?table=t"):
        with closing(open_store(url)) as store:
            assert store.space() is None
            with pytest.raises(StoreMissing, match="ingest something into it first"):
                store.describe()
    assert list(tmp_path.iterdir()) == []


def test_a_running_embedded_server(tmp_path: Path, encoder: Encoder) -> None:
    """It provides a connection string, and a folder that is not an index is unchanged."""
    target = Target.of(f"pgvector:{tmp_path}/pg?table=t")
    with pytest.raises(StoreMissing), target.conninfo():
        pass
    assert list(tmp_path.iterdir()) == []
    with Index(target.store(), encoder) as index:
        index.ingest([Record("a", "bread rises")])
    with target.conninfo() as conninfo, psycopg.connect(conninfo) as connection:
        assert connection.execute("SELECT record_id FROM t").fetchall() == [("a",)]
    with pytest.raises(psycopg.OperationalError), psycopg.connect(conninfo):
        pass
