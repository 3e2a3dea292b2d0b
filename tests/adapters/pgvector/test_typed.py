"""Indexes on metadata fields: they find what the filters mean, and the planner uses them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import psycopg
import pytest
from databases import NewDatabase
from harrier_pgvector import PgVectorStore, near
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.session import ask_then_look
from harrier_pgvector.typed import Typed, compile_where, is_served, keys_in, keys_of
from hypothesis import given
from hypothesis import strategies as st
from ingesting import DIMENSIONS, Hashing
from psycopg import sql

from harrier_core import Index, IndexKind, Record, Search, SettingError
from harrier_core.filters import All, Between, Condition, Equal, Order, meets, parse
from harrier_core.records import Chunk
from harrier_core.store import Write

INDEXES: dict[str, IndexKind] = {"n": "float", "i": "integer", "s": "keyword", "b": "bool", 'q"% \\': "keyword"}
FIELDS = [*INDEXES, "other"]

SCALARS: list[Any] = [
    *(0, 1, -1, 2, 2.0, 0.5, -0.0, 1e20, 1e-7, 10**17 + 1, 10**300, True, False, None),
    *("", "a", "B", "b", "é", "z", "[]", "[", "{}", "1", "true", "NaN", "\U0010ffff", "ﬀ", "😀", '"', "\\", "%s"),
    *("x" * 255, "x" * 256, "x" * 257 + "y", "x" * 256 + "é", "é" * 128, "😀" * 300, "y" * 20_000),
]
values = st.one_of(
    st.sampled_from(SCALARS),
    st.lists(st.sampled_from([*SCALARS, [1], {"n": 1}]), max_size=3),
    st.just({"n": 1}),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4),
    st.integers(-3, 3),
)


def operand(operator: str, value: Any) -> bool:
    return operator == "$eq" or (value is not None and not isinstance(value, bool))


scalars = st.one_of(st.sampled_from(SCALARS), st.integers(-3, 3), st.text("abéZ[]", max_size=3))
leaves = st.builds(
    lambda field, operator, value: {field: {operator if operand(operator, value) else "$eq": value}},
    st.sampled_from(FIELDS),
    st.sampled_from(["$eq", "$gt", "$gte", "$lt", "$lte"]),
    scalars,
)
ranges = st.builds(
    lambda field, low, high: {field: {"$gte": low, "$lt": high}},
    st.sampled_from(FIELDS),
    st.one_of(st.integers(-3, 3), st.sampled_from(["", "a", "b", "["])),
    st.one_of(st.integers(-3, 3), st.sampled_from(["", "b", "é", "\\"])),
)
several = st.builds(
    lambda field, wanted: {field: {"$in": wanted}}, st.sampled_from(FIELDS), st.lists(scalars, max_size=4)
)
wheres = st.recursive(
    st.one_of(leaves, ranges, several),
    lambda inner: st.one_of(
        st.builds(lambda parts: {"$and": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda parts: {"$or": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda part: {"$not": part}, inner),
    ),
    max_leaves=6,
)


def put(opened: OpenTable, records: list[Record]) -> None:
    chunks = [Chunk.of(record, 0, 0, record.text) for record in records]
    known: dict[str, dict[int, bytes]] = {record.id: {} for record in records}
    vectors = np.random.default_rng(0).normal(size=(len(records), DIMENSIONS)).astype(np.float32)
    opened.write(Write(dict.fromkeys(known, 1), chunks, vectors, [], known))


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Return enough records for indexes, with every value in every field, alone and in lists."""
    chance = random.Random(0)

    def value() -> Any:
        own = chance.choice(SCALARS)
        return own if chance.random() < 0.7 else chance.sample([*SCALARS, [1], {"n": 1}], chance.randrange(4))

    all_of_them: list[dict[str, Any]] = [{field: value} for field in FIELDS for value in [*SCALARS, [], {"n": 1}, {}]]
    all_of_them += [{field: value() for field in chance.sample(FIELDS, chance.randint(0, 5))} for _ in range(1_000)]
    return [Record(f"r{number}", "text", metadata) for number, metadata in enumerate(all_of_them)]


