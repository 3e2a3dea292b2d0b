"""Two tables exchange their names: what is refused, what the new table gets, and what writers wait for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harrier_pgvector import PgVectorStore
from ingesting import CHUNKING, Hashing, before
from reembeds import Other
from syncs import Execute

from harrier_core import Index, Record, StoreUnsuitable, StoreWarning
from harrier_core.migration import back, reembed, spaces, switch

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
