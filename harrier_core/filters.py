"""`where={...}` to a small tree of conditions, and what the tree means. Pure.

    where={"lang": "fr"}                                  equal
    where={"year": {"$gte": 2020, "$lt": 2024}}           $eq $ne $in $nin $gt $gte $lt $lte $between $exists
    where={"title": {"$ilike": "%bread%"}}                $contains $like $ilike
    where={"author.name": "Ada"}                          the field "name" in the dict at "author"
    where={"$or": [{"lang": "fr"}, {"$not": {"year": 1999}}]}    $and $or $not; several keys are joined by and

A condition on a field is met by a list if one of its elements meets it. An absent field meets no condition, and so
meets every `$ne`, `$nin` and `$not`. Values are compared only with values of their own kind: 2 equals 2.0 but neither
"2" nor true. $gt and the like compare numbers with numbers, and texts with texts by code points. `$between` takes [low,
high] and includes both. Dates, UUIDs, paths and so on are compared as the texts and numbers that stand for them in
metadata, see harrier_core.values; a date comes before every time of its day.

`$contains` finds a text inside a text. `$like` and `$ilike` compare the whole text with a pattern, in which % stands
for any text, _ for any one character, and a backslash makes the next character an ordinary one. `$ilike` treats
characters as equal if Unicode case folding makes them equal, in any language: harrier_core.patterns.

A dot in a field's name is part of a name, or a step into a dict: "a.b" means the field "a.b", the field "b" in the dict
at "a", or both, whichever exist. Lists on the way are not searched. `Key("a.b")` is only the name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harrier_core.conditions import (
    ORDERS,
    All,
    AnyOf,
    Between,
    Condition,
    Contains,
    Equal,
    Exists,
    Like,
    Not,
    Order,
    Path,
    Scalar,
    decided,
    kind,
    meets,
)
from harrier_core.errors import FilterError
from harrier_core.hints import for_field, for_filter
from harrier_core.patterns import pattern_of
from harrier_core.values import NoForm, plain, unstorable

__all__ = [
    "All",
    "AnyOf",
    "Between",
    "Condition",
    "Contains",
    "Equal",
    "Exists",
    "Key",
    "Like",
    "Not",
    "Order",
    "Path",
    "Scalar",
    "decided",
    "meets",
    "parse",
]

# Each level takes two of the hundred that a gRPC message of Qdrant may have.
_DEEPEST = 32
_MOST_DOTS = 6  # each doubles the ways to read a name


class Key(str):
    """A field's name, taken literally: no dot leads into a dict, and a leading $ does not make it an operator."""

    __slots__ = ()


# -- from where to the tree


def parse(where: Mapping[str, Any] | None) -> Condition | None:
    """Return the tree for `where`, or None if it matches everything."""
    if where is None or where == {}:
        return None
    return _all(where, 0)


def _all(where: object, depth: int) -> Condition:
    if not isinstance(where, Mapping):
        raise FilterError(f"a filter must be a dict of fields and their values, got {type(where).__name__}")
    several = len(where) > 1  # joined by and, which is a level like any other
    if depth + several > _DEEPEST:
        raise FilterError(f"a filter has more than {_DEEPEST} nested levels of $and, $or and $not")
    parts = tuple(_part(key, value, depth + several) for key, value in where.items())
    return parts[0] if len(parts) == 1 else All(parts)


def _part(key: object, value: object, depth: int) -> Condition:
    if not isinstance(key, str):
        raise FilterError(f"a field's name must be str, got {type(key).__name__}")
    if key.startswith("$") and not isinstance(key, Key):
        return _joined(key, value, depth + 1)
    if why := unstorable(key):
        raise FilterError(f"a field's name has {why}, which no database stores")
    if not isinstance(value, Mapping):
        return _equal(key, value)
    parts = tuple(_operator(key, operator, operand) for operator, operand in value.items())
    if not parts:
        raise FilterError(f"the filter for {key!r} is an empty dict; name an operator, such as $eq")
    return parts[0] if len(parts) == 1 else All(parts)


def _joined(key: str, value: object, depth: int) -> Condition:
    if key == "$not":
        return Not(_all(value, depth))
    if key not in ("$and", "$or"):
        raise FilterError(f"unknown operator {key!r}; the top level has $and, $or and $not{for_filter(key)}")
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise FilterError(f"{key} must have a list of filters, got {type(value).__name__}")
    parts = tuple(_all(each, depth) for each in value)
    return All(parts) if key == "$and" else AnyOf(parts)


def _operator(key: str, operator: object, operand: object) -> Condition:
    meant = _MEANINGS.get(operator)
    if meant is not None:
        return meant(key, operand)
    said = f"unknown operator {operator!r} for {key!r}{for_field(operator, key)}"
    if isinstance(operator, str) and not operator.startswith("$"):
        said += f"; for the field {operator!r} of a dict at {key!r} write '{key}.{operator}'"
    raise FilterError(f"{said}; the operators are {', '.join(map(str, _MEANINGS))}")


