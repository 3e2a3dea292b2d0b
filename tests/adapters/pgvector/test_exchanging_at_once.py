"""What others do at particular instants of an exchange of two tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from harrier_pgvector import PgVectorStore, comparing, exchanging
from harrier_pgvector.comparing import Comparison
from harrier_pgvector.connections import Held
from harrier_pgvector.exchanging import TableExchange
from harrier_pgvector.opened import OpenTable
from ingesting import CHUNKING, Hashing, before
from killing import kill_server
from psycopg.conninfo import make_conninfo
from reembeds import Other, models
from syncs import Execute

from harrier_core import (
    Contents,
    Index,
    IngestReport,
    Pruning,
    Record,
    StoreError,
    StoreMissing,
    StoreUnavailable,
    StoreUnsuitable,
)
from harrier_core.migration import ReembedReport, back, recut, reembed, reembedding, spaces, switch
from harrier_core.migration.changing import Changing
from harrier_core.store import Stored

RECORDS = list(before())[:20]
WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@pytest.fixture
def store(database: str) -> Iterator[PgVectorStore]:
    """Return the store of table docs, with some records of the old model."""
    with PgVectorStore(database, table="docs") as made:
        Index(made, Hashing(), chunking=CHUNKING).ingest(RECORDS)
        yield made


def before_call(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, act: Callable[[], object]) -> None:
    """Do something once, before the next call of a function or method."""
    acts = [act]
    each_time(monkeypatch, where, name, lambda: acts and acts.pop()())


def each_time(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, act: Callable[[], object]) -> None:
    """Do something before each call of a function or method."""
    called = getattr(where, name)

    def acting(*given: Any, **named: Any) -> Any:
        act()
        return called(*given, **named)

    monkeypatch.setattr(where, name, acting)


def wait_for_lock(execute: Execute, started: Future[Any]) -> None:
    """Wait until a session waits for a lock."""
    while not execute(WAITING):
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


def test_a_delete_in_a_place_with_other_chunks(
    store: PgVectorStore, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer of the new place waits as well once both places were compared, and then finds no such place."""
    recut(store, Hashing(), RECORDS, chunking=CHUNKING)
    deleting: list[Future[int]] = []
    with ThreadPoolExecutor(1) as pool, store.beside("_recut") as new:
        opened = new.open(Hashing.space)

        def delete() -> None:
            deleting.append(pool.submit(opened.delete, ["r003"]))
            wait_for_lock(execute, deleting[0])

        before_call(monkeypatch, TableExchange, "_rename", delete)
        assert switch(store, Hashing(), recut=True).complete
        with pytest.raises(StoreMissing):
            deleting[0].result(60)
    assert "r003" in set(Contents(store).record_ids())


@pytest.mark.parametrize("holder", ["LOCK TABLE docs_next IN SHARE UPDATE EXCLUSIVE MODE", "LOCK TABLE docs_next"])
def test_while_the_new_table_is_in_use(
    database: str, store: PgVectorStore, execute: Execute, monkeypatch: pytest.MonkeyPatch, holder: str
) -> None:
    """Others can write while the switch waits for it, and the error names it."""
    reembed(store, Other())
    with psycopg.connect(database) as connection, ThreadPoolExecutor(1) as pool:
        connection.execute(holder.encode())
        switching = pool.submit(store.exchange("_next", "_before")._comparison.begin)
        wait_for_lock(execute, switching)
        with psycopg.connect(database, options="-c lock_timeout=5s") as writer:
            writer.execute("DELETE FROM docs WHERE record_id = 'r003'")
        assert not switching.done()
        connection.rollback()
        switching.result(60)
        connection.execute(holder.encode())
        monkeypatch.setattr(comparing, "WAIT", "100ms")
        with pytest.raises(StoreUnavailable, match="a transaction that writes to table public.docs_next, or builds"):
            switch(store, Other())