@pytest.fixture(scope="module")
def typed(postgres: str, records: list[Record]) -> Iterator[OpenTable]:
    """Return a table with indexed fields, opened by a store without these settings."""
    with PgVectorStore(postgres, table="typed", indexes=INDEXES) as store:
        opened = store.open(Hashing.space, create=True)
        put(opened, records)
        opened.build_indexes()
    with PgVectorStore(postgres, table="typed") as store:
        yield store.open(Hashing.space)
        store.drop()


def met(records: list[Record], condition: Condition | None) -> set[str]:
    return {record.id for record in records if meets(record.metadata, condition)}


@given(wheres)
def test_conditions_find_exactly_what_they_mean(typed: OpenTable, records: list[Record], where: dict[str, Any]) -> None:
    """Each type is compared separately, and lists by element, also in searches."""
    condition = parse(where)
    expected = met(records, condition)
    assert {stored.chunk.record_id for stored in typed.read(where=condition)} == expected
    search = Search(np.ones((1, DIMENSIONS), np.float32), len(records), condition)
    [found] = typed.search(search)
    assert {match.record_id for match in found} == expected


def ids(opened: OpenTable, condition: Condition, scan: str) -> set[str]:
    """Return the rows that one kind of scan finds, if such a scan exists."""
    now = opened._opened
    where, bound = compile_where(condition, now.typed)
    query = sql.SQL("SELECT record_id FROM {} WHERE {}").format(now.table.name, where)

    def work(connection: psycopg.Connection[Any]) -> set[str]:
        with connection.transaction():
            for other in {"seqscan", "bitmapscan", "indexscan"} - {scan}:
                connection.execute(f"SET LOCAL enable_{other} = off")
            return {row for (row,) in connection.execute(query, bound)}

    return opened._connections.run(work)


def _alike(value: object, other: object) -> bool:
    texts = isinstance(value, str), isinstance(other, str)
    return all(texts) or (not any(texts) and other is not None and not isinstance(other, bool))


@pytest.mark.slow
@pytest.mark.parametrize("scan", ["seqscan", "bitmapscan"])
def test_every_comparison(typed: OpenTable, records: list[Record], scan: str) -> None:
    """Every pair of values is compared in fields of every kind, with and without indexes."""
    assert typed._opened.typed.keys == set(keys_of(INDEXES))
    for field in ("n", "s", "b"):
        for value in SCALARS:
            conditions: list[Condition] = [Equal((field,), value), All((Equal((field,), value), Equal((field,), 1)))]
            if value is not None and not isinstance(value, bool):
                conditions += [Order((field,), operator, value) for operator in ("$gt", "$gte", "$lt", "$lte")]
                conditions += [Between((field,), value, high) for high in SCALARS if _alike(value, high)]
            for condition in conditions:
                assert ids(typed, condition, scan) == met(records, condition), condition


@given(wheres)
def test_a_field_without_an_index(where: dict[str, Any]) -> None:
    """Conditions on it are compiled as before."""
    condition = parse(where)
    plain, bound = compile_where(condition, Typed())
    assert compile_where(condition, Typed(frozenset({("elsewhere", "number")}), by_code_point=True))[1] == bound
    assert "CASE" not in plain.as_string()


SERVED: list[tuple[dict[str, Any], bool, bool]] = [  # a condition, and whether indexes find its rows: GIN's, and keys'
    ({"other": 1}, True, False),
    ({"n": 1}, True, True),
    ({"n": {"$gt": 1, "$lt": 3}}, False, True),
    ({"n": 1, "other": 1}, True, False),
    ({"n": 1, "s": {"$contains": "a"}}, False, False),
    ({"n": {"$in": [1, 2]}}, True, True),
    ({"n": {"$in": list(range(1_001))}}, False, False),
    ({"$or": [{"n": 1}, {"s": "a"}]}, True, True),
    ({"$or": [{"n": 1}, {"other": {"$exists": True}}]}, False, False),
    ({"$not": {"n": 1}}, False, False),
]


@pytest.mark.parametrize(("where", "by_containment", "by_keys"), SERVED)
def test_conditions_served_by_indexes(where: dict[str, Any], by_containment: bool, by_keys: bool) -> None:
    """For such conditions, the vector index need not visit many rows."""
    condition = parse(where)
    assert is_served(condition, Typed(), by_containment=True) is by_containment
    assert is_served(condition, Typed(frozenset(keys_of(INDEXES))), by_containment=False) is by_keys
    assert not is_served(None, Typed(), by_containment=True)


