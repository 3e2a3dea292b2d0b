"""The number of round trips between a store and its server, counted on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from harrier_pgvector.opened import OpenTable
from ingesting import Hashing
from psycopg import capabilities, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from turnarounds import Proxy, proxied

from harrier_core import Chunk, EmbeddingSpace, Index, Record, Search, StoreMissing, Write, Written, WrongSpace
from harrier_core.lexical import query_terms
from harrier_core.query import WordSearch

_SENT = 0.2  # seconds, enough for a client to send everything before it waits, even on a busy machine

RECORDS = [Record(f"r{number}", f"text number {number}", {"n": number}) for number in range(1_200)]

pytestmark = pytest.mark.skipif(
    not capabilities.has_pipeline(), reason="libpq is older than 14, and has no pipelines; install a newer one"
)


@pytest.fixture
def proxy(postgres: str) -> Iterator[Proxy]:
    given = conninfo_to_dict(postgres)
    host, port = str(given["host"]), int(given.get("port") or 5432)
    with proxied(str(Path(host, f".s.PGSQL.{port}")) if host.startswith("/") else port) as proxy:
        yield proxy


@pytest.fixture
def index(postgres: str, proxy: Proxy, table: str) -> Iterator[Index]:
    place = make_conninfo(postgres, host="127.0.0.1", port=proxy.port, sslmode="disable", gssencmode="disable")
    with Index(PgVectorStore(place, table=table, keywords=True), Hashing()) as index:
        index.ingest(RECORDS)
        yield index


def execute(postgres: str, statement: str, *names: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def turnarounds_of(call: Callable[[], object], proxy: Proxy) -> int:
    """Return the number of round trips of a call that finds something."""
    before, proxy.delay = proxy.turnarounds, _SENT
    assert call()
    proxy.delay = 0
    return proxy.turnarounds - before


def test_one_round_trip(index: Index, proxy: Proxy) -> None:
    """Each call on an open index takes one round trip, including the check of its space."""
    vectors = Hashing().encode_queries(["text"] * 10)
    calls: list[Callable[[], object]] = [
        lambda: index.search("text", k=3),
        lambda: index.search_many([f"text number {number}" for number in range(10)]),
        lambda: index.search("text", k=3, where={"n": {"$lt": 100}}),
        lambda: index.search("text", k=30, where={"n": {"$lt": 10}}),  # of which there are ten
        lambda: index.search_vectors(vectors, exact=True),
        lambda: index.search_diverse("text"),
        lambda: index.search("number 7", k=3, mode="keyword"),
        lambda: index.search("number 7", k=3, mode="hybrid"),
        lambda: index.search("text", k=30, mode="hybrid", where={"n": {"$lt": 10}}),
        lambda: index.search_many([f"text number {number}" for number in range(10)], mode="hybrid"),
        index.count,
        lambda: index._opened().known([record.id for record in RECORDS]),
    ]
    for call in calls:
        assert turnarounds_of(call, proxy) == 1


def test_a_table_that_was_replaced(index: Index, proxy: Proxy, postgres: str, table: str) -> None:
    """A replaced table is noticed in the same round trip by its space, or used if the space is equal."""
    assert len(index.search("text", k=3)) == 3
    execute(postgres, "DROP TABLE {}", table)
    uses: list[Callable[[], object]] = [lambda: index.search("text"), index.count]
    uses.append(lambda: index._opened().known(["r1"]))
    for use in uses:
        with pytest.raises(StoreMissing):
            use()
    assert index.delete(["r1"]) == 0
    assert index.plan(RECORDS[:2]).written == 2
    with pytest.raises(StoreMissing):
        index.build_indexes()
    with Index(PgVectorStore(postgres, table=table), Hashing()) as own:
        own.ingest([Record("new", "new")])
    assert [match.record_id for match in index.search("text", k=3)] == ["new"]
    assert index.count() == 1
    assert turnarounds_of(index.count, proxy) == 1
    execute(postgres, "DROP TABLE {}", table)
    with PgVectorStore(postgres, table=table) as other:
        other.open(EmbeddingSpace("other", None, "v", "t", 16, "last token", "l2", "{text}"), create=True)
    uses += [lambda: index.delete(["new"]), lambda: index.ingest([])]
    for use in uses:
        with pytest.raises(WrongSpace, match="the weights differ"):
            use()


OTHER = replace(Hashing.space, weights="v")


class Another(Hashing):
    """An encoder of another space with equal dimensions."""

    space = OTHER


def write(table: OpenTable, record: Record) -> Written:
    chunk, vectors = Chunk.of(record, 0, 0, record.text), Hashing().encode_queries(["mine"])
    return table.write(Write({record.id: 1}, [chunk], vectors, [], {record.id: {}}))


WHILE_IT_IS_REPLACED: list[Callable[[OpenTable], object]] = [
    lambda table: table.search(Search(Hashing().encode_queries(["theirs"]), 1)),
    lambda table: table.search_words(WordSearch([query_terms("theirs")], 1)),
    lambda table: table.known(["theirs"]),
    lambda table: list(table.record_ids()),
    lambda table: list(table.read()),
    OpenTable.count,
    lambda table: table.delete(["theirs"]),
    lambda table: write(table, Record("mine", "mine")),
]


@pytest.mark.parametrize("use", WHILE_IT_IS_REPLACED)
def test_a_table_that_is_being_replaced(postgres: str, table: str, use: Callable[[OpenTable], object]) -> None:
    """A call that waited for a replacement by another space is rolled back."""
    with (
        Index(PgVectorStore(postgres, table=table, keywords=True), Hashing()) as mine,
        Index(PgVectorStore(postgres, table=f"{table} new"), Another()) as theirs,
    ):
        mine.ingest([Record("mine", "mine")])
        theirs.ingest([Record("theirs", "theirs")])
        opened = mine._opened()
        assert isinstance(opened, OpenTable)
        with psycopg.connect(postgres) as connection, ThreadPoolExecutor(1) as pool:
            for old, new in ((table, f"{table} old"), (f"{table} new", table)):
                names = map(sql.Identifier, (old, new))
                connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(*names))
            used = pool.submit(use, opened)
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            with psycopg.connect(postgres, autocommit=True) as watching:
                while watching.execute(waiting).fetchone() == (0,):
                    assert not used.done()
            connection.commit()
            with pytest.raises(WrongSpace, match="the weights differ"):
                used.result(60)
        with Index(PgVectorStore(postgres, table=table), Another()) as now:
            assert list(now.record_ids()) == ["theirs"]
