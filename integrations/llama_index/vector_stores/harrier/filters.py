"""LlamaIndex's metadata filters as a `where`. Pure.

What they say of a list in the metadata is said of its elements, as everywhere in the kit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from harrier_core import FilterError

Where = dict[str, Any]

_OPERATORS: dict[FilterOperator, Callable[[str, Any], Where]] = {
    FilterOperator.EQ: lambda key, value: {key: {"$eq": value}},
    FilterOperator.NE: lambda key, value: {key: {"$ne": value}},
    FilterOperator.GT: lambda key, value: {key: {"$gt": value}},
    FilterOperator.GTE: lambda key, value: {key: {"$gte": value}},
    FilterOperator.LT: lambda key, value: {key: {"$lt": value}},
    FilterOperator.LTE: lambda key, value: {key: {"$lte": value}},
    FilterOperator.IN: lambda key, value: {key: {"$in": value}},
    FilterOperator.NIN: lambda key, value: {"$not": {key: {"$in": value}}},
    FilterOperator.ANY: lambda key, value: {key: {"$in": value}},
    FilterOperator.ALL: lambda key, value: {"$and": [{key: {"$eq": each}} for each in _listed(key, value)]},
    FilterOperator.CONTAINS: lambda key, value: {key: {"$eq": value}},
}


def where_of(filters: MetadataFilters | None) -> Where | None:
    """The same in the kit's words; None where everything is meant."""
    if filters is None or not filters.filters:
        return None
    parts = [_part(each) for each in filters.filters]
    match filters.condition:
        case FilterCondition.OR:
            return {"$or": parts}
        case FilterCondition.NOT:  # LlamaIndex's stores take several as: none of them
            return {"$not": {"$or": parts}}
    return {"$and": parts}


def _part(part: MetadataFilter | MetadataFilters) -> Where:
    if isinstance(part, MetadataFilters):
        return where_of(part) or {}
    said = _OPERATORS.get(part.operator)
    if said is None:
        known = ", ".join(operator.value for operator in _OPERATORS)
        raise FilterError(
            f"operator {part.operator.value!r} for {part.key!r} cannot be said exactly; there are {known}"
        )
    return said(part.key, part.value)


def _listed(key: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise FilterError(f"operator 'all' of {key!r} takes a list of values, not {type(value).__name__}")
    return value
