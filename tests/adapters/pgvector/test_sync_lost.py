"""A declaration that was lost, as when everything of its owner was dropped, does not stop the others."""

from __future__ import annotations

from typing import Any

import pytest
from harrier_pgvector.sync import SyncWorker, sync_statuses
from ingesting import Hashing
from syncs import Execute, opened, running, wait_for

from harrier_core.errors import StoreUnsuitable


def texts(execute: Execute) -> list[str]:
    return [text for (text,) in execute("SELECT text FROM chunks")]


@pytest.fixture
def syncs(database: str, execute: Execute) -> list[Any]:
    """Declare two tables."""
    syncs = []
    for source, table in (("articles", "chunks"), ("others", "other_chunks")):
        execute(f"CREATE TABLE {source} (id int PRIMARY KEY, body text)")
        execute(f"INSERT INTO {source} VALUES (1, 'one')")
        syncs.append(opened(database, table=table))
        syncs[-1].create(source, Hashing().space, text="body")
    SyncWorker(database, Hashing(), poll=0.2).drain()
    return syncs


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        ("COMMENT ON TABLE harrier_sync.queue_2 IS NULL", "public.other_chunks"),
        ("COMMENT ON TABLE harrier_sync.queue_2 IS 'a note'", "public.other_chunks"),
        ("COMMENT ON TABLE harrier_sync.queue_2 IS '{}'", "public.other_chunks"),
        ("DROP TABLE harrier_sync.queue_2, harrier_sync.changes_2, others, other_chunks CASCADE", "number 2"),
    ],
)
def test_the_others_go_on(database: str, execute: Execute, syncs: list[Any], loss: str, name: str) -> None:
    execute(loss)
    execute("UPDATE articles SET body = 'new'")
    worker = SyncWorker(database, Hashing(), poll=0.2)
    worker.drain()
    assert texts(execute) == ["new"]
    assert list(worker.troubles) == [name]
    assert "which keeps the declaration" in worker.troubles[name]
    assert syncs[0].status().state == "active"
    assert [(each.table, each.state) for each in sync_statuses(database)] == [
        ("public.chunks", "active"), (name, "broken")
    ]  # fmt: skip
    assert "which keeps the declaration" in str(sync_statuses(database)[1].reason)
    if "COMMENT" in loss:
        with pytest.raises(StoreUnsuitable, match="harrier_sync.queue_2 or the comment on it, which keeps the decl"):
            syncs[1].status()
    execute("DELETE FROM harrier_sync.tables WHERE id = 2")
    assert len(sync_statuses(database)) == 1


@pytest.mark.usefixtures("syncs")
def test_a_running_worker(database: str, execute: Execute) -> None:
    with running(database) as worker:
        wait_for(lambda: execute("SELECT count(*) FROM harrier_sync.workers") == [(1,)])
        execute("DROP TABLE harrier_sync.queue_2, harrier_sync.changes_2 CASCADE")
        execute("UPDATE articles SET body = 'new'")
        wait_for(lambda: texts(execute) == ["new"])
        wait_for(lambda: "public.other_chunks" in worker.troubles)
