"""Two tables exchange their names: what is refused, what the new table gets, and what writers wait for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import psycopg
import pytest
from harrier_pgvector import PgVectorStore, comparing
from harrier_pgvector.comparing import Comparison
from harrier_pgvector.connections import Connections, Held
from harrier_pgvector.opened import OpenTable
from ingesting import CHUNKING, Hashing, before
from psycopg.conninfo import make_conninfo
from reembeds import Other, models
from syncs import Execute

from harrier_core import Contents, Index, Record, StoreUnavailable, StoreUnsuitable, StoreWarning
from harrier_core.migration import ReembedReport, back, reembed, spaces, switch

RECORDS = list(before())[:20]


@pytest.fixture
def store(database: str) -> Iterator[PgVectorStore]:
    """Return the store of table docs, with some records of the old model."""
    with PgVectorStore(database, table="docs") as made:
        Index(made, Hashing(), chunking=CHUNKING).ingest(RECORDS)
        yield made


# Objects that keep using the old table under whatever name, or that the new one would lack.
LOST = [
    (
        "CREATE FUNCTION texts() RETURNS SETOF text BEGIN ATOMIC SELECT text FROM docs; END",
        "DROP FUNCTION texts()",
        r"a dependent object 'function public.texts\(\)'",
    ),
    (
        "CREATE FUNCTION text_of(docs) RETURNS text LANGUAGE sql AS 'SELECT $1.text'",
        "DROP FUNCTION text_of(docs)",
        r"a dependent object 'function public.text_of\(public.docs\)'",
    ),
    ("CREATE TABLE kept (chunk docs)", "DROP TABLE kept", "a dependent object 'column chunk of table public.kept'"),
    (
        "CREATE RULE quiet AS ON DELETE TO docs WHERE old.number = -1 DO INSTEAD NOTHING",
        "DROP RULE quiet ON docs",
        "a rule 'quiet'",
    ),
    (
        """
        CREATE SUBSCRIPTION mine CONNECTION '' PUBLICATION theirs WITH (connect = false);
        INSERT INTO pg_subscription_rel SELECT oid, 'docs'::regclass, 'r' FROM pg_subscription
        """,
        "DELETE FROM pg_subscription_rel; ALTER SUBSCRIPTION mine SET (slot_name = NONE); DROP SUBSCRIPTION mine",
        "a subscription",
    ),
    (
        "ALTER TABLE docs REPLICA IDENTITY USING INDEX docs_pkey",
        "ALTER TABLE docs REPLICA IDENTITY DEFAULT",
        "a replica identity 'public.docs_pkey'",
    ),
]


def test_what_would_be_lost(store: PgVectorStore, execute: Execute) -> None:
    """It is refused before anything is filled."""
    for create, drop, said in LOST:
        run(execute, create)
        with pytest.raises(StoreUnsuitable, match=f"table public.docs has {said}, which the new table would lack"):
            reembed(store, Other())
        run(execute, drop)
    assert spaces(store).next is None


OWN = [
    ("CREATE INDEX tenants ON {} ((metadata ->> 'tenant'))", "an index 'tenants'"),
    ("CREATE INDEX near ON {} USING hnsw (embedding halfvec_l2_ops)", "an index 'near'"),
    ("ALTER TABLE {} ADD CONSTRAINT short CHECK (length(text) < 10000)", "a constraint 'short'"),
    ("CREATE STATISTICS pairs ON record_id, number FROM {}", "statistics 'pairs'"),
]


def test_objects_that_both_tables_must_have(store: PgVectorStore, execute: Execute) -> None:
    """The owner's indexes, constraints and statistics are refused until the new table has the same ones."""
    reembed(store, Other())
    for create, said in OWN:
        run(execute, create.format("docs"))
        reembed(store, Other())  # an interrupted one continues
        with pytest.raises(StoreUnsuitable, match=f"has {said}, which table public.docs_next lacks; create it there"):
            switch(store, Other())
        own = create.replace("INDEX ", "INDEX next_").replace("STATISTICS ", "STATISTICS next_")
        run(execute, own.format("docs_next"))
    assert switch(store, Other()).complete
    assert back(store, Hashing()).complete


