"""Invalid filters, and the errors that explain the right form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harrier_core import FilterError
from harrier_core.filters import Key, parse

ONE = "'a' must be compared with a text, a finite number, a date, a bool or None, got "


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ([], "a filter must be a dict of fields and their values, got list"),
        ("a", "a filter must be a dict of fields and their values, got str"),
        ({"$and": [None]}, "a filter must be a dict of fields and their values, got NoneType"),
        ({"$not": [{"a": 1}]}, "a filter must be a dict of fields and their values, got list"),
        ({1: 2}, "a field's name must be str, got int"),
        ({"$or": [{None: 2}]}, "a field's name must be str, got NoneType"),
        ({"$and": {}}, "$and must have a list of filters, got dict"),
        ({"$or": "ab"}, "$or must have a list of filters, got str"),
        ({"$or": {1, 2}}, "$or must have a list of filters, got set"),
        ({"$and": b"ab"}, "$and must have a list of filters, got bytes"),
        ({"a\0": 1}, "a field's name has a NUL character, which no database stores"),
        ({Key("\ud83d"): 1}, "a field's name has half of a surrogate pair, which no database stores"),
        (
            {"a.b.c.d.e.f.g.h": 1},
            "'a.b.c.d.e.f.g.h' has more than 6 dots; if they are part of the name, write harrier_core",
        ),
        ({"a": {}}, "the filter for 'a' is an empty dict; name an operator, such as $eq"),
        ({"a": {1: 1}}, "unknown operator 1 for 'a'; the operators are $eq, $ne, $in"),
        (
            {"a": {"$mod": [2, 0]}},
            "unknown operator '$mod' for 'a'; the operators are $eq, $ne, $in, $nin, $gt, $gte, $lt, ",
        ),
        ({"a": object()}, f"{ONE}a value that JSON cannot represent: object"),
        ({"a": {"$eq": {}}}, f"{ONE}dict"),
        ({"a": {"$eq": {"b": object()}}}, f"{ONE}a value that JSON cannot represent: object"),
        ({"a": {"$ne": b"x"}}, f"{ONE}a value that JSON cannot represent: bytes"),
        ({"a": float("nan")}, f"{ONE}nan, which JSON cannot represent"),
        ({"a": np.float32("nan")}, f"{ONE}nan, which JSON cannot represent"),
        ({"a": {"$gt": float("inf")}}, f"{ONE}inf, which JSON cannot represent"),
        ({"a": 10**400}, f"{ONE}a number beyond all floats"),
        ({"a": {"$lt": -(10**400)}}, f"{ONE}a number beyond all floats"),
        ({"a": "\0"}, f"{ONE}a NUL character"),
        ({"a": {"$contains": "\ud83d"}}, f"{ONE}half of a surrogate pair"),
        ({"a": {"$in": "ab"}}, "$in of 'a' must have a list of values, got str"),
        ({"a": {"$in": b"ab"}}, "$in of 'a' must have a list of values, got bytes"),
        ({"a": {"$in": 1}}, "$in of 'a' must have a list of values, got int"),
        ({"a": {"$nin": {"x": 1}}}, "$nin of 'a' must have a list of values, got dict"),
        ({"a": {"$gt": None}}, "$gt of 'a' must have a number, a text or a date, got None"),
        ({"a": {"$lte": True}}, "$lte of 'a' must have a number, a text or a date, got True"),
        ({"a": {"$between": [1, 2, 3]}}, "$between of 'a' must have a list of two values, [low, high], got 3 values"),
        ({"a": {"$between": "ab"}}, "$between of 'a' must have a list of two values, [low, high], got str"),
        ({"a": {"$between": [1, None]}}, "$between of 'a' must have a number, a text or a date, got None"),
        ({"a": {"$between": [1, "2"]}}, "$between of 'a' must have two values of one kind, got a number and a text"),
        ({"a": {"$contains": 1}}, "$contains of 'a' must have a text, got int"),
        ({"a": {"$contains": None}}, "$contains of 'a' must have a text, got NoneType"),
        ({"a": {"$like": 1}}, "$like of 'a' must have a text, got int"),
        ({"a": {"$ilike": "%\\"}}, "the pattern of $ilike for 'a' ends with a backslash, which must be followed by"),
        ({"a": {"$exists": 1}}, "$exists of 'a' must be True or False, got int"),
        ({"a": {"$exists": "yes"}}, "$exists of 'a' must be True or False, got str"),
    ],
)
def test_invalid_filters(where: Any, reason: str) -> None:
    """The error names the field and the operator, at any depth."""
    for nested in (where, {"$or": [{"b": 1}, where]}, {"$not": where}):
        with pytest.raises(FilterError) as caught:
            parse(nested)
        assert reason in str(caught.value)


@pytest.mark.parametrize("operand", [["fr", "de"], ("fr",), {"fr"}, []])
def test_a_list_of_values_is_refused_with_the_remedy(operand: Any) -> None:
    """A list is refused as an operand too; metadata may contain lists."""
    for where in ({"lang": operand}, {"lang": {"$ne": operand}}, {"lang": {"$in": [operand]}}):
        with pytest.raises(FilterError) as caught:
            parse(where)
        assert str(caught.value) == (
            f"'lang' must be compared with one value, got a {type(operand).__name__}; for one of several values write "
            "{'lang': {'$in': [...]}}; a list in metadata matches if one of its elements does"
        )


@pytest.mark.parametrize(
    ("where", "words"),
    [
        # On a field.
        ({"a": {"$not_in": [1]}}, "'$not_in' for 'a'; write $nin; the operators are"),
        ({"a": {"$neq": 1}}, "write $ne;"),
        ({"a": {"<>": 1}}, "write $ne;"),
        ({"a": {"$regex": "x"}}, "write $like or $ilike; there are no regular expressions"),
        ({"a": {"$all": ["x"]}}, """write {"$and": [{'a': first}, {'a': second}]}: a list meets what one of its"""),
        ({"a": {"$elemMatch": {}}}, "write the condition on 'a' itself"),
        ({"a": {"$not": {"$gt": 1}}}, """write {"$not": {'a': ...}}"""),
        ({"a": {"$and": []}}, "write it above the field"),
        ({"a": {"$not_contains": "x"}}, """write {"$not": {'a': {"$contains": ...}}}"""),
        # Without a $, it may be the name of a field within.
        (
            {"a": {"eq": 1}},
            "'eq' for 'a'; write $eq; for the field 'eq' of a dict at 'a' write 'a.eq'; the operators are",
        ),
        ({"a": {">=": 1}}, "write $gte;"),
        ({"a": {"contains": "x"}}, "write $contains;"),
        ({"a": {"NOT IN": [1]}}, "write $nin;"),
        (
            {"a": {"b": 1}},
            "unknown operator 'b' for 'a'; for the field 'b' of a dict at 'a' write 'a.b'; the operators are",
        ),
        # In place of a field.
        ({"$nor": []}, """the top level has $and, $or and $not; write {"$not": {"$or": [...]}}"""),
        ({"$eq": 1}, "unknown operator '$eq'; the top level has $and, $or and $not; write the field first, {field:"),
        ({"$must": []}, """write {"$and": [...]}"""),
        ({"must": [{"key": "a", "match": {"value": 1}}]}, """write {"$and": [...]}"""),
        ({"should": []}, """write {"$or": [...]}"""),
        ({"must_not": []}, """write {"$not": {"$or": [...]}}"""),
        ({"AND": [{"a": 1}]}, """write {"$and": [...]}"""),
    ],
)
def test_operators_of_other_languages(where: Any, words: str) -> None:
    """The error names the kit's operator."""
    with pytest.raises(FilterError) as caught:
        parse(where)
    assert words in str(caught.value)


def test_a_field_with_the_name_of_an_operator() -> None:
    """It is accepted if it is not in the place of an operator."""
    for name in ("text", "range", "is", "value"):
        with pytest.raises(FilterError) as caught:
            parse({name: ["x"]})
        assert str(caught.value).endswith("matches if one of its elements does")
        assert parse({name: "x"})


def nested(levels: int) -> Any:
    where: Any = {"a": 1}
    for level in range(levels):
        where = {"$not": where} if level % 3 else {"$and" if level % 2 else "$or": [where]}
    return where


def test_the_maximum_depth() -> None:
    """A deeper filter raises the kit's error, not a RecursionError."""
    assert parse(nested(32)) is not None
    several: dict[str, Any] = {"a": 1, "b": 1}
    for _ in range(15):
        several = {"$or": [several], "a": 1}
    assert parse({"$not": several}) is not None
    cycle: dict[str, Any] = {}
    cycle["$and"] = [cycle, cycle]
    for where in (nested(33), nested(100_000), cycle, {"$not": {"a": 1, "$or": [several]}}):
        with pytest.raises(FilterError, match="more than 32 nested levels of \\$and, \\$or and \\$not"):
            parse(where)
