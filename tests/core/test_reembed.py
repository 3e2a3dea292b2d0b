"""Changing the model of an index in use: its result, its readers, and its guarantees."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from harrier_pgvector import PgVectorStore, comparing, exchanging
from harrier_qdrant import QdrantStore
from ingesting import CHUNKING, Hashing, after, before
from psycopg import sql
from psycopg_pool import ConnectionPool
from qdrant_client import QdrantClient
from reembeds import Deadly, Other

from harrier_core import (
    Chunking,
    Contents,
    Encoder,
    Index,
    IngestReport,
    Record,
    SettingError,
    StoreMissing,
    StoreUnavailable,
    StoreUnsuitable,
    VectorStore,
    WrongSpace,
    ingest,
    turning,
)
from harrier_core.evaluation import Judgements, Question
from harrier_core.migration import (
    ReembedReport,
    Spaces,
    back,
    check,
    drop_old,
    filling,
    plan_reembedding,
    recut,
    reembed,
    spaces,
    switch,
)
from harrier_core.testing import MemoryStore

NewStore = Callable[[], Any]

RECORDS = list(before())[:60]


@pytest.fixture(params=["postgres", "edge"])
def new_store(request: pytest.FixtureRequest, postgres: str, table: str, tmp_path: Path) -> Iterator[NewStore]:
    """Return a store of the same place at every call, empty at first."""
    made: list[VectorStore] = []

    def new() -> VectorStore:
        if request.param == "postgres":
            made.append(PgVectorStore(postgres, table=table, keywords=True))
        else:
            made.append(QdrantStore.embedded(tmp_path / "edge", collection="docs", keywords=True))
        return made[-1]

    yield new
    for store in made:
        store.close()


@pytest.fixture
def store(new_store: NewStore) -> Any:
    """Return a store with some records of the old model."""
    made = new_store()
    Index(made, Hashing(), chunking=CHUNKING).ingest(RECORDS)
    return made


def content(store: VectorStore) -> list[Any]:
    found = []
    for each in Contents(store).read():
        c = each.chunk
        found.append((c.record_id, c.number, c.text, dict(c.metadata), c.start, c.end, c.hash, each.vector.tobytes()))
    return sorted(found, key=lambda row: row[:2])


def clean(records: Any, encoder: Hashing, store: VectorStore) -> list[Any]:
    """Return the content of an empty store after an ingest of these records."""
    store.drop()
    Index(store, encoder, chunking=CHUNKING).ingest(records)
    made = content(store)
    store.drop()
    return made


def test_switching_and_switching_back(store: Any, new_store: NewStore) -> None:
    """Both results equal a clean ingest, including records written in between."""
    old, new = Index(store, Hashing(), chunking=CHUNKING), Index(new_store(), Other(), chunking=CHUNKING)
    had = content(store)
    report = reembed(store, Other())
    assert report.sound
    assert (report.total, report.encoded, report.deleted) == (len(had), len(had), 0)
    assert content(store) == had
    assert old.search(RECORDS[0].text)[0].record_id == RECORDS[0].id
    again = reembed(store, Other())
    assert (again.encoded, again.passes, again.sound) == (0, 1, True)

    old.ingest(after(), prune=True)  # and some of it again, and gone
    assert switch(store, Other()).sound
    made = content(new_store())
    assert made == clean(after(), Other(), store.beside("_clean"))
    with pytest.raises(WrongSpace):
        old.search("anything")
    with pytest.raises(WrongSpace):
        old.ingest(RECORDS)
    assert new.search(made[0][2])[0].record_id == made[0][0]
    assert switch(store, Other()).encoded == 0  # it is done

    new.ingest(RECORDS, prune=True)
    assert back(store, Hashing()).sound
    assert content(new_store()) == had
    assert old.search(RECORDS[0].text)[0].record_id == RECORDS[0].id
    with pytest.raises(WrongSpace):
        new.search("anything")
    switch(store, Other())
    drop_old(store)
    with pytest.raises(StoreMissing, match="nothing to drop"):
        drop_old(store)
    with pytest.raises(StoreMissing, match="nothing to go back to"):
        back(store, Hashing())


def test_an_index_of_both_models(store: Any, new_store: NewStore) -> None:
    """An Index with both encoders works across the switch and back."""
    index = Index(new_store(), encoders=[Hashing(), Other()], chunking=CHUNKING)
    text = RECORDS[0].text
    reembed(store, Other())
    for turn, encoder, dimensions in ((switch, Other(), 24), (back, Hashing(), 16), (switch, Other(), 24)):
        assert index.search(text, mode="hybrid")[0].record_id == RECORDS[0].id
        turn(store, encoder)
        assert index.search(text, expand="record")[0].record_id == RECORDS[0].id
        assert index.encoder.dimensions == dimensions
        assert {each.vector.size for each in index.read()} == {dimensions}
        assert index.verify().sound
        assert (index.count(), index.delete(["no such record"])) == (len(content(store)), 0)


@pytest.mark.parametrize("turn", [switch, back])
def test_an_ingest_across_the_switch(store: Any, new_store: NewStore, turn: Any) -> None:
    """Chunks of the old model are encoded again, and nothing is lost or mixed."""
    models: list[Hashing] = [Hashing(), Other()]
    reembed(store, Other())
    if turn is back:
        switch(store, Other())
        models.reverse()
    index = Index(new_store(), encoders=[Hashing(), Other()], chunking=CHUNKING)

    def records() -> Iterator[Record]:
        for number, record in enumerate(after()):
            if number == 100:
                turn(store, models[1])
            yield record

    ingest.WINDOW_RECORDS, window = 20, ingest.WINDOW_RECORDS
    try:
        index.ingest(records(), prune=True)
    finally:
        ingest.WINDOW_RECORDS = window
    assert content(store) == clean(after(), models[1], store.beside("_clean"))


# -- refusals, before anything is done


def test_nothing_to_change(store: Any) -> None:
    """The same model and precision is refused, and so is a switch before filling."""
    with pytest.raises(SettingError, match="already holds vectors of this model"):
        reembed(store, Hashing())
    with pytest.raises(SettingError, match="rate must be a positive number"):
        reembed(store, Other(), rate=-1)
    for turn, encoder in ((switch, Other()), (back, Hashing())):
        with pytest.raises(StoreMissing, match="there is no second space to|there is nothing to go back"):
            turn(store, encoder)
    with pytest.raises(StoreMissing, match="there is no second space to check"):
        check(store, Other())
    assert spaces(store) == Spaces(Hashing.space, None, None)


def test_another_unfinished_reembedding(store: Any) -> None:
    """A re-embedding to another model is not continued."""
    reembed(store, Other())
    third = Hashing()
    third.space = replace(Hashing.space, weights="w3")
    with pytest.raises(WrongSpace, match="contains an unfinished re-embedding"):
        reembed(store, third)
    with pytest.raises(WrongSpace, match="holds vectors of another space"):
        switch(store, third)
    assert spaces(store) == Spaces(Hashing.space, Other.space, None)
    switch(store, Other())
    assert spaces(store) == Spaces(Other.space, None, Hashing.space)
    with pytest.raises(StoreUnsuitable, match="from an earlier switch"):
        reembed(store, third)


def test_unsupported_stores() -> None:
    """Stores that cannot switch, or cannot block writers, are refused."""
    memory, server = MemoryStore(), QdrantStore(QdrantClient(":memory:"), collection="docs")
    for place, message in ((memory, "cannot be exchanged"), (server, "a Qdrant server cannot keep writers out")):
        Index(place, Hashing()).ingest(RECORDS[:3])
        with pytest.raises(StoreUnsuitable, match=message):
            reembed(place, Other())


class Short(Other):
    """A model with a low limit."""

    max_tokens = 16


def test_texts_that_are_too_long_for_the_model(store: Any) -> None:
    """They are reported, and block the switch until they are gone."""
    long = Record("long", "and so on " * 6)
    Index(store, Hashing()).ingest([long])
    report = reembed(store, Short())
    assert [id_ for id_, _ in report.rejected] == ["long"]
    assert "has 18 tokens with its prompt, but the limit is 16" in report.rejected[0][1]
    assert not report.sound
    with pytest.raises(StoreUnsuitable, match="1 record cannot be encoded by the model, such as 'long'"):
        switch(store, Short())
    Index(store, Hashing()).delete(["long"])
    assert switch(store, Short()).sound


# -- plans, checks, rates and workers


def test_a_plan_and_a_check(store: Any, new_store: NewStore) -> None:
    """Both write nothing. A check compares results of both spaces, with or without judgements."""
    chunks = len(content(store))
    would = plan_reembedding(store, Other(), rate=10)
    assert (would.total, would.encoded, would.described, would.deleted) == (chunks, chunks, 0, 0)
    assert would.seconds == pytest.approx(chunks / 10)
    assert would.tokens == sum(Other().count_tokens([row[2] for row in content(store)]))
    assert spaces(store).next is None

    report = reembed(store, Other())
    assert report.tokens == would.tokens
    assert report.bytes == pytest.approx(would.bytes, rel=0.01)  # by a sample
    index = Index(new_store(), Hashing(), chunking=CHUNKING)
    index.ingest([Record("new", "a new text"), Record("r001", RECORDS[1].text, {"n": "described"})])
    index.delete(["r000"])
    would = plan_reembedding(store, Other())
    assert (would.encoded, would.described, would.deleted) == (1, 2, 1)
    found = check(store, Other(), Hashing())
    assert (found.chunks, found.new_chunks, found.differing, found.sound) == (chunks, chunks, 3, True)
    assert found.agreement is not None
    assert 0 < found.agreement < 1
    judgements = Judgements([Question("q", RECORDS[5].text, {"r005": 1})])
    evaluated = check(store, Other(), Hashing(), judgements=judgements).evaluated
    assert evaluated is not None
    assert [each.name for each in evaluated.results][1:] == ["new"]


def test_no_faster_than_the_rate(store: Any) -> None:
    """The encoder gets few texts at a time, with pauses."""
    sizes: list[int] = []

    class Counting(Other):
        def submit_documents(self, texts: Any) -> Any:
            sizes.append(len(given := list(texts)))
            return super().submit_documents(given)

    begin = time.monotonic()
    report = reembed(store, Counting(), rate=100)
    assert time.monotonic() - begin >= (report.encoded - max(sizes)) / 100
    assert max(sizes) <= 16


def test_contents_across_the_switch(store: Any) -> None:
    """Contents that are open follow the store to its new space, and back."""
    contents, record = Contents(store), RECORDS[7]
    assert [each.vector.size for each in contents.read([record.id])] == [16] * 4
    ids = contents.record_ids()
    next(ids)
    reembed(store, Other())
    switch(store, Other())
    assert [each.vector.size for each in contents.read([record.id])] == [24] * 4
    assert (contents.count(), contents.missing([record.id, "none"])) == (Contents(store).count(), ["none"])
    assert contents.search_words(record.text)[0].record_id == record.id
    assert contents.delete([record.id]) == 4
    back(store, Hashing())
    assert contents.delete(where={"n": 8}) == 1
    assert sorted(contents.record_ids()) == sorted(each.id for each in RECORDS if each.metadata["n"] not in (7, 8))


@pytest.mark.slow
def test_by_workers(postgres: str, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes give the same result; a record that crashes them is found and reported."""
    monkeypatch.setattr(filling, "_RECORDS", 4)
    with PgVectorStore(postgres, table=table, keywords=True) as store:
        Index(store, Hashing(), chunking=CHUNKING).ingest(RECORDS)
        chunks = Contents(store).count()
        report = reembed(store, Deadly(), workers=2)
        assert [(id_, reason[:38]) for id_, reason in report.rejected] == [
            ("r017", "crashed the process that worked on it,")
        ]
        report = reembed(store, Other(), workers=2)
        assert (report.encoded, report.complete, report.rejected) == (RECORDS[17].text.count("."), True, [])
        assert report.total == chunks == Contents(store.beside("_next")).count()
        Index(store, Hashing(), chunking=CHUNKING).delete(["r003"])
        assert reembed(store, Other(), workers=1).deleted == 4
        switch(store, Other())
        found = content(store)
        other = PgVectorStore(postgres, table=f"{table}_clean", keywords=True)
        assert found == clean([each for each in RECORDS if each.id != "r003"], Other(), other)
        other.close()


