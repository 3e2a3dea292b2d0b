"""Haystack's filters as a `where`, with the meaning that they have in Haystack. Pure.

Haystack compares like Python: 1 equals True, and an absent value is None. A list in the metadata is compared element by
element, as everywhere in the kit, whereas Haystack compares the whole list. Texts have no order, except dates in ISO
format, which are compared as texts: write all dates of a field in one format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import haystack.errors

import harrier_core
from harrier_core.filters import parse

Where = dict[str, Any]

_ORDERS = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]|$)")


class FilterError(harrier_core.FilterError, haystack.errors.FilterError):
    """A filter that is invalid, or that an Index does not support."""


def where_of(filters: Mapping[str, Any] | None) -> Where | None:
    """Return the filters as a `where`; None if they match everything."""
    where = _part(filters) if filters else None
    try:
        parse(where)
    except harrier_core.FilterError as error:
        raise FilterError(str(error)) from error
    return where


def ids_of(filters: Mapping[str, Any] | None) -> list[str] | None:
    """Return the ids that filters name, if they do nothing else: an id is not metadata."""
    match filters:
        case {"field": "id", "operator": "==" | "in" as operator, "value": value}:
            return [value] if operator == "==" else value
    return None


def _part(part: Any) -> Where:
    match part:
        case {"field": str(field), "operator": operator, "value": value} if field.startswith("meta."):
            return _comparison(field.removeprefix("meta."), operator, value)
        case {"operator": "AND" | "OR" | "NOT" as operator, "conditions": list(conditions)}:
            parts = [_part(each) for each in conditions]
            return {"$not": {"$and": parts}} if operator == "NOT" else {f"${operator.lower()}": parts}
    raise FilterError("a filter must have field 'meta.KEY', operator and value, or AND, OR or NOT and conditions")


def _comparison(key: str, operator: str, value: Any) -> Where:
    match operator, value:
        case (("==" | "!="), _):
            met = _one_of(key, [value])
        case (("in" | "not in"), list()):
            met = _one_of(key, value)
        case ((">" | ">=" | "<" | "<="), None):
            met = {"$or": []}
        case ((">" | ">=" | "<" | "<="), _) if not isinstance(value, str) or _DATE.match(value):
            met = {key: {_ORDERS[operator]: value}}
        case _:
            raise FilterError(
                f"{key!r} must be compared by == or !=, by an order (numbers or dates), or by in or not in (a list)"
            )
    return {"$not": met} if operator in ("!=", "not in") else met


def _one_of(key: str, values: list[Any]) -> Where:
    missing = [{key: {"$exists": False}}] if None in values else []
    return {"$or": [{key: {"$in": list(_alike(values))}}, *missing]}


def _alike(values: list[Any]) -> Iterator[Any]:
    """Yield the values, and those that Python considers equal: the kit compares values of one kind only."""
    for value in values:
        yield from (bool(value), int(value)) if isinstance(value, int | float) and value in (0, 1) else (value,)
