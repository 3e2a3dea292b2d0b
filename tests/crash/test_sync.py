"""The live sync compared with an oracle, with kills of workers and the server."""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from harrier_pgvector.sync import TableSync
from ingesting import CHUNKING, Hashing
from killing import kill_server
from tormenting import CREATE, Writer, content, expected, stopped, wait_until_quiet, worker

# A row without a language cannot be read: it is set aside, and its neighbours are not.
TEXT = "concat_ws(E'\\n\\n', title, body) || left(lang, 0 / length(lang))"


def declare(conninfo: str) -> list[TableSync]:
    space = Hashing().space
    articles, notes = TableSync(conninfo, table="chunks"), TableSync(conninfo, table='chu"nks%s of notes')
    articles.create("articles", space, text=TEXT, metadata=["lang", "title"], chunking=CHUNKING)
    notes.create("No%tes", space, text="note", metadata=["part"], chunking=CHUNKING, wake="poll")
    return [articles, notes]


def in_step(conninfo: str, syncs: list[TableSync]) -> int:
    """Compare with the oracle, and return the number of chunks."""
    failed = {failure.record_id for failure in syncs[0].failures(10_000)}
    with psycopg.connect(conninfo) as connection:
        unreadable = {str(id_) for (id_,) in connection.execute("SELECT id FROM articles WHERE lang = ''").fetchall()}
    assert failed == unreadable, syncs[0].failures(10_000)
    wanted = expected(
        conninfo,
        "wanted",
        "SELECT id, concat_ws(E'\\n\\n', title, body), jsonb_build_object('lang', lang, 'title', title) "
        "FROM articles WHERE lang <> ''",
    )
    found = [row for row in content(conninfo, "chunks") if row[0] not in failed]
    assert found == wanted
    notes = expected(
        conninfo,
        "wanted notes",
        """SELECT jsonb_build_array(part::text, "the id"::text)::text, note, jsonb_build_object('part', part)
        FROM "No%tes" """,
    )
    assert content(conninfo, 'chu"nks%s of notes') == notes
    assert not syncs[1].failures()
    return len(found) + len(notes)


@pytest.mark.timeout(4_000)
def test_oracle(server: tuple[str, Path], pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]) -> None:
    """After writers, killed workers, expired leases and a dead server, the chunks match the source."""
    conninfo, folder = server
    seconds = pytestconfig.getoption("--sync-seconds")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in CREATE:
            connection.execute(statement.encode())
    syncs = declare(conninfo)
    begin = time.monotonic()
    for number in itertools.count():
        said = torment(conninfo, folder, syncs, min(seconds, 60.0), number)
        with capsys.disabled():
            sys.stdout.write(
                f"\n{time.monotonic() - begin:,.0f} s: {said}, {in_step(conninfo, syncs):,} chunks in step"
            )
            sys.stdout.flush()
        if time.monotonic() - begin >= seconds:
            break
    for sync in syncs:
        sync.drop(chunks=True)
        sync.close()


def torment(conninfo: str, folder: Path, syncs: list[TableSync], seconds: float, number: int) -> str:
    """Run one round of disturbances until it is quiet, and return what was done."""
    chance, stop = random.Random(number), threading.Event()
    writers = [Writer(conninfo, 10 * number + each) for each in range(3)]
    threads = [threading.Thread(target=writer.run, args=[stop]) for writer in writers]
    workers = [worker(conninfo) for _ in range(3)]
    until, kills, deaths = time.monotonic() + seconds, 0, 0
    try:
        for thread in threads:
            thread.start()
        while time.monotonic() < until:
            time.sleep(chance.uniform(0.2, 2.0))
            victim = chance.randrange(len(workers))
            workers[victim].kill()
            workers[victim].communicate()
            workers[victim] = worker(conninfo)
            kills += 1
            if kills % 10 == 3:
                kill_server(folder)
                deaths += 1
        stop.set()
        for thread in threads:
            thread.join()
        wait_until_quiet(conninfo, syncs)
        assert [stopped(each) for each in workers] == [0, 0, 0]
    finally:
        stop.set()
        for each in workers:
            each.kill()
    statements = sum(writer.statements for writer in writers)
    return f"{kills} workers and {deaths} servers killed, {statements:,} statements"
