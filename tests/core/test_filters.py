"""Parsing of `where`, and its meaning for a chunk's metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harrier_core.filters import (
    All,
    AnyOf,
    Between,
    Condition,
    Contains,
    Equal,
    Exists,
    Key,
    Like,
    Not,
    Order,
    decided,
    meets,
    parse,
)
from harrier_core.patterns import Wild

Where = Mapping[str, Any]


def met(where: Where | None, metadata: Where) -> bool:
    return meets(metadata, parse(where))


# -- the tree

AT_MIDNIGHT = "2024-05-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("where", "condition"),
    [
        (None, None),
        ({}, None),
        ({"a": 1}, Equal(("a",), 1)),
        ({"a": None}, Equal(("a",), None)),
        ({"a": {"$eq": "x"}}, Equal(("a",), "x")),
        ({"a": {"$ne": 1.5}}, Not(Equal(("a",), 1.5))),
        ({"a": {"$in": [1, "x"]}}, AnyOf((Equal(("a",), 1), Equal(("a",), "x")))),
        ({"a": {"$in": (True,)}}, AnyOf((Equal(("a",), True),))),
        ({"a": {"$in": frozenset(["x"])}}, AnyOf((Equal(("a",), "x"),))),
        ({"a": {"$in": []}}, AnyOf(())),
        ({"a": {"$gt": 1}}, Order(("a",), "$gt", 1)),
        ({"a": {"$gte": 1, "$lt": 2}}, All((Order(("a",), "$gte", 1), Order(("a",), "$lt", 2)))),
        ({"a": {"$lte": "x"}}, Order(("a",), "$lte", "x")),
        ({"a": {"$nin": [1, 2]}}, Not(AnyOf((Equal(("a",), 1), Equal(("a",), 2))))),
        ({"a": {"$nin": []}}, Not(AnyOf(()))),
        ({"a": {"$between": [1, 2.5]}}, Between(("a",), 1, 2.5)),
        ({"a": {"$between": ("a", "b")}}, Between(("a",), "a", "b")),
        ({"a": {"$contains": "x"}}, Contains(("a",), "x")),
        ({"a": {"$like": "x%"}}, Like(("a",), ("x", Wild.ANY))),
        ({"a": {"$ilike": "x_"}}, Like(("a",), ("xX", Wild.ONE))),
        ({"a": {"$exists": True}}, Exists(("a",))),
        ({"a": {"$exists": False}}, Not(Exists(("a",)))),
        ({"a": 1, "b": 2}, All((Equal(("a",), 1), Equal(("b",), 2)))),
        ({"$and": [{"a": 1}, {"b": 2}]}, All((Equal(("a",), 1), Equal(("b",), 2)))),
        ({"$or": [{"a": 1}]}, AnyOf((Equal(("a",), 1),))),
        ({"$or": []}, AnyOf(())),
        ({"$and": ()}, All(())),
        ({"$and": [{}]}, All((All(()),))),
        ({"$not": {"a": 1}}, Not(Equal(("a",), 1))),
        ({"$not": {"a": 1, "b": 2}}, Not(All((Equal(("a",), 1), Equal(("b",), 2))))),
        ({"$or": [{"$not": {"a": 1}}, {"$and": [{"b": 2}]}]}, AnyOf((Not(Equal(("a",), 1)), All((Equal(("b",), 2),))))),
        ({"": 1}, Equal(("",), 1)),
        # A name with dots is read in every possible way.
        ({"x.y": 1}, AnyOf((Equal(("x.y",), 1), Equal(("x", "y"), 1)))),
        ({"x.y": {"$ne": 1}}, Not(AnyOf((Equal(("x.y",), 1), Equal(("x", "y"), 1))))),
        ({"x.y": {"$exists": False}}, Not(AnyOf((Exists(("x.y",)), Exists(("x", "y")))))),
        (
            {"x.y": {"$in": [1, 2]}},
            AnyOf(
                (AnyOf((Equal(("x.y",), 1), Equal(("x.y",), 2))), AnyOf((Equal(("x", "y"), 1), Equal(("x", "y"), 2))))
            ),
        ),
        (
            {"x.y.z": {"$gt": 1}},
            AnyOf(tuple(Order(each, "$gt", 1) for each in (("x.y.z",), ("x.y", "z"), ("x", "y.z"), ("x", "y", "z")))),
        ),
        ({".": 1}, AnyOf((Equal((".",), 1), Equal(("", ""), 1)))),
        ({Key("x.y"): 1}, Equal(("x.y",), 1)),
        ({Key("$x"): {"$gt": 1}}, Order(("$x",), "$gt", 1)),
        # Values are converted as in metadata.
        ({"a": date(2024, 5, 1)}, Equal(("a",), "2024-05-01")),
        (
            {"a": {"$gte": datetime(2024, 5, 1, 2, tzinfo=timezone(timedelta(hours=2)))}},
            Order(("a",), "$gte", AT_MIDNIGHT),
        ),
        ({"a": {"$between": [date(2024, 5, 1), "2024-06"]}}, Between(("a",), "2024-05-01", "2024-06")),
        ({"a": UUID(int=1)}, Equal(("a",), "00000000-0000-0000-0000-000000000001")),
        ({"a": {"$in": [Decimal("1.5"), np.int64(2)]}}, AnyOf((Equal(("a",), 1.5), Equal(("a",), 2)))),
        ({"a": {"$contains": PurePosixPath("x/y")}}, Contains(("a",), "x/y")),
        (MappingProxyType({"a": MappingProxyType({"$eq": 1})}), Equal(("a",), 1)),
    ],
)
def test_parse(where: Where | None, condition: Condition | None) -> None:
    assert parse(where) == condition


class Topic(StrEnum):
    """A subclass of str."""

    FOOD = "food"


class Year(IntEnum):
    """A subclass of int."""

    NOW = 2021


@pytest.mark.parametrize(
    "where", [{Topic.FOOD: Year.NOW}, {Topic.FOOD: {"$eq": Year.NOW}}, {Topic.FOOD: {"$in": [Year.NOW]}}]
)
def test_parse_leaves_no_subclasses(where: Where) -> None:
    """Database clients could write subclasses differently."""
    condition = parse(where)
    if isinstance(condition, AnyOf):
        [condition] = condition.parts
    assert isinstance(condition, Equal)
    assert (condition.path, condition.value) == (("food",), 2021)
    assert (type(condition.path[0]), type(condition.value)) == (str, int)


# -- meaning


@pytest.mark.parametrize(
    ("operand", "value", "expected"),
    [
        # Only values of the same kind can be equal.
        (1, 1, True),
        (1, 1.0, True),
        (1, True, False),
        (True, 1, False),
        (True, True, True),
        (0, False, False),
        ("1", 1, False),
        (1, "1", False),
        (None, None, True),
        (None, 0, False),
        (None, "", False),
        ("", "", True),
        ("é", "e\u0301", False),
        (-0.0, 0, True),
        (2**53, 2**53 + 1, False),
        (float(2**53), 2**53 + 1, False),
        (0.1, 0.1, True),
        (10**300, 10**300, True),
        (1, {"x": 1}, False),
        # One element of a list is enough; the elements of a nested list do not count.
        (1, [2, 1], True),
        (1, (2, 1), True),
        (1, [], False),
        (1, [[1]], False),
        (1, ["1", True], False),
        (None, [None], True),
        ({"$ne": 1}, [2, 1], False),
        ({"$ne": 1}, [2], True),
        ({"$ne": 1}, "1", True),
        ({"$in": [1, "x"]}, "x", True),
        ({"$in": [1, "x"]}, [3, 1], True),
        ({"$in": [1, "x"]}, "1", False),
        ({"$in": []}, 1, False),
        # Numbers have an order, and texts are ordered by code points.
        ({"$gt": 1}, 1.5, True),
        ({"$gt": 1}, 1, False),
        ({"$gt": 1}, "2", False),
        ({"$gt": 0}, True, False),
        ({"$gt": 0}, None, False),
        ({"$gte": 1}, 1.0, True),
        ({"$gte": 1}, 0.999, False),
        ({"$lt": 1}, -(2**70), True),
        ({"$lt": 1}, 1, False),
        ({"$lte": 1}, 1, True),
        ({"$lte": 1}, 2, False),
        ({"$gt": float(2**53)}, 2**53 + 1, True),
        ({"$gt": "B"}, "a", True),
        ({"$gt": "a"}, "B", False),
        ({"$lt": "a"}, "", True),
        ({"$gt": "z"}, "é", True),
        ({"$gt": "\uffff"}, "\U00010000", True),
        ({"$lt": "10"}, "9", False),
        ({"$gt": 1}, [0, 2], True),
        ({"$gt": 1}, [0, "2"], False),
        ({"$gt": 5, "$lt": 1}, [0, 6], True),  # each is met by a different element
        # $between includes both bounds, and one element must meet both.
        ({"$between": [1, 2]}, 1, True),
        ({"$between": [1, 2]}, 2.0, True),
        ({"$between": [1, 2]}, 2.5, False),
        ({"$between": [1, 2]}, "1", False),
        ({"$between": [1, 2]}, True, False),
        ({"$between": [2, 1]}, 1, False),
        ({"$between": ["a", "b"]}, "ab", True),
        ({"$between": ["a", "b"]}, "ba", False),
        ({"$between": [1, 5]}, [0, 6], False),
        ({"$between": [1, 5]}, [0, 3], True),
        ({"$between": [2**53 + 1, 2**53 + 1]}, 2**53, False),
        ({"$nin": [1, "x"]}, "x", False),
        ({"$nin": [1, "x"]}, "1", True),
        ({"$nin": [1]}, [2, 1], False),
        ({"$nin": []}, 1, True),
        # Dates are texts: a date comes before every time of its day.
        ({"$gte": date(2024, 5, 1)}, "2024-05-01", True),
        ({"$gte": date(2024, 5, 1)}, "2024-05-01T00:00:00", True),
        ({"$lte": date(2024, 5, 1)}, "2024-05-01T00:00:00", False),
        ({"$lt": datetime(2024, 5, 1, tzinfo=UTC)}, "2024-04-30T23:59:59.999999+00:00", True),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001", True),
        (np.float32(0.5), 0.5, True),
        # A pattern must match the whole text.
        ({"$like": "foo%"}, "food", True),
        ({"$like": "oo"}, "food", False),
        ({"$like": "%oo_"}, "food", True),
        ({"$like": "%oo_"}, "foo", False),
        ({"$like": "FOOD"}, "food", False),
        ({"$like": "%"}, "", True),
        ({"$like": "_"}, "😀", True),
        ({"$like": "_"}, "e\u0301", False),
        ({"$like": "a%b"}, "a\nb", True),
        ({"$like": "100\\%"}, "100%", True),
        ({"$like": "100\\%"}, "1000", False),
        ({"$like": "f.*"}, "food", False),
        ({"$like": "%"}, 1, False),
        ({"$like": "b%"}, ["food", "bread"], True),
        ({"$ilike": "%OO%"}, "food", True),
        ({"$ilike": "é"}, "É", True),
        ({"$ilike": "strasse"}, "straße", False),
        ({"$ilike": "stra\u1e9ee"}, "straße", True),
        ({"$ilike": "i"}, "\u0130", False),
        ({"$ilike": "\u03c3"}, "\u03c2", True),
        # A text may contain another.
        ({"$contains": "oo"}, "food", True),
        ({"$contains": "OO"}, "food", False),
        ({"$contains": ""}, "", True),
        ({"$contains": "."}, "food", False),
        ({"$contains": "%"}, "food", False),
        ({"$contains": "2"}, 2, False),
        ({"$contains": "x"}, {"x": "x"}, False),
        ({"$contains": "oo"}, ["bread", "food"], True),
        ({"$contains": "dread"}, ["bread", "d"], False),
        # Existence.
        ({"$exists": True}, None, True),
        ({"$exists": True}, [], True),
        ({"$exists": False}, None, False),
    ],
)
def test_conditions(operand: Any, value: Any, expected: bool) -> None:
    assert met({"a": operand}, {"a": value, "b": operand}) == expected


@pytest.mark.parametrize(
    ("operand", "expected"),
    [
        (1, False),
        (None, False),
        ({"$ne": 1}, True),
        ({"$ne": None}, True),
        ({"$in": [None]}, False),
        ({"$gt": 0}, False),
        ({"$lte": 0}, False),
        ({"$contains": ""}, False),
        ({"$nin": [1]}, True),
        ({"$between": [0, 1]}, False),
        ({"$like": "%"}, False),
        ({"$exists": True}, False),
        ({"$exists": False}, True),
    ],
)
def test_a_missing_field(operand: Any, expected: bool) -> None:
    """It meets no condition, and therefore every negated one."""
    assert met({"a": operand}, {"b": 1}) == expected
    assert met({"$not": {"a": operand}}, {"b": 1}) != expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"x.y.z": 1}, True),
        ({"x": {"y": {"z": 1}}}, True),
        ({"x": {"y.z": 1}}, True),
        ({"x.y": {"z": 1}}, True),
        ({"x.y": {"z": [2, 1]}}, True),
        ({"x.y.z": 2, "x": {"y": {"z": 1}}}, True),
        ({"x": {"y": 1}}, False),
        ({"x": [{"y": {"z": 1}}]}, False),
        ({"x": {"y": [{"z": 1}]}}, False),
        ({"x": "y", "y": {"z": 1}, "z": 1}, False),
        ({"x": None}, False),
        ({"x": {"y": {"z": {"z": 1}}}}, False),
    ],
)
def test_names_with_dots(metadata: Where, expected: bool) -> None:
    """Each dot is part of a name or leads into a dict; lists are not entered."""
    assert met({"x.y.z": 1}, metadata) == expected
    assert met({"x.y.z": {"$between": [1, 1]}}, metadata) == expected
    assert met({"x.y.z": {"$ne": 1}}, metadata) != expected


def test_other_ways_to_name_a_field() -> None:
    """Brackets are part of a name; Key makes dots and $ part of it."""
    assert not met({"x[0]": 1}, {"x": [1]})
    assert not met({"x.0": 1}, {"x": [1]})
    assert met({"x.0": 1}, {"x": {"0": 1}})
    assert met({"x.": 1}, {"x": {"": 1}})
    assert met({Key("x.y"): 1}, {"x.y": 1})
    assert not met({Key("x.y"): 1}, {"x": {"y": 1}})
    assert met({Key("$x"): {"$gt": 0}}, {"$x": 1})
    assert met({"x.y": {"$exists": True}}, {"x": {"y": None}})
    assert not met({"x.y": {"$exists": True}}, {"x": {}})


# -- laws

FIELDS = st.sampled_from(["a", "b", "a.b", "a.b.a", "missing"])
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 1.0, 0.5, -0.0, 2**53, 2**53 + 1, float(2**53), 2**70, 10**300, 5e-324]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
TEXTS = st.sampled_from(["", "0", "1", "a", "A", "B", "ab", "é", "e\u0301", "🦅", "\uffff", "true", "2024-05-01", "%"])
DATES = st.sampled_from([date(2024, 5, 1), datetime(2024, 5, 1, 12), datetime(2024, 5, 1, tzinfo=UTC)])
SCALARS = st.one_of(NUMBERS, TEXTS, st.booleans(), st.none())
LISTS = st.lists(st.one_of(SCALARS, st.just([1]), st.just({"a": 1}), st.just({"b": 1})), max_size=3)
VALUES = st.recursive(
    st.one_of(SCALARS, LISTS),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "b.a"]), inner, max_size=2),
    max_leaves=4,
)
METADATA = st.dictionaries(st.sampled_from(["a", "b", "a.b"]), VALUES, max_size=3)

ORDERED = st.one_of(NUMBERS, TEXTS, DATES)
ANYTHING = st.one_of(SCALARS, DATES)
OPERANDS = st.one_of(
    ANYTHING,
    st.builds(lambda operator, value: {operator: value}, st.sampled_from(["$eq", "$ne"]), ANYTHING),
    st.builds(lambda operator, value: {operator: value}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ORDERED),
    st.builds(lambda pair: {"$between": pair}, st.tuples(NUMBERS, NUMBERS) | st.tuples(TEXTS | DATES, TEXTS | DATES)),
    st.builds(
        lambda operator, values: {operator: values}, st.sampled_from(["$in", "$nin"]), st.lists(ANYTHING, max_size=3)
    ),
    st.builds(lambda text: {"$contains": text}, TEXTS),
    st.builds(
        lambda operator, text: {operator: text},
        st.sampled_from(["$like", "$ilike"]),
        st.sampled_from(["", "%", "_", "a%", "%b", "A_", "É", "\\%", "2024-%-01"]),
    ),
    st.builds(lambda there: {"$exists": there}, st.booleans()),
)
WHERES = st.recursive(
    st.dictionaries(FIELDS, OPERANDS, max_size=2),
    lambda inner: st.one_of(
        st.builds(lambda parts: {"$and": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda parts: {"$or": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda part: {"$not": part}, inner),
    ),
    max_leaves=5,
)


@given(WHERES, METADATA)
def test_not(where: Where, metadata: Where) -> None:
    """`$not` inverts a condition, and a double negation has no effect."""
    assert met({"$not": where}, metadata) == (not met(where, metadata))
    assert met({"$not": {"$not": where}}, metadata) == met(where, metadata)


@given(st.lists(WHERES, max_size=3), METADATA)
@example([], {})
def test_and_or(wheres: list[Where], metadata: Where) -> None:
    """Empty `$and` is true and empty `$or` is false; De Morgan's laws hold."""
    each = [met(where, metadata) for where in wheres]
    assert met({"$and": wheres}, metadata) == all(each)
    assert met({"$or": wheres}, metadata) == any(each)
    negated = [{"$not": where} for where in wheres]
    assert met({"$not": {"$and": wheres}}, metadata) == met({"$or": negated}, metadata)
    assert met({"$not": {"$or": wheres}}, metadata) == met({"$and": negated}, metadata)


