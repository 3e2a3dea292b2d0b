"""Conditions to Qdrant's filters, as the JSON of its REST interface. Pure.

Qdrant cannot say everything that our filters mean: it does not order texts or look into them, and its paths know no
key with a quotation mark. Such a condition becomes a wider one, and `exact` says that what is found has to be looked
at again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harrier_core.filters import All, AnyOf, Condition, Contains, Equal, Exists, Not, Order
from harrier_qdrant.points import FIELDS, HASH, METADATA, NUMBER, RECORD, nearest_float

Filter = dict[str, Any]

# Up to here a whole number is compared as itself, beyond as its nearest float.
_EXACT = 2**53

_RANGES = {"$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}
_ROUNDED = {"$gt": "gte", "$gte": "gte", "$lt": "lte", "$lte": "lte"}

# What is true of every chunk, and of none: an empty list of conditions is not taken for the same everywhere.
_ALL: Filter = {"key": NUMBER, "range": {"gte": 0}}
_NONE: Filter = {"key": NUMBER, "range": {"lt": 0}}


# Chunks, without the points of other programs. The server answers it from the index of this field.
CHUNKS: Filter = {"must_not": [{"is_empty": {"key": RECORD}}]}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A filter, and whether it finds what the condition means and nothing else."""

    filter: Filter | None
    exact: bool


def of_records(record_ids: Sequence[str]) -> Filter:
    """The chunks of these records."""
    return {"must": [{"key": RECORD, "match": {"any": list(record_ids)}}]}


def of_hashes(hashes: Sequence[str]) -> Filter:
    """The chunks that have one of these."""
    return {"must": [{"key": HASH, "match": {"any": list(hashes)}}]}


def of_numbers(numbers: Sequence[int] | None) -> Filter | None:
    """The chunks that have one of these numbers within their records, or all."""
    return None if numbers is None else {"must": [{"key": NUMBER, "match": {"any": list(numbers)}}]}


def both(one: Filter | None, other: Filter | None) -> Filter | None:
    """What both find."""
    parts = [part for part in (one, other) if part is not None]
    return {"must": parts} if len(parts) > 1 else next(iter(parts), None)


def compile_condition(condition: Condition | None) -> Compiled:
    """The narrowest filter that finds everything that meets the condition."""
    if condition is None:
        return Compiled(None, exact=True)
    wide, narrow = _compile(condition, wide=True), _compile(condition, wide=False)
    return Compiled({"must": [wide]}, exact=wide == narrow)


def _compile(condition: Condition, *, wide: bool) -> Filter:
    """A filter for all that meets the condition, and maybe more; or, not `wide`, for nothing else, and maybe less."""
    match condition:
        case Equal(field, value):
            return _leaf(field, _equal(value), wide=wide)
        case Order(field, operator, value):
            return _leaf(field, _order(operator, value), wide=wide)
        case Exists(field) | Contains(field):  # what "match": {"text": ...} means changes with the indexes of the field
            return _exists(field) if wide or isinstance(condition, Exists) else _NONE
        case Not(part):
            return {"must_not": [_compile(part, wide=not wide)]}
        case All(parts):
            return {"must": [_compile(part, wide=wide) for part in parts]} if parts else _ALL
        case AnyOf(parts):
            return {"should": [_compile(part, wide=wide) for part in parts]} if parts else _NONE


def _exists(field: str) -> Filter:
    """By the names that a chunk carries beside its metadata: Qdrant takes an empty list for none at all."""
    return {"key": FIELDS, "match": {"value": field}}


def _leaf(field: str, test: tuple[Filter, bool] | None, *, wide: bool) -> Filter:
    if test is None or '"' in field or "\\" in field:  # not to be said, or not by a path
        return _exists(field) if wide else _NONE
    said, exact = test
    if not (exact or wide):
        return _NONE
    path = f'{METADATA}."{field}"'
    return {"is_null": {"key": path}} if said == {"is_null": True} else {"key": path, **said}


def _equal(value: object) -> tuple[Filter, bool]:
    if value is None:
        return {"is_null": True}, True
    if isinstance(value, bool | str):
        return {"match": {"value": value}}, True
    assert isinstance(value, int | float)  # noqa: S101  # what else is there, filters.parse has refused
    number = nearest_float(value)
    return {"range": {"gte": number, "lte": number}}, abs(value) < _EXACT


def _order(operator: str, value: str | float) -> tuple[Filter, bool] | None:
    if isinstance(value, str):
        return None
    exact = abs(value) < _EXACT
    return {"range": {(_RANGES if exact else _ROUNDED)[operator]: nearest_float(value)}}, exact