def test_indexes_of_the_kit(database: str, execute: Execute) -> None:
    """They are built for the new table as well, and never refused."""
    records = [Record(f"r{n}", f"the text of record {n}", {"year": n}) for n in range(1_050)]
    with PgVectorStore(database, table="docs", keywords=True, indexes={"year": "integer"}) as store:
        Index(store, Hashing()).ingest(records)
        indexes = "SELECT count(*) FROM pg_index WHERE indrelid = '{}'::regclass"
        assert execute(indexes.format("docs")) == [(5,)]
        reembed(store, Other(), build_indexes=False)
        assert switch(store, Other()).complete
        assert execute(indexes.format("docs")) == [(5,)]


@pytest.mark.parametrize("added", ["before the switch", "before the way back"])
def test_words_that_one_table_lacks(store: PgVectorStore, added: str) -> None:
    """Searches by word would fail after the exchange, which is refused until they are added."""
    reembed(store, Other())
    turn: Callable[..., ReembedReport] = switch
    model: Hashing = Other()
    other = "_next"
    if added == "before the way back":
        switch(store, Other())
        turn, model, other = back, Hashing(), "_before"
    index = Index(store, encoders=models(), chunking=CHUNKING)
    index.add_keywords()
    with pytest.raises(StoreUnsuitable, match=f"docs can be searched by word, and table public.docs{other} cannot"):
        turn(store, model)
    with store.beside(other) as lacking:
        Contents(lacking).add_keywords()
    assert turn(store, model).complete
    assert index.search("record", 3, mode="keyword")


