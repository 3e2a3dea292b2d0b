"""`harrier sync` as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def place(database: str) -> str:
    """Return a place next to a table with three texts, one of which cannot be computed."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE articles (id int PRIMARY KEY, title text, lang text, part int)")
        connection.execute(
            "INSERT INTO articles VALUES (1, 'bread rises by yeast', 'en', 1), (2, 'rivers carry sand', 'en', 1), "
            "(3, 'le pain et la levure', 'fr', 1), (4, 'a text', 'en', 0)"
        )
    return f"{database}&table=chunks"


@pytest.fixture
def declared(call: Run, place: str) -> str:
    text = "title || left('', 1 / part)"
    told = call("sync", "create", "--source", "articles", "--text", text, "--metadata", "lang", "--to", place)
    assert told.stdout.startswith("table public.chunks follows articles")
    return place


def execute(place: str, statement: str) -> list[Any]:
    with psycopg.connect(place.removesuffix("&table=chunks"), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def test_from_the_declaration_to_the_answer(call: Run, declared: str) -> None:
    told = call("sync", "run", declared, "--once", code=1)
    assert "embedding changes with" in told.stderr
    answer = json.loads(call("search", "yeast bread", "--in", declared, "--where", '{"lang": "en"}', "--json").stdout)
    assert answer[0]["record_id"] == "1"
    told = call("sync", "status", declared, code=1)
    assert "public.chunks follows public.articles" in told.stdout
    assert "4: has a text or metadata that cannot be computed: DivisionByZero (22012)" in told.stdout
    execute(declared, "UPDATE articles SET part = 1 WHERE id = 4")
    call("sync", "run", declared, "--once")
    [status] = json.loads(call("sync", "status", declared.removesuffix("&table=chunks"), "--json").stdout)
    assert (status["state"], status["left"], status["failed"], status["failures"]) == ("active", 0, 0, [])


def test_operation(call: Run, declared: str) -> None:
    database = declared.removesuffix("&table=chunks")
    call("sync", "run", database, "--once", code=1)
    assert call("sync", "retry", database).stdout == "1 row of table public.chunks is queued again\n"
    call("sync", "pause", declared)
    assert "state    paused" in call("sync", "status", declared).stdout
    call("sync", "resume", declared)
    call("sync", "rescan", declared)
    call("sync", "run", database, "--once", code=1)
    call("sync", "drop", declared, "--chunks")
    assert execute(declared, "SELECT to_regclass('chunks'), to_regnamespace('harrier_sync')") == [(None, None)]
    assert "no table is declared here" in call("sync", "status", database).stdout


@pytest.mark.parametrize(("option", "url"), [(["--keywords"], ""), ([], "&keywords=true")])
def test_with_words(call: Run, place: str, option: list[str], url: str) -> None:
    """A table declared with keywords supports keyword search, and a URL may set the precision."""
    to = f"{place}{url}&precision=float32"
    call("sync", "create", "--source", "articles", "--text", "title", "--to", to, *option)
    call("sync", "run", place, "--once")
    [(kind,)] = execute(place, "SELECT pg_typeof(embedding)::text FROM chunks LIMIT 1")
    assert kind == "vector"
    assert "keywords yes\n" in call("info", place).stdout
    [found] = json.loads(call("search", "levure", "--in", place, "--mode", "keyword", "--json").stdout)
    assert found["record_id"] == "3"


def test_dry_run(call: Run, place: str) -> None:
    arguments = ["sync", "create", "--source", "articles", "--text", "title", "--to", place]
    assert "CREATE TRIGGER" in call(*arguments, "--dry-run").stdout
    assert execute(place, "SELECT to_regclass('chunks')") == [(None,)]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["create", "--source", "articles", "--text", "titel", "--to", "PLACE"], 2, "does not exist"),
        (["create", "--source", "nothing", "--text", "title", "--to", "PLACE"], 2, "there is no table 'nothing'"),
        (["create", "--source", "articles", "--text", "title", "--to", "DATABASE"], 2, "name the table of the chunks"),
        (
            ["create", "--source", "articles", "--text", "title", "--to", "qdrant:folder"],
            2,
            "the URL of a table must be postgresql://",
        ),
        (
            ["create", "--source", "articles", "--text", "title", "--to", "LAID OUT"],
            2,
            "takes precision and keywords only",
        ),
        (["drop", "DATABASE"], 2, "name the table with ?table=NAME; declared are: none"),
        (["retry", "PLACE"], 3, "table public.chunks follows no other table"),
        (["status", "PLACE"], 2, "table 'chunks' follows no other table"),
        (["status", "pgvector:missing"], 3, "there is no folder missing"),
        (["run", "DATABASE", "--metrics", "here"], 2, "--metrics must be a port"),
        (["run", "DATABASE", "--lease", "0"], 2, "lease and poll must be positive numbers of seconds"),
    ],
)
def test_errors(call: Run, place: str, arguments: list[str], code: int, said: str) -> None:
    """Each is one line, with its own exit code."""
    places = {"PLACE": place, "DATABASE": place.removesuffix("&table=chunks"), "LAID OUT": f"{place}&m=8"}
    told = call("sync", *(places.get(each, each) for each in arguments), code=code)
    assert said in told.stderr
    assert told.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_stopping_a_worker(
    command: list[str], environment: dict[str, str], declared: str, number: signal.Signals, code: int
) -> None:
    """Changes are embedded, metrics are served, and the worker stops at once."""
    port = _free_port()
    arguments = ["sync", "run", declared, "--metrics", str(port)]
    worker = subprocess.Popen([*command, *arguments], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        while not execute(declared, "SELECT 1 FROM chunks WHERE record_id = '1'"):
            assert worker.poll() is None
        execute(declared, "UPDATE articles SET title = 'other' WHERE id = 1")
        while execute(declared, "SELECT text FROM chunks WHERE record_id = '1'") != [("other",)]:
            assert worker.poll() is None
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            metrics = answer.read().decode()
        worker.send_signal(number)
        _, said = worker.communicate(timeout=30)
    finally:
        worker.kill()
    assert worker.returncode == code
    assert 'harrier_sync_failed_rows{table="public.chunks"} 1.0' in metrics
    assert 'harrier_sync_workers{table="public.chunks"} 1.0' in metrics
    assert ("run the same command again to continue" in said) is (code == 130)
    assert execute(declared, "SELECT count(*) FROM harrier_sync.workers") == [(0,)]


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_watching(command: list[str], environment: dict[str, str], declared: str) -> None:
    """The table is redrawn in a terminal until Ctrl-C."""
    master, slave = pty.openpty()
    watching = subprocess.Popen(
        [*command, "sync", "status", declared, "--watch"], stdout=slave, env=environment, start_new_session=True
    )
    os.close(slave)
    shown = ""
    while shown.count("chunks") < 3:
        assert select.select([master], [], [], 30)[0]
        shown += os.read(master, 65_536).decode()
    watching.send_signal(signal.SIGINT)
    assert watching.wait(30) == 0
    os.close(master)
    assert "pending" in shown


def test_another_schema_and_another_role(call: Run, place: str, new_role: Callable[[str], str]) -> None:
    """`&schema=` sets the schema of the chunks, and `--trust` the trusted owners."""
    role = new_role("shop")
    execute(place, f"CREATE SCHEMA hidden; ALTER TABLE articles OWNER TO {role}")
    there = f"{place}&schema=hidden"
    arguments = ["sync", "create", "--source", "articles", "--text", "title", "--to", there]
    assert f"table public.articles belongs to role {role}" in call(*arguments, code=3).stderr
    assert call(*arguments, "--trust", role).stdout.startswith("table hidden.chunks follows articles")
    told = call("sync", "run", place.removesuffix("&table=chunks"), "--once", code=1)
    assert f"skipped: hidden.chunks: the content of hidden.chunks belongs to role {role}" in told.stderr
    assert "state    untrusted" in call("sync", "status", there).stdout
    call("sync", "run", there, "--once", "--trust", role)
    assert "state    active" in call("sync", "status", there, "--trust", role).stdout
    answer = json.loads(call("search", "yeast bread", "--in", there, "--json").stdout)
    assert answer[0]["record_id"] == "1"
    assert "'hidden'" in call("info", there).stdout
    call("sync", "drop", there, "--chunks", "--trust", role)
    assert execute(place, "SELECT to_regclass('hidden.chunks')") == [(None,)]
