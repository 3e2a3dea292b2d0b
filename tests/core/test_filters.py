"""What a `where` is parsed to, what it means for a chunk's metadata, and which are refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harrier_core import FilterError
from harrier_core.filters import All, AnyOf, Condition, Contains, Equal, Exists, Not, Order, meets, parse

Where = Mapping[str, Any]


def met(where: Where | None, metadata: Where) -> bool:
    return meets(metadata, parse(where))


# -- the tree


@pytest.mark.parametrize(
    ("where", "condition"),
    [
        (None, None),
        ({}, None),
        ({"a": 1}, Equal("a", 1)),
        ({"a": None}, Equal("a", None)),
        ({"a": {"$eq": "x"}}, Equal("a", "x")),
        ({"a": {"$ne": 1.5}}, Not(Equal("a", 1.5))),
        ({"a": {"$in": [1, "x"]}}, AnyOf((Equal("a", 1), Equal("a", "x")))),
        ({"a": {"$in": (True,)}}, AnyOf((Equal("a", True),))),
        ({"a": {"$in": frozenset(["x"])}}, AnyOf((Equal("a", "x"),))),
        ({"a": {"$in": []}}, AnyOf(())),
        ({"a": {"$gt": 1}}, Order("a", "$gt", 1)),
        ({"a": {"$gte": 1, "$lt": 2}}, All((Order("a", "$gte", 1), Order("a", "$lt", 2)))),
        ({"a": {"$lte": "x"}}, Order("a", "$lte", "x")),
        ({"a": {"$contains": "x"}}, Contains("a", "x")),
        ({"a": {"$exists": True}}, Exists("a")),
        ({"a": {"$exists": False}}, Not(Exists("a"))),
        ({"a": 1, "b": 2}, All((Equal("a", 1), Equal("b", 2)))),
        ({"$and": [{"a": 1}, {"b": 2}]}, All((Equal("a", 1), Equal("b", 2)))),
        ({"$or": [{"a": 1}]}, AnyOf((Equal("a", 1),))),
        ({"$or": []}, AnyOf(())),
        ({"$and": ()}, All(())),
        ({"$and": [{}]}, All((All(()),))),
        ({"$not": {"a": 1}}, Not(Equal("a", 1))),
        ({"$not": {"a": 1, "b": 2}}, Not(All((Equal("a", 1), Equal("b", 2))))),
        ({"$or": [{"$not": {"a": 1}}, {"$and": [{"b": 2}]}]}, AnyOf((Not(Equal("a", 1)), All((Equal("b", 2),))))),
        ({"": 1}, Equal("", 1)),
        ({"x.y": 1}, Equal("x.y", 1)),
        (MappingProxyType({"a": MappingProxyType({"$eq": 1})}), Equal("a", 1)),
    ],
)
def test_parse(where: Where | None, condition: Condition | None) -> None:
    assert parse(where) == condition


class Topic(StrEnum):
    """Texts of another type."""

    FOOD = "food"


class Year(IntEnum):
    """Numbers of another type."""

    NOW = 2021


@pytest.mark.parametrize(
    "where", [{Topic.FOOD: Year.NOW}, {Topic.FOOD: {"$eq": Year.NOW}}, {Topic.FOOD: {"$in": [Year.NOW]}}]
)
def test_parse_leaves_no_subclasses(where: Where) -> None:
    """What a database client would write otherwise than the text or number it stands for."""
    condition = parse(where)
    if isinstance(condition, AnyOf):
        [condition] = condition.parts
    assert isinstance(condition, Equal)
    assert (condition.field, condition.value) == ("food", 2021)
    assert (type(condition.field), type(condition.value)) == (str, int)


# -- what is refused


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ([], "a filter is a dict of fields and their values, not list"),
        ("a", "a filter is a dict of fields and their values, not str"),
        ({"$and": [None]}, "a filter is a dict of fields and their values, not NoneType"),
        ({"$not": [{"a": 1}]}, "a filter is a dict of fields and their values, not list"),
        ({1: 2}, "a field's name is a str, not int"),
        ({"$or": [{None: 2}]}, "a field's name is a str, not NoneType"),
        ({"$and": {}}, "$and takes a list of filters, not dict"),
        ({"$or": "ab"}, "$or takes a list of filters, not str"),
        ({"$or": {1, 2}}, "$or takes a list of filters, not set"),
        ({"$nor": []}, "unknown operator '$nor'; at the top there are $and, $or and $not"),
        ({"$eq": 1}, "unknown operator '$eq'; at the top there are $and, $or and $not"),
        ({"a\0": 1}, "a field's name has a NUL character, which no database stores"),
        ({"\ud83d": 1}, "a field's name has half of a surrogate pair, which no database stores"),
        ({"a": {}}, "the filter for 'a' is an empty dict; name an operator, such as $eq"),
        ({"a": {"$regex": "x"}}, "unknown operator '$regex' for 'a'; there are $eq, $ne, $in, $gt"),
        ({"a": {"eq": 1}}, "unknown operator 'eq' for 'a'"),
        ({"a": {1: 1}}, "unknown operator 1 for 'a'"),
        ({"a": {"$and": []}}, "unknown operator '$and' for 'a'"),
        ({"a": object()}, "'a' is compared with a text, a finite number, a bool or None, not object"),
        ({"a": [1]}, "'a' is compared with a text, a finite number, a bool or None, not list"),
        ({"a": {"$eq": {}}}, "'a' is compared with a text, a finite number, a bool or None, not dict"),
        ({"a": {"$ne": b"x"}}, "'a' is compared with a text, a finite number, a bool or None, not bytes"),
        ({"a": {"$in": [1, [2]]}}, "'a' is compared with a text, a finite number, a bool or None, not list"),
        ({"a": float("nan")}, "a finite number, a bool or None, not nan"),
        ({"a": {"$gt": float("inf")}}, "a finite number, a bool or None, not inf"),
        ({"a": 10**400}, "a finite number, a bool or None, not a number beyond all floats"),
        ({"a": {"$lt": -(10**400)}}, "a finite number, a bool or None, not a number beyond all floats"),
        ({"a": "\0"}, "a bool or None, not a text that no database stores"),
        ({"a": {"$contains": "\ud83d"}}, "a bool or None, not a text that no database stores"),
        ({"a": {"$in": "ab"}}, "$in of 'a' takes a list of values, not str"),
        ({"a": {"$in": 1}}, "$in of 'a' takes a list of values, not int"),
        ({"a": {"$in": {"x": 1}}}, "$in of 'a' takes a list of values, not dict"),
        ({"a": {"$gt": None}}, "$gt of 'a' takes a number or a text, not None"),
        ({"a": {"$lte": True}}, "$lte of 'a' takes a number or a text, not True"),
        ({"a": {"$contains": 1}}, "$contains of 'a' takes a text, not int"),
        ({"a": {"$contains": None}}, "$contains of 'a' takes a text, not NoneType"),
        ({"a": {"$exists": 1}}, "$exists of 'a' takes True or False, not int"),
        ({"a": {"$exists": "yes"}}, "$exists of 'a' takes True or False, not str"),
    ],
)
def test_what_is_refused(where: Any, reason: str) -> None:
    """By the name of the field and the operator, wherever in the tree it is."""
    for nested in (where, {"$or": [{"b": 1}, where]}, {"$not": where}):
        with pytest.raises(FilterError) as caught:
            parse(nested)
        assert reason in str(caught.value)


# -- what it means


@pytest.mark.parametrize(
    ("operand", "value", "expected"),
    [
        # Equality is of like kinds.
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
        # Of a list, one element is enough; a list in a list is none of them.
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
        # Order is of numbers, and of texts by code points.
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
        ({"$gt": 5, "$lt": 1}, [0, 6], True),  # each by an element of its own
        # A text inside a text.
        ({"$contains": "oo"}, "food", True),
        ({"$contains": "OO"}, "food", False),
        ({"$contains": ""}, "", True),
        ({"$contains": "."}, "food", False),
        ({"$contains": "%"}, "food", False),
        ({"$contains": "2"}, 2, False),
        ({"$contains": "x"}, {"x": "x"}, False),
        ({"$contains": "oo"}, ["bread", "food"], True),
        ({"$contains": "dread"}, ["bread", "d"], False),
        # Being there.
        ({"$exists": True}, None, True),
        ({"$exists": True}, [], True),
        ({"$exists": False}, None, False),
    ],
)
def test_what_a_condition_means(operand: Any, value: Any, expected: bool) -> None:
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
        ({"$exists": True}, False),
        ({"$exists": False}, True),
    ],
)
def test_a_field_that_is_not_there(operand: Any, expected: bool) -> None:
    """It meets no condition, and so each negated one."""
    assert met({"a": operand}, {"b": 1}) == expected
    assert met({"$not": {"a": operand}}, {"b": 1}) != expected


def test_names_are_no_paths() -> None:
    """A dot or a bracket belongs to the name."""
    assert not met({"x.y": 1}, {"x": {"y": 1}})
    assert met({"x.y": 1}, {"x.y": 1})
    assert not met({"x[0]": 1}, {"x": [1]})


# -- laws

FIELDS = st.sampled_from(["a", "b", "missing"])
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 1.0, 0.5, -0.0, 2**53, 2**53 + 1, float(2**53), 2**70, 10**300, 5e-324]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
TEXTS = st.sampled_from(["", "0", "1", "a", "B", "ab", "é", "e\u0301", "🦅", "\uffff", "true"])
SCALARS = st.one_of(NUMBERS, TEXTS, st.booleans(), st.none())
VALUES = st.one_of(
    SCALARS, st.lists(st.one_of(SCALARS, st.just([1]), st.just({"a": 1})), max_size=3), st.just({"a": 1})
)
METADATA = st.dictionaries(st.sampled_from(["a", "b"]), VALUES, max_size=2)

OPERANDS = st.one_of(
    SCALARS,
    st.builds(lambda operator, value: {operator: value}, st.sampled_from(["$eq", "$ne"]), SCALARS),
    st.builds(
        lambda operator, value: {operator: value},
        st.sampled_from(["$gt", "$gte", "$lt", "$lte"]),
        st.one_of(NUMBERS, TEXTS),
    ),
    st.builds(lambda values: {"$in": values}, st.lists(SCALARS, max_size=3)),
    st.builds(lambda text: {"$contains": text}, TEXTS),
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
    """It is the opposite, and twice nothing at all."""
    assert met({"$not": where}, metadata) == (not met(where, metadata))
    assert met({"$not": {"$not": where}}, metadata) == met(where, metadata)


@given(st.lists(WHERES, max_size=3), METADATA)
@example([], {})
def test_and_or(wheres: list[Where], metadata: Where) -> None:
    """Without parts they are true and false; the one is the other negated (De Morgan)."""
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
    """And of one value that one; a value by itself is $eq; $ne is $eq negated."""
    assert met({field: {"$in": values}}, metadata) == any(met({field: value}, metadata) for value in values)
    for value in values:
        assert parse({field: {"$eq": value}}) == parse({field: value})
        assert met({field: {"$in": [value]}}, metadata) == met({field: value}, metadata)
        assert met({field: {"$ne": value}}, metadata) == (not met({field: {"$eq": value}}, metadata))


@given(st.one_of(st.tuples(NUMBERS, NUMBERS), st.tuples(TEXTS, TEXTS)))
@example((2**53 + 1, float(2**53)))
@example((-0.0, 0))
def test_order_is_total_among_like(pair: tuple[Any, Any]) -> None:
    """Of below, equal and above there is one; the other two operators are what their names say."""
    found, wanted = pair
    below, equal, above = (met({"a": {operator: wanted}}, {"a": found}) for operator in ("$lt", "$eq", "$gt"))
    assert [below, equal, above].count(True) == 1
    assert met({"a": {"$lte": wanted}}, {"a": found}) == (below or equal)
    assert met({"a": {"$gte": wanted}}, {"a": found}) == (above or equal)
    assert met({"a": {"$gt": found}}, {"a": wanted}) == below


@given(SCALARS, st.one_of(NUMBERS, TEXTS))
def test_only_like_is_compared_with_like(found: Any, wanted: Any) -> None:
    """Between different kinds no comparison holds, nor its opposite."""
    kinds = [str if isinstance(each, str) else bool if isinstance(each, bool) else float for each in (found, wanted)]
    if found is None or kinds[0] is not kinds[1]:
        operators = ["$eq", "$lt", "$lte", "$gt", "$gte"]
        assert not any(met({"a": {operator: wanted}}, {"a": found}) for operator in operators)


@given(st.lists(SCALARS, max_size=4), OPERANDS)
def test_a_list_meets_what_one_of_its_elements_meets(values: list[Any], operand: Any) -> None:
    """And a negated condition if none does."""
    by_itself = [met({"a": operand}, {"a": value}) for value in values]
    negated = isinstance(operand, dict) and "$ne" in operand
    if not (isinstance(operand, dict) and "$exists" in operand):
        assert met({"a": operand}, {"a": values}) == (all(by_itself) if negated else any(by_itself))


@given(WHERES, METADATA)
def test_other_fields_do_not_matter(where: Where, metadata: Where) -> None:
    """Those that a chunk has and the filter does not name."""
    assert met(where, {**metadata, "unrelated": 1}) == met(where, metadata)
