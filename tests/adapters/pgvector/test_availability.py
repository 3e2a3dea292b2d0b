"""Servers that restart, stall or become read-only; concurrent writers; indexes that cannot be built."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from ingesting import Hashing
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool

from harrier_core import Index, Record, StoreUnavailable, StoreUnsuitable, StoreWarning
from harrier_core.records import Chunk
from harrier_core.store import Write

RECORDS = [Record(f"r{number}", f"text number {number}", {"n": number}) for number in range(1_100)]
WITHIN = 30.0  # seconds: far less than the minute for which operations are retried, and far more than needed


def execute(conninfo: str, statement: str, *names: str, **settings: Any) -> list[Any]:
    with psycopg.connect(conninfo, autocommit=True, **settings) as connection:
        cursor = connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
        return cursor.fetchall() if cursor.description else []


def backends(conninfo: str) -> list[int]:
    """Return the process ids of the other sessions in the database."""
    query = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    )
    return [pid for (pid,) in execute(conninfo, query)]


def at_once(index: Index, number: int) -> None:
    """Open the given number of connections."""
    barrier = threading.Barrier(number)

    def work(_: psycopg.Connection[Any]) -> None:
        barrier.wait(30)

    store = index.store
    assert isinstance(store, PgVectorStore)
    with ThreadPoolExecutor(number) as pool:
        list(pool.map(store._reach().run, [work] * number))


@pytest.fixture
def index(database: str) -> Iterator[Index]:
    with Index(PgVectorStore(database, table="docs"), Hashing()) as index:
        index.ingest(RECORDS[:20])
        yield index


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("theirs", [False, True])
def test_all_connections_are_dead(database: str, theirs: bool) -> None:
    """After a restart or failover, the first search works, however many connections are in the pool."""
    with ConnectionPool(database, min_size=0, max_size=10, open=theirs) as pool:
        place = pool if theirs else database
        with Index(PgVectorStore(place, table="docs"), Hashing()) as quiet:
            at_once(quiet, 10)
            assert len(backends(database)) >= 10
            execute(
                database,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            begin = time.monotonic()
            assert len(quiet.search("text", k=3)) == 3
            assert time.monotonic() - begin < WITHIN


def test_a_server_that_accepts_but_never_answers() -> None:
    """The operation gives up after about `retry_for` seconds."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        place = f"postgresql://user@127.0.0.1:{mute.getsockname()[1]}/db"
        begin = time.monotonic()
        with PgVectorStore(place, retry_for=2) as store, pytest.raises(StoreUnavailable, match="timeout expired"):
            store.open(Hashing().space, create=True)
        assert time.monotonic() - begin < WITHIN


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def children(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [pid, *map(int, found.stdout.split())]


def test_a_frozen_session(server: tuple[str, Path]) -> None:
    """If one session is frozen, another session is opened."""
    conninfo, _ = server
    with Index(PgVectorStore(conninfo, table="docs", retry_for=3), Hashing()) as index:
        index.ingest(RECORDS[:20])
        with frozen(backends(conninfo)), ThreadPoolExecutor(1) as pool:
            assert len(pool.submit(index.search, "text", k=3).result(WITHIN)) == 3


@pytest.mark.slow
def test_a_frozen_server(server: tuple[str, Path]) -> None:
    """A frozen server is given up on; after it resumes, everything works as before."""
    conninfo, folder = server
    postmaster = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    with Index(PgVectorStore(conninfo, table="docs", retry_for=3), Hashing()) as index:
        index.ingest(RECORDS[:20])
        with frozen(children(postmaster)), ThreadPoolExecutor(1) as pool:
            searching = pool.submit(index.search, "text", k=3)
            with pytest.raises(StoreUnavailable, match="did not answer|timeout expired"):
                searching.result(WITHIN)
        assert len(index.search("text", k=3)) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("index")
def test_a_statement_that_takes_long(database: str) -> None:
    """A statement that is running on the server may take longer than `retry_for`."""
    with PgVectorStore(database, table="docs", retry_for=1) as store:
        opened = store.open(Hashing().space)
        sleep = "SELECT pg_sleep(6), 7"
        assert store._reach().run(lambda connection: connection.execute(sleep).fetchone()) == ("", 7)
        with psycopg.connect(database) as connection, ThreadPoolExecutor(1) as pool:
            connection.execute("LOCK TABLE docs")
            counting = pool.submit(opened.count)
            time.sleep(6)  # longer than any timeout for a silent connection
            assert not counting.done()
            connection.commit()
            assert counting.result(60) == 20


def read_only(database: str, value: str) -> None:
    """Make all sessions in the database read-only, as during a switchover."""
    with psycopg.connect(database, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = " + value).format(name))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.slow
def test_read_only_for_a_while(database: str, index: Index) -> None:
    """During a switchover, writes wait for its end, and searches work."""
    read_only(database, "on")
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(index.ingest, [replace(RECORDS[0], text="changed")])
        time.sleep(3)
        assert not writing.done()
        assert len(index.search("text", k=3)) == 3
        read_only(database, "off")
        assert writing.result(60).written == 1


def test_permanently_read_only(database: str, index: Index) -> None:
    """A server that was never writable is not waited for; one that was is, and then raises the same error."""
    read_only(database, "on")
    begin = time.monotonic()
    with Index(PgVectorStore(database, table="docs"), Hashing()) as reading:
        assert len(reading.search("text", k=3)) == 3
        with pytest.raises(StoreUnsuitable, match="is read-only.*connect to the primary"):
            reading.ingest([Record("new", "new")])
    assert time.monotonic() - begin < WITHIN
    store = index.store
    assert isinstance(store, PgVectorStore)
    store._reach()._retry_for = 2.0
    with pytest.raises(StoreUnsuitable, match="is read-only"):
        index.ingest([Record("new", "new")])
    read_only(database, "off")


# -- writers at once


@pytest.mark.parametrize("level", ["database", "connection string"])
def test_two_writers_where_repeatable_read_is_the_default(database: str, level: str) -> None:
    """The waiting writer sees the chunks that the other added, and leaves the record unchanged."""
    place = database
    if level == "database":
        name = str(conninfo_to_dict(database)["dbname"])
        execute(database, "ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'", name)
    else:
        place = make_conninfo(database, options="-c default_transaction_isolation=repeatable\\ read")
    with PgVectorStore(place, table="docs") as store, ThreadPoolExecutor(1) as pool:
        opened = store.open(Hashing().space, create=True)

        def write(text: str, size: int, numbers: range) -> Write:
            chunks = [Chunk.of(Record("r", ""), number, 0, f"{text} {number}") for number in numbers]
            return Write({"r": size}, chunks, np.ones((len(chunks), 16), np.float32), [], opened.known(["r"]))

        opened.write(replace(write("old", 1, range(1)), known={"r": {}}))
        mine, theirs = write("mine", 1, range(1)), write("theirs", 2, range(1, 2))
        with psycopg.connect(database) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            connection.execute("SELECT")
            opened.write_on(connection, theirs)
            # A lock that makes `mine` wait when it locks the rows, which `theirs` has locked.
            connection.execute("SELECT FROM docs FOR UPDATE")
            writing = pool.submit(opened.write, mine)
            while not execute(database, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")[0][0]:
                assert not writing.done()
            connection.commit()
        assert writing.result(60).changed == ["r"]
        assert sorted(stored.chunk.text for stored in opened.read(["r"])) == ["old 0", "theirs 1"]


def test_a_trigger_that_lacks_a_table(database: str, index: Index) -> None:
    """An error about a table that a trigger needs is not reported as a missing index table."""
    execute(
        database,
        "CREATE FUNCTION lost() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM FROM public.gone; RETURN NEW; END'",
    )
    execute(database, "CREATE TRIGGER lost BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION lost()")
    with pytest.raises(StoreUnsuitable, match="an object is missing in the database"):
        index.ingest([Record("new", "new")])


def test_first_ingests_at_once(database: str) -> None:
    """Concurrent first ingests into one or several tables work in a database without the extension."""
    names = ["a", "b", "c", "d", "same", "same", "same"]
    barrier = threading.Barrier(len(names))

    def ingest(name: str) -> int:
        with Index(PgVectorStore(database, table=name), Hashing()) as index:
            barrier.wait(60)
            return index.ingest(RECORDS[:5]).records

    with ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(ingest, names)) == [5] * len(names)
    assert execute(database, "SELECT count(*) FROM same") == [(5,)]


def test_an_old_pgvector(database: str) -> None:
    """The error names the installed and the required version, and nothing is created."""
    execute(database, "CREATE EXTENSION vector")
    execute(database, "UPDATE pg_extension SET extversion = '0.6.2' WHERE extname = 'vector'")
    for precision in ("float16", "float32"):
        with (
            Index(PgVectorStore(database, table="docs", precision=precision), Hashing()) as index,
            pytest.raises(StoreUnsuitable, match=r"needs pgvector 0\.7\.0 or later.*has 0\.6\.2"),
        ):
            index.ingest(RECORDS[:5])
    assert execute(database, "SELECT to_regclass('docs')") == [(None,)]


# -- indexes


def indexes(database: str) -> int:
    """Return the number of indexes besides the primary key."""
    return int(execute(database, "SELECT count(*) - 1 FROM pg_indexes WHERE tablename = 'docs'")[0][0])


@pytest.fixture
def writer(database: str) -> Iterator[str]:
    """Return a connection string of a role that may write to the table but does not own it."""
    with Index(PgVectorStore(database, table="docs"), Hashing()) as index:
        index.ingest(RECORDS[:20])
    name, password = f"writer_{os.getpid()}", conninfo_to_dict(database).get("password")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
        )
    execute(database, "GRANT SELECT, INSERT, UPDATE, DELETE ON docs TO {}", name)
    yield make_conninfo(database, user=name)
    execute(database, "DROP OWNED BY {}", name)
    execute(database, "DROP ROLE {}", name)


def test_a_writer_that_does_not_own_the_table(database: str, writer: str) -> None:
    """Everything is stored and reported; missing indexes are only a warning."""
    with Index(PgVectorStore(writer, table="docs"), Hashing()) as index:
        with pytest.warns(StoreWarning, match=r"indexes of public\.docs were not built.*must be owner of table docs"):
            report = index.ingest(RECORDS)
        assert (report.written, index.count(), indexes(database)) == (1_080, 1_100, 0)
    with Index(PgVectorStore(database, table="docs"), Hashing()) as index:
        index.ingest([])
        assert indexes(database) == 2


@pytest.mark.slow
def test_a_statement_timeout(database: str) -> None:
    """A statement timeout does not abort an index build."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute(
            "CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS "
            "$$BEGIN IF tg_tag = 'CREATE INDEX' THEN PERFORM pg_sleep(2); END IF; END$$"
        )
        connection.execute("CREATE EVENT TRIGGER slow ON ddl_command_start EXECUTE FUNCTION slow()")
    place = make_conninfo(database, options="-c statement_timeout=1500")
    with Index(PgVectorStore(place, table="docs"), Hashing()) as index, warnings.catch_warnings():
        warnings.filterwarnings("error", "the indexes of")
        assert index.ingest(RECORDS).written == 1_100
    assert indexes(database) == 2


def test_a_build_blocked_by_an_open_transaction(database: str, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index build does not wait for an open transaction, because writers would queue behind it."""
    monkeypatch.setattr("harrier_pgvector.building._LOCK_TIMEOUT", "1s")
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE docs SET number = number WHERE record_id = 'r0'")
        with pytest.warns(StoreWarning, match="were not built.*another session is writing to it"):
            assert index.ingest(RECORDS[1:]).records == 1_099
        monkeypatch.setattr("harrier_pgvector.building._LOOKS", 0)  # as if it began to write a moment later
        with pytest.warns(StoreWarning, match="were not built.*lock timeout"):
            index.build_indexes()
    assert indexes(database) == 0
    index.ingest([])
    assert indexes(database) == 2


@pytest.fixture
def small_shared_memory(postgres: str, pytestconfig: pytest.Config) -> Iterator[str]:
    """Start a server with as little shared memory as a container has."""
    [(program,)] = execute(postgres, "SELECT setting FROM pg_config WHERE name = 'BINDIR'")
    own = "mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm"
    if not all(map(shutil.which, (f"{program}/initdb", "unshare", "setpriv"))) or os.geteuid() != 0:
        pytest.skip("needs root, and the server's programs on this machine, to see shared memory run out")
    if subprocess.run(["unshare", "-m", "sh", "-c", own], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    with tempfile.TemporaryDirectory() as folder:
        shutil.chown(folder, "nobody")
        user = f"setpriv --reuid=nobody --clear-groups {program}"
        make = f"{user}/initdb -D {folder}/data -A trust -U postgres --no-sync"
        settings = f"-k {folder} -c listen_addresses= -c dynamic_shared_memory_type=posix"
        control = f"{user}/pg_ctl -D {folder}/data -l {folder}/log -w"
        made = subprocess.run(["sh", "-c", make], check=False, capture_output=True, text=True)
        if made.returncode and pytestconfig.getoption("--postgres"):
            pytest.skip(f"the given server's initdb does not run by itself here: {made.stderr.strip()[-200:]}")
        start = f"{own} && {control} -o '{settings}' start"
        subprocess.run(["unshare", "-m", "sh", "-c", start], check=True, stdout=subprocess.DEVNULL)
        yield f"postgresql://postgres@/postgres?host={folder}"
        subprocess.run(["sh", "-c", f"{control} -m immediate stop"], check=True, stdout=subprocess.DEVNULL)


def test_a_container_with_little_shared_memory(small_shared_memory: str) -> None:
    """The index is built without parallel workers, which would need more shared memory."""
    parallel = "-c min_parallel_table_scan_size=0 -c maintenance_work_mem=512MB"
    place = make_conninfo(small_shared_memory, options=parallel)
    with Index(PgVectorStore(place, table="docs"), Hashing()) as index, warnings.catch_warnings():
        warnings.filterwarnings("error", "the indexes of")
        assert index.ingest(RECORDS).written == 1_100
    assert indexes(small_shared_memory) == 2


def test_memory_for_a_build(database: str) -> None:
    """A build uses the memory that the index needs, limited by the server's shared buffers."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE built (memory text)")
        connection.execute(
            "CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS "
            "$$BEGIN INSERT INTO public.built VALUES (current_setting('maintenance_work_mem')); END$$"
        )
        connection.execute(
            "CREATE EVENT TRIGGER note ON ddl_command_start WHEN tag IN ('CREATE INDEX') EXECUTE FUNCTION note()"
        )
    for own in ("1MB", "300MB"):
        place = make_conninfo(database, options=f"-c maintenance_work_mem={own}")
        with Index(PgVectorStore(place, table="docs"), Hashing()) as index:
            index.ingest(replace(record, text=f"{number} " + "x" * 900) for number, record in enumerate(RECORDS))
        execute(database, "DROP TABLE docs")
    small, _, large, _ = (size for (size,) in execute(database, "SELECT pg_size_bytes(memory) FROM built"))
    assert large == 300 << 20
    assert 1 << 20 < small < 10 << 20
