"""What others do at particular instants of an exchange of two tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from harrier_pgvector import PgVectorStore, exchanging
from ingesting import CHUNKING, Hashing, before
from psycopg.conninfo import make_conninfo
from reembeds import Other, models
from syncs import Execute

from harrier_core import Index, IngestReport, Record
from harrier_core.migration import ReembedReport, reembed, switch

RECORDS = list(before())[:20]


@pytest.fixture
def store(database: str) -> Iterator[PgVectorStore]:
    """Return the store of table docs, with some records of the old model."""
    with PgVectorStore(database, table="docs") as made:
        Index(made, Hashing(), chunking=CHUNKING).ingest(RECORDS)
        yield made


def before_call(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, act: Callable[[], object]) -> None:
    """Do something once, before the next call of a function or method."""
    acts, called = [act], getattr(where, name)

    def acting(*given: Any, **named: Any) -> Any:
        if acts:
            acts.pop()()
        return called(*given, **named)

    monkeypatch.setattr(where, name, acting)


def wait_for_lock(execute: Execute, started: Future[Any]) -> None:
    """Wait until a session waits for a lock."""
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while not execute(waiting):
        assert not started.done()


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_a_writer_that_waits_for_the_exchange(
    database: str, store: PgVectorStore, execute: Execute, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    """It compares its records with what the switch has carried over, whatever isolation is the default."""
    old = Index(store, Hashing(), chunking=CHUNKING)
    old.ingest([Record("r", "version one")])
    reembed(store, Other())
    escaped = isolation.replace(" ", r"\ ")
    options = f"-c default_transaction_isolation={escaped}"
    writing: list[Future[IngestReport]] = []
    changes = [Record("r", "version two")]
    with ThreadPoolExecutor(1) as pool, PgVectorStore(make_conninfo(database, options=options), table="docs") as mine:
        index = Index(mine, encoders=models(), chunking=CHUNKING)
        assert index.plan([Record("r", "version one")]).unchanged == 1

        def write() -> None:
            writing.append(pool.submit(index.ingest, [Record("r", "version one")], build_indexes=False))
            wait_for_lock(execute, writing[0])

        def change(report: ReembedReport) -> None:
            if report.stage == "switching" and changes:
                old.ingest([changes.pop()])

        before_call(monkeypatch, exchanging, "forget", write)
        assert switch(store, Other(), on_progress=change).complete
        assert writing[0].result(60).written == 1
        assert [each.chunk.text for each in index.read(["r"])] == ["version one"]
