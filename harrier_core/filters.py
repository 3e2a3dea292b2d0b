"""`where={...}` to a small tree of conditions, and what the tree means. Pure.

    where={"lang": "fr"}                                  equal
    where={"year": {"$gte": 2020, "$lt": 2024}}           $eq $ne $in $gt $gte $lt $lte $contains $exists
    where={"$or": [{"lang": "fr"}, {"$not": {"year": 1999}}]}    $and $or $not; several keys are joined by and

A condition on a field is met by a list if one of its elements meets it. A field that is not there meets no condition,
and so meets every `$ne` and `$not`. Only like is compared with like: 2 equals 2.0 but neither "2" nor true, and $gt
and its kin order numbers with numbers and texts, by code points, with texts. $contains finds a text inside a text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any

from harrier_core.errors import FilterError
from harrier_core.records import plain, too_large, unstorable

Scalar = str | int | float | bool | None

_ORDERS: dict[object, Callable[[Any, Any], bool]] = {"$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}


@dataclass(frozen=True, slots=True)
class Equal:
    """The field has this value, or a list with it."""

    field: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class Order:
    """The field's value, or one in its list, is above or below."""

    field: str
    operator: str  # $gt, $gte, $lt, $lte
    value: str | int | float


@dataclass(frozen=True, slots=True)
class Contains:
    """The field's text, or one in its list, has this text in it."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is there, be it null."""

    field: str


@dataclass(frozen=True, slots=True)
class All:
    """Every part is met; without parts, always."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One part is met; without parts, never."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part is not met."""

    part: Condition


Condition = Equal | Order | Contains | Exists | All | AnyOf | Not


def parse(where: Mapping[str, Any] | None) -> Condition | None:
    """The tree for `where`, or nothing where everything is meant."""
    if where is None or where == {}:
        return None
    return _all(where)


def _all(where: object) -> Condition:
    if not isinstance(where, Mapping):
        raise FilterError(f"a filter is a dict of fields and their values, not {type(where).__name__}")
    parts = [_part(key, value) for key, value in where.items()]
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _part(key: object, value: object) -> Condition:
    if not isinstance(key, str):
        raise FilterError(f"a field's name is a str, not {type(key).__name__}")
    if key in ("$and", "$or"):
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise FilterError(f"{key} takes a list of filters, not {type(value).__name__}")
        parts = tuple(_all(each) for each in value)
        return All(parts) if key == "$and" else AnyOf(parts)
    if key == "$not":
        return Not(_all(value))
    if key.startswith("$"):
        raise FilterError(f"unknown operator {key!r}; at the top there are $and, $or and $not")
    if why := unstorable(key):
        raise FilterError(f"a field's name has {why}, which no database stores")
    key = str.__str__(key)
    if isinstance(value, Mapping):
        parts = tuple(_operator(key, operator, operand) for operator, operand in value.items())
        if not parts:
            raise FilterError(f"the filter for {key!r} is an empty dict; name an operator, such as $eq")
        return parts[0] if len(parts) == 1 else All(parts)
    return Equal(key, _scalar(key, value))


def _operator(field: str, operator: object, operand: object) -> Condition:
    if operator == "$eq":
        return Equal(field, _scalar(field, operand))
    if operator == "$ne":
        return Not(Equal(field, _scalar(field, operand)))
    if operator == "$in":
        return _one_of(field, operand)
    if operator in _ORDERS:
        value = _scalar(field, operand)
        if value is None or isinstance(value, bool):
            raise FilterError(f"{operator} of {field!r} takes a number or a text, not {value!r}")
        return Order(field, str(operator), value)
    if operator == "$contains":
        part = _scalar(field, operand)
        if not isinstance(part, str):
            raise FilterError(f"$contains of {field!r} takes a text, not {type(operand).__name__}")
        return Contains(field, part)
    if operator == "$exists":
        if not isinstance(operand, bool):
            raise FilterError(f"$exists of {field!r} takes True or False, not {type(operand).__name__}")
        return Exists(field) if operand else Not(Exists(field))
    known = "$eq, $ne, $in, $gt, $gte, $lt, $lte, $contains and $exists"
    raise FilterError(f"unknown operator {operator!r} for {field!r}; there are {known}")


def _one_of(field: str, operand: object) -> Condition:
    if not isinstance(operand, Sequence | set | frozenset) or isinstance(operand, str):
        raise FilterError(f"$in of {field!r} takes a list of values, not {type(operand).__name__}")
    return AnyOf(tuple(Equal(field, _scalar(field, each)) for each in operand))


def _scalar(field: str, value: object) -> Scalar:
    if not _is_scalar(value):
        raise FilterError(f"{field!r} is compared with a text, a finite number, a bool or None, not {_named(value)}")
    scalar: Scalar = plain(value)
    return scalar


def _is_scalar(value: object) -> bool:
    if isinstance(value, str):
        return not unstorable(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, int) and not too_large(value))


def _named(value: object) -> str:
    if isinstance(value, int | float):
        return str(value) if isinstance(value, float) else "a number beyond all floats"
    return "a text that no database stores" if isinstance(value, str) else type(value).__name__


def meets(metadata: Mapping[str, Any], condition: Condition | None) -> bool:
    """Whether a chunk with this metadata is meant: what every store must agree with."""
    match condition:
        case Equal(field, value):
            met = any(_equal(each, value) for each in _values(metadata, field))
        case Order(field, operator, value):
            met = any(_ordered(each, operator, value) for each in _values(metadata, field))
        case Contains(field, value):
            met = any(isinstance(each, str) and value in each for each in _values(metadata, field))
        case Exists(field):
            met = field in metadata
        case All(parts):
            met = all(meets(metadata, part) for part in parts)
        case AnyOf(parts):
            met = any(meets(metadata, part) for part in parts)
        case Not(part):
            met = not meets(metadata, part)
        case None:
            met = True
    return met


def _values(metadata: Mapping[str, Any], field: str) -> Sequence[Any]:
    if field not in metadata:
        return ()
    value = metadata[field]
    return value if isinstance(value, list | tuple) else (value,)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "text"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _equal(found: object, wanted: Scalar) -> bool:
    return _kind(found) == _kind(wanted) and found == wanted


def _ordered(found: object, operator: str, wanted: str | float) -> bool:
    return _kind(found) == _kind(wanted) and _ORDERS[operator](found, wanted)