@given(WHERES, WHERES, METADATA)
def test_several_keys_are_joined_by_and(one: dict[str, Any], other: dict[str, Any], metadata: Where) -> None:
    joined = {**one, **other}
    assert met(joined, metadata) == met({"$and": [{key: value} for key, value in joined.items()]}, metadata)


@given(FIELDS, st.lists(SCALARS, max_size=3), METADATA)
def test_in_is_any_of_equals(field: str, values: list[Any], metadata: Where) -> None:
    """`$in` is any `$eq`, a bare value is `$eq`, and `$ne` is its negation."""
    assert met({field: {"$in": values}}, metadata) == any(met({field: value}, metadata) for value in values)
    for value in values:
        assert parse({field: {"$eq": value}}) == parse({field: value})
        assert met({field: {"$in": [value]}}, metadata) == met({field: value}, metadata)
        assert met({field: {"$ne": value}}, metadata) == (not met({field: {"$eq": value}}, metadata))
    assert met({field: {"$nin": values}}, metadata) == (not met({field: {"$in": values}}, metadata))


@given(st.one_of(st.tuples(NUMBERS, NUMBERS), st.tuples(TEXTS, TEXTS)))
@example((2**53 + 1, float(2**53)))
@example((-0.0, 0))
def test_order_is_total_within_a_type(pair: tuple[Any, Any]) -> None:
    """Exactly one of less, equal and greater holds; the other operators follow."""
    found, wanted = pair
    below, equal, above = (met({"a": {operator: wanted}}, {"a": found}) for operator in ("$lt", "$eq", "$gt"))
    assert [below, equal, above].count(True) == 1
    assert met({"a": {"$lte": wanted}}, {"a": found}) == (below or equal)
    assert met({"a": {"$gte": wanted}}, {"a": found}) == (above or equal)
    assert met({"a": {"$gt": found}}, {"a": wanted}) == below