def test_without_workers(store: Any) -> None:
    """A rate is not divided, and a folder of Qdrant Edge is open in one process only."""
    with pytest.raises(SettingError, match="rate limits a single process"):
        reembed(store, Other(), workers=2, rate=5)
    with pytest.raises(SettingError, match="workers must be"):
        reembed(store, Other(), workers=0)
    if isinstance(store, QdrantStore):
        with pytest.raises(SettingError, match="needs an index that other processes can open, but this store, .*"):
            reembed(store, Other(), workers=2)
        assert store.beside("_next").space() is None


@pytest.mark.slow
def test_other_chunks(store: Any, new_store: NewStore) -> None:
    """Other chunks need the source, and both places must have the same records."""
    index, wider = Index(new_store(), encoders=[Hashing(), Other()], chunking=CHUNKING), Chunking(tokens=40)
    with pytest.raises(StoreMissing, match="fill it with recut"):
        switch(store, Other(), recut=True)
    assert recut(store, Other(), RECORDS, chunking=wider).records == len(RECORDS)
    for changed in (
        Record("r003", "another text"),
        Record("r003", RECORDS[3].text, {"n": "described"}),
        Record("new", "a new text"),
    ):
        index.ingest([changed])
        assert check(store, Other(), recut=True).differing == 1
        with pytest.raises(StoreUnsuitable, match=f"1 record in all, such as '{changed.id}'"):
            switch(store, Other(), recut=True)
        index.ingest(RECORDS, prune=True)
    index.delete(["r009"])
    with pytest.raises(StoreUnsuitable, match="such as 'r009'"):
        switch(store, Other(), recut=True)
    recut(store, Other(), [each for each in RECORDS if each.id != "r009"], chunking=wider)
    assert switch(store, Other(), recut=True).complete
    assert index.search(RECORDS[1].text)[0].text == RECORDS[1].text  # of two sentences
    assert back(store, Hashing()).sound
    assert index.search(RECORDS[1].text)[0].record_id == "r001"