def test_the_vector_index_stops_early(typed: OpenTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """If field indexes find all rows, the vector index visits no more rows than necessary."""
    seen: list[dict[str, str]] = []

    def look(connection: Any, statements: Any, look_: Any, settings: dict[str, str]) -> Any:
        seen.append(settings)
        return ask_then_look(connection, statements, look_, settings)

    monkeypatch.setattr("harrier_pgvector.opened.ask_then_look", look)
    vectors = np.eye(1, DIMENSIONS, dtype=np.float32)
    for k, where, most in ((5, {"n": {"$gt": 1}}, "1000"), (50, {"n": 1}, "4000"), (5, {"other": {"$gt": 1}}, None)):
        typed.search(Search(vectors, k, parse(where)))
        assert seen[-1].get("hnsw.max_scan_tuples") == (most if typed._opened.iterative else None)


def test_text_of_any_length_is_indexed(postgres: str, table: str) -> None:
    """Texts and lists that exceed the size of an index entry are stored and found."""
    chance = random.Random(0)
    long = "".join(chr(chance.randrange(0x1F300, 0x1F600)) for _ in range(10_000))
    with Index(PgVectorStore(postgres, table=table, indexes=INDEXES), Hashing()) as index:
        index.ingest(Record(f"r{number}", "text", {"s": str(number)}) for number in range(1_100))
        metadata = {"s": long, 'q"% \\': [long], "n": [*range(5_000)], "i": long, "b": long}
        assert index.ingest([Record("long", "text", metadata)]).written == 1
        assert [match.record_id for match in index.search("text", where={"s": long})] == ["long"]
        assert [match.record_id for match in index.search("text", where={"s": {"$gt": long[:9_999]}})] == ["long"]


def plan(opened: OpenTable, where: dict[str, Any]) -> str:
    """Return the plan of the search by an index."""
    now = opened._opened
    condition = compile_where(parse(where), now.typed)
    query, values = near.statement(now.table, np.ones(64, np.float32), 10, condition, exact=False, with_vectors=False)
    rows = opened._connections.run(lambda c: c.execute(sql.SQL("EXPLAIN ") + query, values).fetchall())
    said = "\n".join(row for (row,) in rows)
    return said[said.index("CTE near") : said.index("CTE enough")]


def test_plans(postgres: str, table: str) -> None:
    """A selective condition uses the field's index, and an unselective one the vector index."""
    space = replace(Hashing.space, dimensions=64)
    indexes: dict[str, IndexKind] = {"n": "float", "lang": "keyword", "day": "keyword"}
    with PgVectorStore(postgres, table=table, indexes=indexes) as store:
        opened = store.open(space, create=True)
        vectors = np.random.default_rng(0).normal(size=(5_000, 64)).astype(np.float32)
        records = [
            Record(
                f"r{number}",
                "text",
                {"n": number, "lang": "en" if number % 2 else f"l{number % 100}", "day": f"2024-{number:05}"},
            )
            for number in range(5_000)
        ]
        chunks = [Chunk.of(record, 0, 0, record.text) for record in records]
        known: dict[str, dict[int, bytes]] = {record.id: {} for record in records}
        opened.write(Write(dict.fromkeys(known, 1), chunks, vectors, [], known))
        opened.build_indexes()
        rare: list[dict[str, Any]] = [
            {"n": {"$gte": 4_950}},
            {"n": {"$gt": 1_000, "$lt": 1_050}},
            {"n": {"$in": [1, 2, 3]}},
            {"n": 17},
            {"lang": "l4"},
            {"lang": {"$in": ["l4", "l6"]}},
            {"day": {"$lt": "2024-00050"}},
            {"$or": [{"n": {"$lt": 20}}, {"lang": "l8"}]},
            {"n": {"$lt": 50}, "$not": {"lang": "l4"}},
        ]
        for where in rare:
            said = plan(opened, where)
            assert "Bitmap Index Scan on harrier_" in said, where
            assert "Order By: (embedding" not in said, where
        common: list[dict[str, Any]] = [{"n": {"$gte": 2_500}}, {"lang": "en"}, {"day": {"$gt": "2024-02500"}}]
        for where in common:
            assert "Order By: (embedding" in plan(opened, where), where
        assert "CASE" not in plan(opened, {"$not": {"n": 17}})


def test_indexes_added_later(postgres: str, table: str) -> None:
    """The next ingest builds missing indexes, and other stores use them."""
    records = [Record(f"r{number}", f"text {number}", {"n": number}) for number in range(1_100)]
    with Index(PgVectorStore(postgres, table=table), Hashing()) as index:
        index.ingest(records)
        assert index.store.describe().health == "fine"
        other = index.store.open(Hashing.space)
        assert isinstance(other, OpenTable)
        with Index(PgVectorStore(postgres, table=table, indexes={"n": "integer", "s": "bool"}), Hashing()) as later:
            health = "filters on 'n', 's' have no index; complete an ingest to build it"
            assert later.store.describe().health == health
            assert later.ingest(records[:1]).unchanged == 1
            assert later.store.describe().health == "fine"
            later.build_indexes()  # nothing is left to be built
        assert [match.metadata for match in index.search("text", where={"n": {"$lt": 1}})] == [{"n": 0}]
        assert other.search(Search(np.ones((1, DIMENSIONS), np.float32), 1, parse({"n": 7})))[0][0].record_id == "r7"
        assert other._opened.typed.keys == {("n", "number"), ("s", "bool")}
    with psycopg.connect(postgres) as connection:
        made = connection.execute("SELECT indexdef FROM pg_indexes WHERE tablename = %s", [table]).fetchall()
    assert len(made) == 3 + 2
    assert sum('COLLATE "C"' in definition for (definition,) in made) == 1  # whatever the database's own order is


def test_a_database_of_another_encoding(new_database: NewDatabase) -> None:
    """The index is used for equality only, because the order may differ from code points."""
    database = new_database("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    records = [Record(f"r{number}", "text", {"s": chr(97 + number % 26) * 3}) for number in range(1_100)]
    with Index(PgVectorStore(database, table="docs", indexes={"s": "keyword"}), Hashing()) as index:
        index.ingest(records)
        opened = index.store.open(Hashing.space)
        assert isinstance(opened, OpenTable)
        assert "CASE" in compile_where(parse({"s": "aaa"}), opened._opened.typed)[0].as_string()
        assert "CASE" not in compile_where(parse({"s": {"$gt": "a"}}), opened._opened.typed)[0].as_string()
        for where in ({"s": "aaa"}, {"s": {"$gt": "y"}}):
            found = {stored.chunk.record_id for stored in index.read(where=where)}
            assert found == met(records, parse(where))


def test_a_database_with_another_collation(new_database: NewDatabase) -> None:
    """Texts are ordered by code points, with capitals before lowercase letters."""
    for options in ("LOCALE_PROVIDER icu ICU_LOCALE 'en' ", "LOCALE 'en_US.UTF-8' ", "LOCALE 'en_US.utf8' "):
        try:
            database = new_database(options + "ENCODING 'UTF8' TEMPLATE template0")
            break
        except psycopg.Error:
            continue
    else:
        pytest.skip("this server has no locale that orders texts unlike their code points; use one with ICU or en_US")
    records = [Record(f"r{number}", "text", {"s": "aBcD"[number % 4] * 3}) for number in range(1_100)]
    with Index(PgVectorStore(database, table="docs", indexes={"s": "keyword"}), Hashing()) as index:
        index.ingest(records)
        for where in ({"s": {"$gt": "b"}}, {"s": {"$lt": "a"}}):
            assert {stored.chunk.record_id for stored in index.read(where=where)} == met(records, parse(where))


def test_foreign_comments() -> None:
    """An index whose comment says something else is not the kit's."""
    comments = ['Harrier Kit: ["n", "number"]', "Harrier Kit: my own", "Harrier Kit: 7", 'Harrier Kit: ["n", "x"]']
    assert keys_in(comments) == {("n", "number")}


def test_kinds() -> None:
    """The kinds are those of the Qdrant store."""
    for kind in get_args(IndexKind):
        PgVectorStore("host=h", indexes={"n": kind})
    with pytest.raises(SettingError, match="the index of field 'n' must be one of keyword, integer, float, bool, got"):
        PgVectorStore("host=h", indexes={"n": "number"})  # type: ignore[dict-item]