@given(SCALARS, st.one_of(NUMBERS, TEXTS))
def test_types_are_not_mixed(found: Any, wanted: Any) -> None:
    """Between types, neither a comparison nor its opposite holds."""
    kinds = [str if isinstance(each, str) else bool if isinstance(each, bool) else float for each in (found, wanted)]
    if found is None or kinds[0] is not kinds[1]:
        operators = ["$eq", "$lt", "$lte", "$gt", "$gte"]
        assert not any(met({"a": {operator: wanted}}, {"a": found}) for operator in operators)


@given(st.lists(SCALARS, max_size=4), OPERANDS)
def test_one_matching_element_is_enough(values: list[Any], operand: Any) -> None:
    """A negated condition holds if no element meets it."""
    by_itself = [met({"a": operand}, {"a": value}) for value in values]
    negated = isinstance(operand, dict) and bool({"$ne", "$nin"} & operand.keys())
    if not (isinstance(operand, dict) and "$exists" in operand):
        assert met({"a": operand}, {"a": values}) == (all(by_itself) if negated else any(by_itself))


@given(OPERANDS, METADATA)
def test_all_readings_of_a_dotted_name(operand: Any, metadata: Where) -> None:
    """A condition holds if any reading meets it, and a negated one if none does."""
    ways = [metadata.get("a.b.a", MISSING), *map(at("b.a"), [metadata.get("a")]), *map(at("a"), [metadata.get("a.b")])]
    ways.append(at("a")(at("b")(metadata.get("a"))))
    found = [met({"f": operand}, {} if way is MISSING else {"f": way}) for way in ways]
    negated = isinstance(operand, dict) and ({"$ne", "$nin"} & operand.keys() or operand.get("$exists") is False)
    assert met({"a.b.a": operand}, metadata) == (all(found) if negated else any(found))