# -- tables


@pytest.mark.parametrize("workers", [None, 1])
def test_another_precision(postgres: str, table: str, workers: int | None) -> None:
    """The index stays usable while its precision changes; the report counts the bytes of the new vectors."""
    with PgVectorStore(postgres, table=table) as store:
        index = Index(store, Hashing(), chunking=CHUNKING)
        index.ingest(RECORDS)
        size = sum(len(each.chunk.text.encode()) + 4 * each.vector.size for each in Contents(store).read())
        assert reembed(store, Hashing(), precision="float32", workers=workers).bytes == size
        index.ingest([Record("new", "one more text")])
        assert switch(store, Hashing()).bytes == len("one more text") + 4 * Hashing().dimensions
        index.delete(["new"])
        assert store.layout().precision == "float32"
        assert index.search(RECORDS[4].text)[0].record_id == RECORDS[4].id
        assert index.ingest(RECORDS).written == 0
        back(store, Hashing())
        assert store.layout().precision == "float16"


def test_privileges_are_kept(postgres: str, table: str, new_role: Any) -> None:
    """The new table has exactly the old table's grants."""
    reader, other = new_role("reader"), new_role("other")
    with PgVectorStore(postgres, table=table) as store, psycopg.connect(postgres, autocommit=True) as connection:
        Index(store, Hashing(), chunking=CHUNKING).ingest(RECORDS)
        name, beside = sql.Identifier("public", table), sql.Identifier("public", f"{table}_next")
        grant = sql.SQL("GRANT {} ON {} TO {}")
        connection.execute(grant.format(sql.SQL("SELECT"), name, sql.Identifier(reader)))
        everybody = sql.SQL("ALTER DEFAULT PRIVILEGES IN SCHEMA public {} SELECT ON TABLES {} {}")
        who = sql.Identifier(other)
        connection.execute(everybody.format(sql.SQL("GRANT"), sql.SQL("TO"), who))
        reembed(store, Other())
        connection.execute(everybody.format(sql.SQL("REVOKE"), sql.SQL("FROM"), who))
        read = "SELECT has_table_privilege(%s, %s, 'SELECT')"
        assert connection.execute(read, [other, beside.as_string(connection)]).fetchone() == (False,)
        connection.execute(grant.format(sql.SQL("ALL"), beside, who))
        switch(store, Other())
        asked = "SELECT has_table_privilege(%s, %s, 'SELECT'), has_table_privilege(%s, %s, 'INSERT')"
        for role, rights in ((reader, (True, False)), (other, (False, False))):
            where = name.as_string(connection)
            assert connection.execute(asked, [role, where] * 2).fetchone() == rights


