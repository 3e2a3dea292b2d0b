"""After a `kill -9` of an ingest, a second run ends like a clean run, and encodes nothing twice."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ingesting import STEPS
from killing import Clean, Place, kill_server
from psycopg import sql
from psycopg.conninfo import make_conninfo


class Tables(Place):
    """Tables of one Postgres; the address is its connection string."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(conninfo, of_processes=make_conninfo(conninfo, application_name="ingesting"))

    def copy_before(self, name: str) -> None:
        """Copy the table with its indexes."""
        with psycopg.connect(self.address, autocommit=True) as connection:
            names = {"table": sql.Identifier(name), "before": sql.Identifier("before")}
            for statement in (
                "DROP TABLE IF EXISTS {table}",
                "CREATE TABLE {table} (LIKE {before} INCLUDING ALL)",
                "INSERT INTO {table} SELECT * FROM {before}",
            ):
                connection.execute(sql.SQL(statement).format(**names))

    def content(self, name: str) -> list[Any]:
        """Return the content row by row, including words."""
        with psycopg.connect(self.address) as connection:
            columns = "record_id, number, text, metadata, start_at, end_at, hash, embedding::text, terms, lex::text"
            query = sql.SQL(f"SELECT {columns} FROM {{}} ORDER BY record_id, number").format(sql.Identifier(name))
            return connection.execute(query).fetchall()

    def killed_is_over(self) -> None:
        """Wait until the server has noticed that its client is gone, because it may still commit."""
        with psycopg.connect(self.address, autocommit=True) as connection:
            while connection.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = 'ingesting'").fetchone():
                pass


@pytest.fixture(scope="module")
def tables(postgres: str) -> Tables:
    tables = Tables(postgres)
    tables.make_before()
    return tables


@pytest.fixture(scope="module")
def clean(tables: Tables) -> Clean:
    return tables.run_cleanly()


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step(tables: Tables, clean: Clean, step: str, pytestconfig: pytest.Config) -> None:
    """Each step is killed at a later occurrence, and at the first in the long form."""
    once = step.endswith(("_copy", "build_indexes", "delete"))
    later = (1, 3) if pytestconfig.getoption("--kills") >= 50 else (3,)
    for occurrence in (1,) if once else later:
        tables.copy_before("killed")
        assert tables.ingesting("killed", step, occurrence).wait(60) == -signal.SIGKILL
        tables.converges("killed", clean)


def test_killed_at_random(tables: Tables, clean: Clean, pytestconfig: pytest.Config) -> None:
    """Some kills must leave something to do."""
    kills = pytestconfig.getoption("--kills")
    chance = random.Random(0)
    hit = 0
    for _ in range(kills):
        tables.copy_before("killed")
        process = tables.ingesting("killed")
        time.sleep(chance.uniform(0, clean.seconds))  # kill at a random moment
        process.kill()
        process.wait(60)
        hit += tables.converges("killed", clean)
    assert hit >= max(1, kills // 5)


def test_one_of_two_killed(tables: Tables, clean: Clean) -> None:
    """The other ingest ends as if it had been alone."""
    tables.copy_before("killed")
    other = tables.ingesting("killed", "after write_on", 1)
    one = tables.ingesting("killed")
    assert (one.wait(60), other.wait(60)) == (0, -signal.SIGKILL)
    assert tables.content("killed") == clean.content
    assert not tables.converges("killed", clean)


def test_ctrl_c(tables: Tables, clean: Clean) -> None:
    """The process ends, and the next run does the rest."""
    tables.copy_before("killed")
    process = tables.ingesting("killed")
    with psycopg.connect(tables.address, autocommit=True) as connection:
        while not connection.execute("SELECT 1 FROM killed WHERE text LIKE '%The new%'").fetchone():
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT
    assert tables.converges("killed", clean)


def test_the_server_killed(server: tuple[str, Path], clean: Clean) -> None:
    """The ingest continues after Postgres is killed and restarted, with the result of a clean run."""
    conninfo, folder = server
    tables = Tables(conninfo)
    tables.make_before()
    tables.copy_before("killed")
    process = tables.ingesting("killed")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        count = sql.SQL("SELECT count(*) FROM {} WHERE text LIKE '%The new%'").format(sql.Identifier("killed"))
        while connection.execute(count).fetchone() == (0,):
            assert process.poll() is None
    kill_server(folder)
    assert process.wait(100) == 0
    assert tables.content("killed") == clean.content
