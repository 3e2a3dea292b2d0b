"""The rows of a batch each get exactly one outcome."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from uuid import uuid4

import psycopg
import pytest
from harrier_pgvector.sync import SyncWorker
from harrier_pgvector.sync.batch import DONE, LOST, NO_TEXT, Batch, Fate, Lease, Outcome, failures
from harrier_pgvector.sync.embedding import Embedding
from ingesting import Hashing
from syncs import Execute, opened

from harrier_core import Encoded, ServerError, ServerRefused, ServerUnavailable, SpaceChanged


def batch(*record_ids: str) -> Batch:
    return Batch(uuid4(), {each: Lease(each, (each,), 1, 1, None) for each in record_ids})


class TestDecisions:
    """Decisions work without a database."""

    def test_a_row_is_decided_once(self) -> None:
        decided = batch("1", "2")
        decided.decide({"1": DONE})
        for outcome in (DONE, LOST):
            with pytest.raises(ValueError, match="1 rows were decided twice"):
                decided.decide({"1": outcome, "2": DONE})
        assert decided.outcomes == {"1": DONE}

    def test_a_row_of_another_batch(self) -> None:
        with pytest.raises(ValueError, match="not in this batch"):
            batch("1").decide({"2": DONE})

    def test_undecided_rows(self) -> None:
        decided = batch("1", "2", "3", "4")
        decided.decide({"3": NO_TEXT})
        decided.decide(failures({"1": "a reason"}))
        assert [lease.record_id for lease in decided.undecided] == ["2", "4"]
        ended = {lease.record_id: outcome for lease, outcome in decided.ended_as(Fate.NO_TEXT, Fate.FAILED).items()}
        assert ended == {"1": Outcome(Fate.FAILED, "a reason"), "3": NO_TEXT}


def test_all_outcomes(database: str, execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of a batch has one outcome, whichever step decided it."""
    execute("CREATE TABLE articles (id int PRIMARY KEY, body text, views int DEFAULT 1)")
    execute("INSERT INTO articles SELECT i, 'body ' || i FROM generate_series(1, 6) AS i")
    opened(database, table="chunks").create("articles", Hashing().space, text="body || 1 / views")
    SyncWorker(database, Hashing(), poll=0.2).drain()
    execute("UPDATE articles SET body = 'new' WHERE id IN (1, 2)")
    execute("UPDATE articles SET body = NULL WHERE id = 3")
    execute("DELETE FROM articles WHERE id = 4")
    execute("UPDATE articles SET views = 0 WHERE id = 5")
    execute("UPDATE articles SET body = 'changed and back' WHERE id = 6")
    execute("UPDATE articles SET body = 'body 6' WHERE id = 6")
    ended: list[Batch] = []
    run = Embedding.run

    def watched(embedding: Embedding) -> None:
        run(embedding)
        ended.append(embedding._batch)

    class Meddling(Hashing):
        def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
            if not self.encoded:
                execute("UPDATE articles SET body = 'newer' WHERE id = 2")
                while execute("SELECT 1 FROM harrier_sync.changes_1"):  # until the other lane has noted it
                    pass
            return super().submit_documents(texts)

    monkeypatch.setattr(Embedding, "run", watched)
    SyncWorker(database, Meddling(), poll=0.2).drain()
    [first] = [each for each in ended if len(each.leases) == 6]
    assert {record_id: outcome.fate.name for record_id, outcome in first.outcomes.items()} == {
        "1": "DONE", "2": "LOST", "3": "NO_TEXT", "4": "NO_TEXT", "5": "FAILED", "6": "DONE"
    }  # fmt: skip
    assert all(each.outcomes.keys() == each.leases.keys() for each in ended)
    stored = execute("SELECT record_id, text FROM chunks ORDER BY 1")
    assert stored == [("1", "new1"), ("2", "newer1"), ("5", "body 51"), ("6", "body 61")]


def test_a_row_locked_before_the_write(database: str, execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as lost and stays in the queue, even if the lock's holder changes nothing."""
    execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
    execute("INSERT INTO articles VALUES (1, 'body')")
    opened(database, table="chunks").create("articles", Hashing().space, text="body")
    put_aside = Embedding._put_aside
    outcomes: list[dict[str, Outcome]] = []
    with psycopg.connect(database) as other:

        class Locking(Hashing):
            def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
                if not self.encoded:
                    other.execute("SELECT FROM harrier_sync.queue_1 FOR UPDATE")
                return super().submit_documents(texts)

        def unlock(embedding: Embedding) -> None:
            other.rollback()
            outcomes.append(dict(embedding._batch.outcomes))
            put_aside(embedding)

        monkeypatch.setattr(Embedding, "_put_aside", unlock)
        SyncWorker(database, Locking(), poll=0.2).drain()
    assert outcomes == [{"1": LOST}, {"1": DONE}]
    assert execute("SELECT text FROM chunks") == [("body",)]


@pytest.mark.parametrize("error", [ServerUnavailable("away"), ServerRefused("a wrong key", 401), SpaceChanged("other")])
def test_an_unavailable_model_server(
    database: str, execute: Execute, monkeypatch: pytest.MonkeyPatch, error: ServerError
) -> None:
    """No row loses an attempt while the model's server is unavailable."""
    execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
    execute("INSERT INTO articles VALUES (1, 'body')")
    opened(database, table="chunks").create("articles", Hashing().space, text="body")
    attempts: list[object] = []
    errors = [error]

    class Away(Hashing):
        def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
            if errors:
                raise errors.pop()
            return super().submit_documents(texts)

    monkeypatch.setattr(Embedding, "_count_attempt", lambda *args: attempts.append(args))
    worker = SyncWorker(database, Away(), poll=0.2)
    worker.drain()
    assert worker.troubles == {}
    assert attempts == errors == []
    assert execute("SELECT text FROM chunks") == [("body",)]