def test_a_removal_by_metadata(store: PgVectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads again what a switch in between two pages has replaced, and does not fail after everything is written."""
    reembed(store, Other())
    index = Index(store, encoders=models(), chunking=CHUNKING)
    turns: list[Callable[[], object]] = []
    read = OpenTable.read

    def turning(table: OpenTable, record_ids: Any = None, where: Any = None, numbers: Any = None) -> Iterator[Stored]:
        pages = read(table, record_ids, where, numbers)
        yield next(pages)
        while where is not None and turns:
            turns.pop()()
        yield from pages

    monkeypatch.setattr(OpenTable, "read", turning)
    turns.append(lambda: switch(store, Other()))
    assert index.ingest(RECORDS[:15], prune=Pruning({"n": {"$gte": 0}})).deleted > 0
    assert sorted(index.record_ids()) == [each.id for each in RECORDS[:15]]
    for contents, turn in ((index, lambda: back(store, Hashing())), (Contents(store), lambda: switch(store, Other()))):
        turns.append(turn)
        assert contents.delete(where={"n": {"$gte": 3}}) > 0
        index.ingest(RECORDS[:15])
    assert turns == []


def test_writers_while_a_reader_is_in_the_way(
    database: str, store: PgVectorStore, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for one attempt only, and the next one has what they wrote meanwhile."""
    monkeypatch.setattr(comparing, "TURN", 0.0)
    monkeypatch.setattr(comparing, "ATTEMPTS", 1_000)
    reembed(store, Other())
    index = Index(PgVectorStore(database, table="docs"), encoders=models(), chunking=CHUNKING)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(database) as reading, index:
        writing: list[Future[IngestReport]] = []

        def write() -> None:
            writing.append(pool.submit(index.ingest, [Record("late", "a late text")], build_indexes=False))
            wait_for_lock(execute, writing[0])

        def end() -> None:
            if writing and writing[0].done():
                reading.rollback()  # only now: the writer did not need to wait for it

        reading.execute("SELECT count(*) FROM docs")
        before_call(monkeypatch, TableExchange, "_rename", write)
        each_time(monkeypatch, TableExchange, "_take_rights", end)
        assert switch(store, Other()).complete
        assert writing[0].result(60).written == 1
        assert "late" in set(index.record_ids())


@pytest.mark.parametrize("at", ["while writers are kept out", "while the switch waits for readers"])
def test_a_reader_that_writes(
    database: str, store: PgVectorStore, execute: Execute, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Its transaction is not aborted as a deadlock: the switch makes way for it."""
    monkeypatch.setattr(exchanging, "MOMENT", "10s")
    reembed(store, Other())
    tries: list[None] = []
    each_time(monkeypatch, TableExchange, "_rename", lambda: tries.append(None))
    with ThreadPoolExecutor(2) as pool, psycopg.connect(database) as using:
        written: list[Future[Any]] = []

        def write() -> None:
            written.append(pool.submit(using.execute, "DELETE FROM docs WHERE record_id = 'r003'"))
            written[0].add_done_callback(lambda _: using.commit())

        def write_first() -> None:
            write()
            wait_for_lock(execute, written[0])

        using.execute("SELECT count(*) FROM docs")
        if at == "while writers are kept out":
            before_call(monkeypatch, TableExchange, "_rename", write_first)
            assert switch(store, Other()).complete
        else:
            switching = pool.submit(switch, store, Other())
            while len(tries) < 2 and not execute(WAITING):
                assert not switching.done()
            write()
            assert switching.result(60).complete
        assert written[0].result(60).rowcount > 0
    assert "r003" not in set(Contents(store).record_ids())


class Hanging(Other):
    """A model that does not answer until the server has given up its session."""

    def __init__(self, execute: Execute) -> None:
        super().__init__()
        self._execute = execute

    def submit_documents(self, texts: Any) -> Any:
        while self._execute("SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction'"):
            pass
        return super().submit_documents(texts)


def test_a_switch_that_hangs(store: PgVectorStore, execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends its transaction, for which writers wait, and nothing is exchanged."""
    reembed(store, Other())
    late = [Record("late", "to be caught up")]

    def write(report: ReembedReport) -> None:
        if report.stage == "switching" and late:
            Index(store, Hashing(), chunking=CHUNKING).ingest([late.pop()])

    monkeypatch.setitem(exchanging._GONE, "idle_in_transaction_session_timeout", "300ms")
    with pytest.raises(StoreError, match="idle-in-transaction timeout"):
        switch(store, Hanging(execute), on_progress=write)
    assert spaces(store).next == Other.space
    execute("DELETE FROM docs WHERE record_id = 'r003'")
    assert switch(store, Other()).complete


def test_a_re_embedding_that_a_switch_overtakes(store: PgVectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves no new place behind, in which the way back would end."""
    reembed(store, Other())
    before_call(monkeypatch, Changing, "opened_next", lambda: switch(store, Other()))
    with pytest.raises(StoreUnavailable, match="was switched to another space in the meantime"):
        reembed(store, Other())
    assert spaces(store).next is None
    assert back(store, Hashing()).complete


def test_a_new_place_in_the_way_back(store: PgVectorStore) -> None:
    """The error does not advise to drop the old place."""
    reembed(store, Other())
    switch(store, Other())
    with store.beside("_next") as next_:
        next_.open(Other.space, create=True)
        with pytest.raises(StoreUnsuitable, match=r"docs_next is left over .*; drop it first \(harrier drop\)"):
            back(store, Hashing())
        next_.drop()
    assert back(store, Hashing()).complete


class Overtaken(Other):
    """A model that others overtake: each time that it encodes, until writers have to wait, a record is written."""

    def __init__(self, index: Index) -> None:
        super().__init__()
        self._index = index
        self._number = 0
        self.stage = ""

    def submit_documents(self, texts: Any) -> Any:
        if self.stage != "switching":
            self._number += 1
            self._index.ingest([Record("new", f"text {self._number}")], build_indexes=False)
        return super().submit_documents(texts)

    def note(self, report: ReembedReport) -> None:
        self.stage = report.stage


@pytest.mark.parametrize("left", [0.0, 60.0])
def test_writers_that_are_faster_than_the_model(
    store: PgVectorStore, monkeypatch: pytest.MonkeyPatch, left: float
) -> None:
    """The switch is refused before they have to wait, unless what is left takes a few seconds only."""
    monkeypatch.setattr(reembedding, "_BEHIND", left)
    reembed(store, Other())
    index = Index(store, Hashing(), chunking=CHUNKING)
    index.ingest([Record("new", "text")])
    model = Overtaken(index)
    if left:
        assert switch(store, model, on_progress=model.note).complete
        assert model.stage == "switching"
        return
    with pytest.raises(StoreUnavailable, match="faster than its changes are carried over.*nothing was exchanged"):
        switch(store, model, on_progress=model.note)
    assert switch(store, Other()).complete


@pytest.mark.parametrize("step", ["before _rename", "after begin"])
def test_a_server_that_crashes_during_the_switch(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """It loses the notes: all records are compared once more, but not while writers have to wait."""
    conninfo, folder = server
    pages: list[type] = []
    page = Comparison._page

    def counted(comparison: Comparison, *given: Any) -> Any:
        pages.append(type(comparison.connections))
        return page(comparison, *given)

    monkeypatch.setattr(Comparison, "_page", counted)
    with PgVectorStore(conninfo, table=f"docs_{step[:5].strip()}") as store:
        index = Index(store, encoders=models(), chunking=CHUNKING)
        index.ingest(RECORDS)
        reembed(store, Other())
        if step == "before _rename":
            before_call(monkeypatch, TableExchange, "_rename", lambda: kill_server(folder))
        else:
            before_call(monkeypatch, Comparison, "differing", lambda: kill_server(folder))
        assert switch(store, Other()).complete
        assert Held not in pages
        assert sorted(index.record_ids()) == [each.id for each in RECORDS]
