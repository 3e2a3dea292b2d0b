"""Conditions as SQL: the server finds exactly the metadata that `meets` accepts, for every character."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from databases import NewDatabase
from harrier_pgvector import PgVectorStore
from harrier_pgvector.filters import compile_condition
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import Connection, sql

from harrier_core import Encoder, Index, Record
from harrier_core.filters import Condition, meets, parse
from harrier_core.patterns import alike

FIXTURES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)


@pytest.fixture
def connection(postgres: str) -> Iterator[Connection]:
    with psycopg.connect(postgres, autocommit=True) as connection:
        yield connection


def found(connection: Connection, condition: Condition | None, metadata: list[dict[str, Any]]) -> list[bool]:
    """Return the matches that the server finds for each condition."""
    where, bound = compile_condition(condition)
    query = sql.SQL("SELECT ({}) FROM unnest(%s::jsonb[]) WITH ORDINALITY AS t (metadata, at) ORDER BY at").format(
        where
    )
    return [each for (each,) in connection.execute(query, [*bound, [json.dumps(each) for each in metadata]])]


CHARACTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
SOME = st.sampled_from("aAbBkK\u212asSſßẞéÉıİiIσς\u03a3\u0345😀\n\r\u2028\u0085%_\\.*+?()[]{}|^$-#'\" &!~@/<>=:,;`")
TEXTS = st.text(CHARACTERS | SOME, max_size=5)


@st.composite
def patterns_and_texts(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Return a pattern and texts made of the same characters, some of which may match."""
    text = draw(TEXTS)
    parts = [draw(st.sampled_from([f"\\{each}", f"\\{each}", "_", "%", "%%", f"%\\{each}", "\\%"])) for each in text]
    others = [text.upper(), text.lower(), text.swapcase(), f"{text}\n", f"x{text}", text[1:], draw(TEXTS)]
    return "".join(parts) + draw(st.sampled_from(["", "%", "_"])), [text, *others]


@FIXTURES
@given(st.sampled_from(["$like", "$ilike"]), patterns_and_texts())
@example("$like", ("a", ["a\n", "\na", "a"]))
@example("$ilike", ("***:a%", ["***:A", "a"]))
@example("$ilike", ("(?i)k", ["(?I)\u212a"]))
@example("$like", ("_", ["\n", "😀", "e\u0301"]))
def test_patterns(connection: Connection, operator: str, made: tuple[str, list[str]]) -> None:
    """Patterns match texts and list elements, and nothing else."""
    pattern, texts = made
    metadata: list[dict[str, Any]] = [{"f": text} for text in texts] + [{"f": [[texts[0]], 1, text]} for text in texts]
    metadata += [{"f": [texts]}, {"f": {texts[0]: texts[0]}}, {"f": None}, {"f": 1}, {}, {"g": texts[0]}]
    condition = parse({"f": {operator: pattern}})
    assert found(connection, condition, metadata) == [meets(each, condition) for each in metadata]


@pytest.mark.slow
def test_every_letter_with_case(connection: Connection) -> None:
    """Each letter is found by its case variants and by no other letter."""
    tried = 0
    for number in range(1, sys.maxunicode + 1):
        letter = chr(number)
        same = alike(letter)
        if len(same) > 1:
            tried += 1
            condition = parse({"f": {"$ilike": letter}})
            metadata = [{"f": each} for each in (*same, chr(number - 1), chr(number + 1), letter.upper(), f"{letter}.")]
            assert found(connection, condition, metadata) == [meets(each, condition) for each in metadata], letter
    assert tried > 2_500


NAMES = ["", "a", "b", "a.b", 'q"\\', "0", "%s", "é"]
SCALARS = st.sampled_from([0, 1, 1.5, 2**70, "", "a", "b", "0", "x%", True, None])
VALUES = st.recursive(
    st.one_of(SCALARS, st.lists(st.one_of(SCALARS, st.sampled_from([{"a": 1}, {"b": 0}, [1], ["b"]])), max_size=3)),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=5,
)
OPERANDS = st.one_of(
    SCALARS,
    st.builds(lambda values: {"$in": values}, st.lists(SCALARS, max_size=12)),
    st.builds(lambda bound: {"$lte": bound}, st.sampled_from([0, 1, 2**70, "a", "b"])),
    st.builds(lambda bounds: {"$between": bounds}, st.sampled_from([(0, 1), (1, 2**80), ("", "a"), ("b", "a")])),
    st.builds(lambda part: {"$contains": part}, st.sampled_from(["", "a", "%"])),
    st.builds(lambda there: {"$exists": there}, st.booleans()),
)


@FIXTURES
@given(
    st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4), min_size=1, max_size=5),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(".".join),
    OPERANDS,
)
@example([{"a": ["b"]}], "a.b", {"$exists": True})
@example([{"a": [{"b": 1}]}], "a.b", {"$lte": 1})
@example([{"a": [0, 1]}, {"a": {"0": 1}}], "a.0", 1)
@example([{"a": {"b": [[1]]}}], "a.b", {"$between": [0, 2]})
def test_fields_of_dicts(connection: Connection, metadata: list[dict[str, Any]], field: str, operand: Any) -> None:
    """Fields with any name are found; a condition is never unknown, and neither is its negation."""
    for where in ({field: operand}, {"$not": {field: operand}}):
        condition = parse(where)
        assert found(connection, condition, metadata) == [meets(each, condition) for each in metadata]


def test_a_field_of_a_dict_is_found_by_the_index(connection: Connection) -> None:
    """Nested fields use the index, for one or several values."""
    connection.execute(
        "CREATE TEMPORARY TABLE filtered AS SELECT jsonb_build_object('a', jsonb_build_object('b', n)) AS metadata "
        "FROM generate_series(1, 9000) AS n"
    )
    connection.execute("CREATE INDEX ON filtered USING gin (metadata jsonb_path_ops)")
    connection.execute("ANALYZE filtered")
    for operand in (5, {"$in": [5, 6]}, {"$in": list(range(20))}):
        where, bound = compile_condition(parse({"a.b": operand}))
        query = sql.SQL("EXPLAIN SELECT FROM filtered WHERE {}").format(where)
        assert "Bitmap Index Scan" in "".join(row for (row,) in connection.execute(query, bound)), operand


def test_ilike_in_a_database_with_a_small_encoding(new_database: NewDatabase, table: str, encoder: Encoder) -> None:
    """A missing Kelvin sign, which is a case variant of k, is not an error."""
    latin = new_database("ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    with Index(PgVectorStore(latin, table=table), encoder) as index:
        index.ingest([Record("a", "a", {"f": "KASSE É ß"}), Record("b", "b", {"f": "other"})])
        for pattern in ("k%", "kasse é ß", "%S%É_\u00df"):
            assert [each.chunk.record_id for each in index.read(where={"f": {"$ilike": pattern}})] == ["a"]