class Watching(Other):
    """A model that notes whether a role may read a table whenever it encodes a text for it."""

    def __init__(self, place: str, role: str, table: sql.Identifier) -> None:
        super().__init__()
        self._place, self._asked = place, [role, table.as_string()]
        self.noted: list[bool] = []

    def submit_documents(self, texts: Any) -> Any:
        with psycopg.connect(self._place) as connection:
            query = "SELECT has_table_privilege(%s, %s, 'SELECT')"
            self.noted += [may for (may,) in connection.execute(query, self._asked).fetchall()]
        return super().submit_documents(texts)


@pytest.mark.parametrize("turn", ["reembed", "switch", "recut"])
def test_a_table_that_was_created_and_not_yet_shared(
    database: str, new_role: Any, monkeypatch: pytest.MonkeyPatch, turn: str
) -> None:
    """After a kill at that moment, no run fills it before the schema's default privileges are taken back."""

    def die(_: object) -> None:
        raise KeyboardInterrupt

    stranger, reader = new_role("stranger"), new_role("reader")
    table = sql.Identifier("public", "docs_recut" if turn == "recut" else "docs_next")
    model = Watching(database, stranger, table)
    turns: dict[str, Callable[[Any, Other], Any]] = {
        "reembed": reembed,
        "switch": switch,
        "recut": lambda store, model: recut(store, model, RECORDS, chunking=Chunking(tokens=40)),
    }
    with PgVectorStore(database, table="docs") as store, psycopg.connect(database, autocommit=True) as connection:
        Index(store, Hashing(), chunking=CHUNKING).ingest(RECORDS)
        connection.execute(sql.SQL("GRANT SELECT ON docs TO {}").format(sql.Identifier(reader)))
        default = sql.SQL("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {}")
        connection.execute(default.format(sql.Identifier(stranger)))
        with monkeypatch.context() as patch:
            patch.setattr(exchanging.TableExchange, "share", die)
            with pytest.raises(KeyboardInterrupt):
                turns["recut" if turn == "recut" else "reembed"](store, Other())
        turns[turn](store, model)
        assert (set(model.noted), len(model.encoded) >= len(RECORDS)) == ({False}, True)
        if turn != "switch":  # which gives it another name
            asked = [reader, table.as_string()]
            assert connection.execute("SELECT has_table_privilege(%s, %s, 'SELECT')", asked).fetchone() == (True,)