def test_an_index_that_could_not_be_built(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch to a large table without it is refused: searches would compare all vectors."""
    records = [Record(f"r{n}", f"the text of record {n}") for n in range(1_050)]
    with PgVectorStore(database, table="docs") as store, psycopg.connect(database) as filling:
        Index(store, Hashing()).ingest(records)
        reembed(store, Other(), build_indexes=False)
        build = OpenTable.build_indexes

        def built(table: OpenTable) -> None:
            filling.execute("LOCK TABLE docs_next IN ROW EXCLUSIVE MODE")  # as another re-embedding that catches up
            build(table)
            filling.rollback()

        monkeypatch.setattr(OpenTable, "build_indexes", built)
        with (
            pytest.warns(StoreWarning, match="indexes of public.docs_next were not built"),
            pytest.raises(StoreUnavailable, match="which could not be built for table public.docs_next"),
        ):
            switch(store, Other())
        monkeypatch.setattr(OpenTable, "build_indexes", build)
        assert switch(store, Other()).complete


def test_settings_of_the_table(store: PgVectorStore, execute: Execute) -> None:
    """The new table gets the storage parameters and the replica identity that the old one has at the switch."""
    execute("ALTER TABLE docs SET (autovacuum_vacuum_scale_factor = 0.01, toast.autovacuum_enabled = false)")
    reembed(store, Other())
    execute("ALTER TABLE docs SET (fillfactor = 70)")
    execute("ALTER TABLE docs REPLICA IDENTITY FULL")
    execute("ALTER TABLE docs_next SET (parallel_workers = 2)")
    asked = """
        SELECT c.relreplident, array(SELECT unnest(c.reloptions) ORDER BY 1), t.reloptions
        FROM pg_class AS c JOIN pg_class AS t ON t.oid = c.reltoastrelid WHERE c.oid = 'docs'::regclass"""
    settings = execute(asked)
    assert settings[0][1:] == (
        ["autovacuum_vacuum_scale_factor=0.01", "fillfactor=70"],
        ["autovacuum_enabled=false"],
    )
    switch(store, Other())
    assert execute(asked) == settings


@pytest.mark.parametrize("scope", ["ALL TABLES", "TABLES IN SCHEMA public"])
def test_publications_of_all_tables(store: PgVectorStore, execute: Execute, scope: str) -> None:
    """Both tables are in them; that subscribers will get other vectors under the same name is said, at every step."""
    execute(f"CREATE PUBLICATION everything FOR {scope}")
    for step in (reembed, switch):
        with pytest.warns(StoreWarning, match="publication 'everything' .* subscribers"):
            step(store, Other())


def run(execute: Execute, statements: str) -> None:
    """Run statements one by one: some must not share a transaction with others."""
    for statement in statements.split(";") if "BEGIN ATOMIC" not in statements else [statements]:
        execute(statement)


# -- what writers wait for


class Compared:
    """How many pages of all records are compared, while others can write and while they cannot."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pages = {Connections: 0, Held: 0}
        page = Comparison._page

        def counted(comparison: Comparison, *given: Any) -> Any:
            self.pages[type(comparison.connections)] += 1
            return page(comparison, *given)

        monkeypatch.setattr(comparing, "_PAGE", 10)
        monkeypatch.setattr(Comparison, "_page", counted)


# What an application may do between the comparison of all records and the moment when writers have to wait.
CHANGES = [
    "DELETE FROM docs WHERE record_id = 'r003'",
    "UPDATE docs SET record_id = 'moved' WHERE record_id = 'r004'",
    """
    INSERT INTO docs SELECT 'copied', number, text, metadata, start_at, end_at, hash, embedding FROM docs
    WHERE record_id = 'r005'
    """,
    "SET session_replication_role = replica",  # as in a session that applies changes from elsewhere
    "DELETE FROM docs WHERE record_id = 'r006'",
    "SET session_replication_role = origin",
]


def test_only_changes_are_compared_while_writers_wait(
    store: PgVectorStore, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are carried over whoever made them, in either direction, and nothing that notes them is left."""
    compared = Compared(monkeypatch)
    reembed(store, Other())
    for turn, model in ((switch, Other()), (back, Hashing())):
        changes = list(CHANGES) if turn is switch else [each.replace("r00", "r01") for each in CHANGES[:1]]

        def tell(report: ReembedReport, changes: list[str] = changes) -> None:
            while report.stage == "switching" and changes:
                execute(changes.pop(0))

        compared.pages[Connections] = 0
        assert turn(store, model, on_progress=tell).complete
        assert changes == []
        assert compared.pages[Connections] >= 2
        assert compared.pages[Held] == 0
        ids = set(Contents(store).record_ids())
        assert ids & {"r003", "r004", "r006", "moved", "copied"} == {"moved", "copied"}
        for each in Index(store, model).read():
            assert np.allclose(each.vector, model.encode_documents([each.chunk.text])[0], atol=1e-3)
    assert noted(execute) == []


@pytest.mark.parametrize(
    "change",
    [
        "TRUNCATE docs",
        """
        ALTER TABLE docs DISABLE TRIGGER ALL; DELETE FROM docs WHERE record_id = 'r003';
        ALTER TABLE docs ENABLE TRIGGER ALL
        """,
    ],
)
def test_changes_that_triggers_do_not_describe(
    store: PgVectorStore, execute: Execute, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """All records are compared again, while others can write."""
    compared = Compared(monkeypatch)
    reembed(store, Other())
    changes = change.split(";")

    def tell(report: ReembedReport) -> None:
        while report.stage == "switching" and changes:
            execute(changes.pop(0))

    assert switch(store, Other(), on_progress=tell).complete
    assert changes == []
    assert compared.pages[Held] == 0
    assert set(Contents(store).record_ids()) == (
        set() if "TRUNCATE" in change else {each.id for each in RECORDS} - {"r003"}
    )
    assert noted(execute) == []


def test_triggers_of_a_switch_that_was_killed(store: PgVectorStore, execute: Execute) -> None:
    """The next switch removes them; until then, writers can write."""
    reembed(store, Other())
    killed = store.exchange("_next", "_before")
    killed._comparison.begin()
    Index(store, Hashing()).ingest([Record("late", "to be caught up")])
    assert noted(execute) != []
    reembed(store, Other())
    assert switch(store, Other()).complete
    assert "late" in set(Contents(store).record_ids())
    assert noted(execute) == []


def test_two_switches_at_once(database: str, store: PgVectorStore, execute: Execute) -> None:
    """One that ends while a reader is in the way does not make the other one miss changes."""
    reembed(store, Other())
    first, second = (store.exchange("_next", "_before")._comparison for _ in range(2))
    first.begin()
    assert list(first.differing()) == []
    second.begin()
    with psycopg.connect(database) as reader:
        reader.execute("SELECT FROM docs")
        execute("DELETE FROM docs WHERE record_id = 'r003'")
        second.end()
        assert list(first.differing()) == [["r003"]]
    silenced = store.exchange("_next", "_before")._comparison
    silenced.begin()
    assert list(silenced.differing()) == [["r003"]]
    assert silenced.is_known
    noting = silenced._noting
    assert noting is not None
    with psycopg.connect(database, autocommit=True) as other:
        noting.silence(other, silenced._oids)
    execute("DELETE FROM docs WHERE record_id = 'r004'")
    assert sorted(chain.from_iterable(silenced.differing())) == ["r003", "r004"]
    first.end()
    silenced.end()
    assert len(noted(execute)) == 2  # those of the second one, which a reader was in the way of
    switch(store, Other())
    assert noted(execute) == []


def test_no_subscriber_looks_for_the_notes(store: PgVectorStore, execute: Execute) -> None:
    """A publication of all tables does not contain them."""
    execute("CREATE PUBLICATION everything FOR ALL TABLES")
    with pytest.warns(StoreWarning, match="everything"):
        reembed(store, Other())
    comparison = store.exchange("_next", "_before")._comparison
    comparison.begin()
    published = execute("SELECT tablename FROM pg_publication_tables WHERE pubname = 'everything'")
    assert ("docs",) in published
    assert not [name for (name,) in published if name.startswith("harrier_noted")]
    comparison.end()
    execute("DROP PUBLICATION everything")


def test_a_refused_switch(store: PgVectorStore, execute: Execute) -> None:
    """It leaves no triggers behind."""
    reembed(store, Other())

    def tell(report: ReembedReport) -> None:
        if report.stage == "switching" and execute("SELECT to_regclass('mine') IS NULL") == [(True,)]:
            execute("CREATE VIEW mine AS SELECT text FROM docs")

    with pytest.raises(StoreUnsuitable, match="has a view 'public.mine'"):
        switch(store, Other(), on_progress=tell)
    assert noted(execute) == []
    assert spaces(store).next == Other.space


class Slow(Other):
    """A model that takes longer for the last changes than a transaction may take."""

    def submit_documents(self, texts: Any) -> Any:
        time.sleep(0.5)
        return super().submit_documents(texts)


def test_the_time_limits_of_a_user(database: str, store: PgVectorStore, execute: Execute) -> None:
    """They do not end the switch."""
    reembed(store, Other())
    index = Index(store, Hashing(), chunking=CHUNKING)
    late = [Record("late", "to be caught up")]

    def tell(report: ReembedReport) -> None:
        if report.stage == "switching" and late:
            index.ingest([late.pop()])

    limits = "-c idle_in_transaction_session_timeout=300ms -c statement_timeout=300ms"
    if execute("SELECT current_setting('server_version_num')::int >= 170000") == [(True,)]:
        limits += " -c transaction_timeout=300ms"
    with PgVectorStore(make_conninfo(database, options=limits), table="docs") as limited:
        assert switch(limited, Slow(), on_progress=tell).complete


def noted(execute: Execute) -> list[Any]:
    """Return the functions and tables that note changes."""
    return execute(
        "SELECT proname FROM pg_proc WHERE proname LIKE 'harrier_noted%' UNION ALL "
        "SELECT relname FROM pg_class WHERE relname LIKE 'harrier_noted%'"
    )
