"""The live sync with a standby, and with an application that uses two-phase commit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from harrier_pgvector.connections import Connections
from harrier_pgvector.embedded import start
from harrier_pgvector.sync import SyncWorker
from harrier_pgvector.sync.batch import Lease
from harrier_pgvector.sync.declaration import Declaration, declarations
from harrier_pgvector.sync.reading import Rows
from harrier_pgvector.sync.session import run
from ingesting import Hashing
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from syncs import opened

from harrier_core import StoreUnsuitable


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Start a primary that allows prepared transactions, and a standby that has not seen its last changes."""
    first, second = (tmp_path_factory.mktemp(name) for name in ("primary", "standby"))
    with ExitStack() as stack:
        conninfo, stop = start(first)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
            connection.execute("INSERT INTO articles VALUES (1, 'old')")
            connection.execute("ALTER SYSTEM SET max_prepared_transactions = 2")
        sync = opened(conninfo, table="chunks")
        sync.create("articles", Hashing().space, text="body")
        sync.close()
        SyncWorker(conninfo, Hashing()).drain()
        stop()
        shutil.copytree(first, second, dirs_exist_ok=True)
        (second / "data" / "standby.signal").touch()
        found = []
        for folder in (first, second):
            conninfo, stop = start(folder)
            stack.callback(stop)
            found.append(conninfo)
        with psycopg.connect(found[0], autocommit=True) as connection:
            connection.execute("UPDATE articles SET body = 'new'")
            connection.execute("INSERT INTO articles VALUES (2, 'more')")
        yield found[0], found[1]


def declaration_at(conninfo: str) -> Declaration:
    connections = Connections(conninfo, 10.0)
    [found] = run(connections, lambda connection: declarations(connection, ()))
    connections.close()
    return found


def rows_at(conninfo: str, declaration: Declaration) -> Rows:
    leases = [Lease(number, (number,), 1, 1, None) for number in ("1", "2")]
    return Rows(Connections(conninfo, 1.0), declaration, leases)


def test_rows_are_not_read(servers: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """There, one row has an earlier text, and another seems to be deleted."""
    monkeypatch.setattr("harrier_pgvector.connections._STANDBY_WAIT", 0.5)
    primary, standby = servers
    declaration = declaration_at(primary)
    assert [record.text for record in rows_at(primary, declaration)] == ["new", "more"]
    rows = rows_at(standby, declaration)
    with pytest.raises(StoreUnsuitable, match="the server is a standby.*connect to the primary"):
        list(rows)
    assert (rows.without_text, rows.unreadable) == (set(), {})


def test_a_worker_finds_the_primary(servers: tuple[str, str]) -> None:
    """Without further settings, although the standby comes first."""
    primary, standby = servers
    hosts = ",".join(str(conninfo_to_dict(each)["host"]) for each in (standby, primary))
    SyncWorker(make_conninfo(primary, host=hosts), Hashing(), poll=0.2).drain()
    with psycopg.connect(primary) as connection:
        found = connection.execute("SELECT record_id, text FROM chunks ORDER BY 1").fetchall()
    assert found == [("1", "new"), ("2", "more")]


@pytest.mark.parametrize("options", [{}, {"wake": "notify"}])
def test_two_phase_commit(servers: tuple[str, str], options: dict[str, Any]) -> None:
    """By default it keeps working: Postgres refuses to prepare a transaction that has announced something."""
    primary, _ = servers
    sync = opened(primary, table="order_chunks")
    with psycopg.connect(primary, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, body text)")
        try:
            said = sync.create("orders", Hashing().space, text="body", **options)
            assert said.startswith("-- max_prepared_transactions is 2") is not bool(options)
            connection.execute("BEGIN")
            connection.execute("INSERT INTO orders VALUES (1, 'an order')")
            if options:
                with pytest.raises(psycopg.errors.FeatureNotSupported, match="NOTIFY"):
                    connection.execute("PREPARE TRANSACTION 'order'")
                return
            connection.execute("PREPARE TRANSACTION 'order'")
            connection.execute("COMMIT PREPARED 'order'")
            SyncWorker(primary, Hashing(), poll=0.2).drain()
            assert connection.execute("SELECT text FROM order_chunks").fetchall() == [("an order",)]
        finally:
            connection.rollback()
            sync.drop(chunks=True)
            connection.execute("DROP TABLE orders")