def test_dependent_objects(postgres: str, table: str) -> None:
    """A table with dependent objects is refused before anything is filled."""
    with PgVectorStore(postgres, table=table) as store, psycopg.connect(postgres, autocommit=True) as connection:
        Index(store, Hashing(), chunking=CHUNKING).ingest(RECORDS)
        name = sql.Identifier("public", table)
        store.create_langchain_view("of langchain", as_owner=True)
        with pytest.raises(StoreUnsuitable, match="has a view 'public.\"of langchain\"'"):
            reembed(store, Other())
        connection.execute('DROP VIEW "of langchain"')
        connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN mine int").format(name))
        with pytest.raises(StoreUnsuitable, match="has a column 'mine'"):
            reembed(store, Other())
        connection.execute(sql.SQL("ALTER TABLE {} DROP COLUMN mine").format(name))
        connection.execute(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(name))
        with pytest.raises(StoreUnsuitable, match="has row-level security"):
            reembed(store, Other())
        assert spaces(store).next is None


@pytest.mark.parametrize("size", [1, 2])
def test_in_a_small_pool(postgres: str, table: str, size: int) -> None:
    """The caller's pool works even if writers that wait for the switch hold all its other connections."""
    writers: list[Future[Any]] = []

    def tell(report: ReembedReport) -> None:
        if report.stage == "switching" and not writers:
            writers.append(threads.submit(index.ingest, [Record("late", "to be caught up")]))
            writers[0].result()

    class Last(Other):
        """A model that makes writers wait during the last encoding before the switch."""

        def submit_documents(self, texts: Any) -> Any:
            if writers:
                writers.extend(threads.submit(index.ingest, [Record(f"w{each}", "waited")]) for each in range(2))
                time.sleep(0.3)
            return super().submit_documents(texts)

    with (
        ConnectionPool(postgres, min_size=1, max_size=size, open=True) as pool,
        PgVectorStore(pool, table, retry_for=5) as store,
        ThreadPoolExecutor(2) as threads,
    ):
        index = Index(store, encoders=[Hashing(), Other()], chunking=CHUNKING)
        index.ingest(RECORDS)
        reembed(store, Other())
        assert switch(store, Last(), on_progress=tell).complete
        assert [each.result().written for each in writers] == [1, 1, 1]
        assert index.search("waited", 2)[0].text == "waited"
        assert set(index.record_ids()) == {*(each.id for each in RECORDS), "late", "w0", "w1"}
        assert back(store, Hashing()).complete
        assert index.count() == sum(each.vector.size == 16 for each in index.read())