MISSING = object()


def at(name: str) -> Callable[[Any], Any]:
    return lambda value: value.get(name, MISSING) if isinstance(value, dict) else MISSING


@given(st.sampled_from(["a", "b", "a.b"]), OPERANDS, METADATA)
def test_a_key_is_the_name_only(field: str, operand: Any, metadata: Where) -> None:
    """Other readings of the name are ignored."""
    alone = {"f": metadata[field]} if field in metadata else {}
    assert met({Key(field): operand}, metadata) == met({"f": operand}, alone)


@given(st.one_of(st.tuples(NUMBERS, NUMBERS), st.tuples(TEXTS, TEXTS)), SCALARS)
def test_between(pair: tuple[Any, Any], value: Any) -> None:
    """`$between` is both comparisons of one value."""
    low, high = pair
    assert met({"a": {"$between": pair}}, {"a": value}) == met({"a": {"$gte": low, "$lte": high}}, {"a": value})


@given(WHERES, METADATA)
def test_other_fields_do_not_matter(where: Where, metadata: Where) -> None:
    """Fields that the filter does not name have no effect."""
    assert met(where, {**metadata, "unrelated": 1}) == met(where, metadata)


@given(WHERES, METADATA)
def test_constant_conditions(where: dict[str, Any], metadata: dict[str, Any]) -> None:
    """A constant condition holds for all metadata or for none."""
    condition = parse(where)
    if condition is not None and (found := decided(condition)) is not None:
        assert meets(metadata, condition) is found


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"$and": []}, True),
        ({"$or": []}, False),
        ({"a": {"$nin": []}}, True),
        ({"$or": [{"a": 1}, {"$and": []}]}, True),
        ({"$and": [{"a": 1}, {"$or": []}]}, False),
        ({"$not": {"$and": [{"$or": []}, {"a": 1}]}}, True),
        ({"a": 1}, None),
        ({"$and": [{"a": 1}, {"$and": []}]}, None),
    ],
)
def test_decided(where: dict[str, Any], found: bool | None) -> None:
    condition = parse(where)
    assert condition is not None
    assert decided(condition) is found