def _anywhere(key: str, condition: Callable[[Path], Condition]) -> Condition:
    """Return a condition on a field, wherever its name may lead."""
    parts = tuple(condition(path) for path in _paths(key))
    return parts[0] if len(parts) == 1 else AnyOf(parts)


def _paths(key: str) -> Iterator[Path]:
    name = str.__str__(key)
    if isinstance(key, Key):
        return iter([(name,)])
    steps = name.split(".")
    if len(steps) > _MOST_DOTS + 1:
        raise FilterError(
            f"the field's name {name!r} has more than {_MOST_DOTS} dots; if they are part of the name, write "
            "harrier_core.filters.Key(name)"
        )
    return _ways(steps)


def _ways(steps: Sequence[str]) -> Iterator[Path]:
    """Yield every way to read the dots in a name, the literal name first."""
    first, *rest = steps
    if not rest:
        yield (first,)
        return
    ways = list(_ways(rest))
    yield from ((f"{first}.{way[0]}", *way[1:]) for way in ways)
    yield from ((first, *way) for way in ways)


# -- what each operator takes


def _equal(key: str, operand: object) -> Condition:
    value = _scalar(key, operand)
    return _anywhere(key, lambda path: Equal(path, value))


def _one_of(key: str, operand: object, operator: str = "$in") -> Condition:
    if not isinstance(operand, Sequence | set | frozenset) or isinstance(operand, str | bytes):
        raise FilterError(f"{operator} of {key!r} must have a list of values, got {type(operand).__name__}")
    values = [_scalar(key, each) for each in operand]
    return _anywhere(key, lambda path: AnyOf(tuple(Equal(path, value) for value in values)))


def _ordered(operator: str) -> Callable[[str, object], Condition]:
    def condition(key: str, operand: object) -> Condition:
        value = _comparable(key, operator, operand)
        return _anywhere(key, lambda path: Order(path, operator, value))

    return condition


def _between(key: str, operand: object) -> Condition:
    if not isinstance(operand, list | tuple) or len(operand) != 2:
        got = f"{len(operand)} values" if isinstance(operand, list | tuple) else type(operand).__name__
        raise FilterError(f"$between of {key!r} must have a list of two values, [low, high], got {got}")
    low, high = (_comparable(key, "$between", each) for each in operand)
    if kind(low) != kind(high):
        raise FilterError(f"$between of {key!r} must have two values of one kind, got a {kind(low)} and a {kind(high)}")
    return _anywhere(key, lambda path: Between(path, low, high))


def _comparable(key: str, operator: str, operand: object) -> str | int | float:
    value = _scalar(key, operand)
    if value is None or isinstance(value, bool):
        raise FilterError(f"{operator} of {key!r} must have a number, a text or a date, got {value!r}")
    return value


def _contains(key: str, operand: object) -> Condition:
    part = _text(key, "$contains", operand)
    return _anywhere(key, lambda path: Contains(path, part))


def _like(operator: str, *, any_case: bool) -> Callable[[str, object], Condition]:
    def condition(key: str, operand: object) -> Condition:
        text = _text(key, operator, operand)
        try:
            pattern = pattern_of(text, any_case=any_case)
        except ValueError as error:
            raise FilterError(f"the pattern of {operator} for {key!r} {error}") from None
        return _anywhere(key, lambda path: Like(path, pattern))

    return condition


def _exists(key: str, operand: object) -> Condition:
    if not isinstance(operand, bool):
        raise FilterError(f"$exists of {key!r} must be True or False, got {type(operand).__name__}")
    there = _anywhere(key, Exists)
    return there if operand else Not(there)


_MEANINGS: dict[object, Callable[[str, object], Condition]] = {
    "$eq": _equal,
    "$ne": lambda key, operand: Not(_equal(key, operand)),
    "$in": _one_of,
    "$nin": lambda key, operand: Not(_one_of(key, operand, "$nin")),
    **{operator: _ordered(operator) for operator in ORDERS},
    "$between": _between,
    "$contains": _contains,
    "$like": _like("$like", any_case=False),
    "$ilike": _like("$ilike", any_case=True),
    "$exists": _exists,
}


def _text(key: str, operator: str, operand: object) -> str:
    value = _scalar(key, operand)
    if not isinstance(value, str):
        raise FilterError(f"{operator} of {key!r} must have a text, got {type(operand).__name__}")
    return value


def _scalar(key: str, operand: object) -> Scalar:
    if isinstance(operand, list | tuple | set | frozenset):
        raise FilterError(
            f"{key!r} must be compared with one value, got a {type(operand).__name__}; for one of several values write "
            f"{{{key!r}: {{'$in': [...]}}}}; a list in metadata matches if one of its elements does"
            f"{for_filter(key)}"
        )
    try:
        value = plain(operand)
        got = type(operand).__name__
    except NoForm as error:
        value, got = {}, str(error)
    if isinstance(value, list | dict):
        raise FilterError(f"{key!r} must be compared with a text, a finite number, a date, a bool or None, got {got}")
    scalar: Scalar = value
    return scalar