def test_a_connection_lost_during_a_switch(postgres: str, table: str) -> None:
    """The switch starts again on another connection, the last encoding included."""
    lost: list[int] = []
    late: list[IngestReport] = []

    class Losing(Other):
        """A model that once terminates the session that keeps writers out."""

        def submit_documents(self, texts: Any) -> Any:
            if not lost:
                with psycopg.connect(postgres, autocommit=True) as other:
                    lost.append(other.execute(_TERMINATE).rowcount)
            return super().submit_documents(texts)

    def tell(report: ReembedReport) -> None:
        if report.stage == "switching" and not late:
            late.append(index.ingest([Record("late", "to be caught up")]))

    with PgVectorStore(postgres, table=table, retry_for=5) as store:
        index = Index(store, Hashing(), chunking=CHUNKING)
        index.ingest(RECORDS)
        reembed(store, Other())
        assert switch(store, Losing(), on_progress=tell).complete
        assert lost == [1]
        assert "late" in set(Contents(store).record_ids())


_TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"


@pytest.mark.slow
def test_a_long_reading_transaction(postgres: str, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch waits for it in short intervals between which others continue; after too long, it changes nothing."""
    monkeypatch.setattr(comparing, "ATTEMPTS", 2)
    monkeypatch.setattr(comparing, "_ENDS", 2)
    with PgVectorStore(postgres, table=table) as store, psycopg.connect(postgres) as reading:
        index = Index(store, Hashing(), chunking=CHUNKING)
        index.ingest(RECORDS)
        reembed(store, Other())
        reading.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("public", table)))
        with pytest.raises(StoreUnavailable, match="a transaction that reads it has been running for a long time"):
            switch(store, Other())
        assert index.search(RECORDS[4].text)[0].record_id == RECORDS[4].id
        assert index.ingest([Record("late", "to be caught up")]).written == 1
        reading.rollback()
        switch(store, Other())
        assert "late" in set(Contents(store).record_ids())


# -- an Index of several encoders


def test_refusals_of_an_index_of_both(store: Any, new_store: NewStore) -> None:
    """Given vectors are refused, and so is a third space."""
    index = Index(new_store(), encoders=[Hashing(), Other()])
    for call in (
        lambda: index.search_vectors(np.ones((1, 16))),
        lambda: index.ingest(RECORDS[:1], vectors=np.ones((1, 16))),
    ):
        with pytest.raises(SettingError, match="vectors do not identify which of several encoders made them"):
            call()
    with pytest.raises(SettingError, match="got both"):
        Index(store, Hashing(), encoders=[Other()])
    with pytest.raises(SettingError, match="must have at least one"):
        Index(store, encoders=[])
    third = Other()
    third.space = replace(Other.space, weights="w3")
    with pytest.raises(WrongSpace):
        Index(new_store(), encoders=[third, Other()]).search("anything")


def test_pickle_and_repr(tmp_path: Path) -> None:
    """Both include all encoders; the first one creates a missing place."""
    encoders = [Encoder("harrier-270m"), Encoder("harrier-0.6b")]
    index = pickle.loads(pickle.dumps(Index("postgresql://host/db", encoders=encoders)))
    assert "encoders=[Encoder('harrier-270m'" in repr(index)
    assert "Encoder('harrier-0.6b'" in repr(index)
    with QdrantStore.embedded(tmp_path) as place:
        either = Index(place, encoders=[Other(), Hashing()])
        with pytest.raises(StoreMissing):
            either.search("anything")
        assert either.plan(RECORDS[:2]).encoded == 2
        either.ingest(RECORDS[:2])
        assert place.space() == Other.space


def test_async(store: Any, new_store: NewStore) -> None:
    """Async methods give the same results."""
    index = Index(new_store(), encoders=[Hashing(), Other()], chunking=CHUNKING)

    async def search() -> str:
        [match, *_] = await index.asearch(RECORDS[8].text)
        return match.record_id

    reembed(store, Other())
    assert asyncio.run(search()) == RECORDS[8].id
    switch(store, Other())
    assert asyncio.run(search()) == RECORDS[8].id
    assert asyncio.run(index.aingest(RECORDS)).written == 0


@pytest.mark.slow
def test_a_grace_period(store: Any, new_store: NewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers of the old model can read the old place for a while, and write nothing."""
    old, strict = (Index(new_store(), Hashing(), chunking=CHUNKING, grace=each) for each in (60.0, None))
    text = RECORDS[0].text
    assert old.search(text)[0].record_id == "r000"
    reembed(store, Other())
    switch(store, Other())
    with pytest.raises(WrongSpace):
        strict.search(text)
    assert old.search(text)[0].record_id == "r000"
    assert old.count() == len(content(store))
    for write in (lambda: old.ingest(RECORDS[:1]), lambda: old.delete(["r000"])):
        with pytest.raises(WrongSpace):
            write()
    back(store, Hashing())
    old.delete(["r000"])  # it is the index again
    assert old.missing(["r000"]) == ["r000"]
    switch(store, Other())
    assert old.search(text)
    now = time.monotonic()
    monkeypatch.setattr(turning, "_now", lambda: now + 61)
    with pytest.raises(WrongSpace):
        old.search(text)
    monkeypatch.undo()
    other = Index(new_store(), Hashing(), grace=60.0)
    assert other.search(text)
    drop_old(store)
    with pytest.raises(WrongSpace):
        other.search(text)
    with pytest.raises(SettingError, match="grace must be a positive number of seconds"):
        Index(store, Hashing(), grace=-1)
