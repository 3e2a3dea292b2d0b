"""LlamaIndex's metadata filters as a `where`, with the meaning that they have in LlamaIndex. Pure.

LlamaIndex compares like Python, whereas the kit compares only values of one kind and looks into lists: for LlamaIndex,
1 equals True, a list is compared as a whole, and a text contains its parts. To express both, a node's record names its
lists, under LISTS; records stored by another integration have no such names, and their lists are compared by their
elements. A comparison that Python refuses, such as that of a text with a number, finds nothing. A key is a name, as in
LlamaIndex's own stores: no dot in it leads into a dict. `text_match_insensitive` treats letters as equal if Unicode
case folding makes them equal: those of LlamaIndex's lower(), and forms of one letter, such as the final sigma.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from harrier_core import FilterError
from harrier_core.filters import Key

Where = dict[str, Any]

SOURCE, LISTS = "ref_doc_id", "_lists"

_ALIASES = ("doc_id", "document_id")  # of SOURCE in all other stores of LlamaIndex; a node's own value takes precedence

# The wildcards of a pattern, and their escapes.
_WILD, _ESCAPED = re.compile(r"[%_\\]"), r"\\\g<0>"

_NEVER: Where = {"$or": []}
_ALWAYS: Where = {"$and": []}

_ORDERS: dict[FilterOperator, tuple[str, Callable[[Any, Any], bool]]] = {
    FilterOperator.GT: ("$gt", operator.gt),
    FilterOperator.GTE: ("$gte", operator.ge),
    FilterOperator.LT: ("$lt", operator.lt),
    FilterOperator.LTE: ("$lte", operator.le),
}


def where_of(filters: MetadataFilters | None) -> Where | None:
    """Return the filters as a `where`; None if they match everything."""
    if filters is None or not filters.filters:
        return None
    parts = [_part(each) for each in filters.filters]
    match filters.condition:
        case FilterCondition.OR:
            return {"$or": parts}
        case FilterCondition.NOT:  # LlamaIndex's stores read several as: none of them
            return {"$not": {"$or": parts}}
    return {"$and": parts}


def lists_in(metadata: Mapping[str, Any]) -> list[str]:
    """Return what to store under LISTS: which values are lists, and digests of those that a filter can equal."""
    names = []
    for key, value in metadata.items():
        if isinstance(value, list):
            names.append(_name(key))
            if all(isinstance(each, str | int | float) for each in value):
                names.append(_name(key, value))
    return names


def _part(part: MetadataFilter | MetadataFilters) -> Where:
    if isinstance(part, MetadataFilters):
        return where_of(part) or {}
    meant = _MEANINGS.get(part.operator)
    if meant is None:  # from a LlamaIndex that is newer than this
        known = ", ".join(each.value for each in _MEANINGS)
        raise FilterError(f"unknown operator {part.operator.value!r} for {part.key!r}; the operators are {known}")
    key = Key(part.key)
    said = meant(key, part.value)
    if key not in _ALIASES:
        return said
    there: Where = {key: {"$exists": True}}
    return {"$or": [_all(there, said), _all(_not(there), meant(SOURCE, part.value))]}


# -- the meaning of each operator


def _equal(key: str, value: Any) -> Where:
    if value is None:  # in LlamaIndex, null is neither equal nor unequal to anything: use "is_empty"
        return _NEVER
    if isinstance(value, list):
        return {LISTS: {"$eq": _name(key, value)}}
    return _of_one(key, {"$in": _alike([value])})


def _in(key: str, value: Any) -> Where:
    return _of_one(key, {"$in": _alike(_listed(key, "in", value))})


def _ordered(operator_: FilterOperator) -> Callable[[str, Any], Where]:
    sign, compare = _ORDERS[operator_]

    def said(key: str, value: Any) -> Where:
        if not isinstance(value, str | int | float):
            raise FilterError(
                f"operator {operator_.value!r} of {key!r} takes a number or a text, not {type(value).__name__}"
            )
        bools = [] if isinstance(value, str) else [each for each in (False, True) if compare(each, value)]
        return _all({"$or": [{key: {sign: value}}, {key: {"$in": bools}}]}, _not(_is_list(key)))

    return said


def _contains(key: str, value: Any) -> Where:
    if isinstance(value, list):
        raise FilterError(f"operator 'contains' of {key!r} takes one value, not a list; use 'any' or 'all'")
    listed = _all(_is_list(key), {key: {"$in": _alike([value])}})
    return {"$or": [listed, _text(key, value)]} if isinstance(value, str) else listed


def _any(key: str, value: Any) -> Where:
    wanted = _listed(key, "any", value)
    texts = [_text(key, each) for each in wanted if isinstance(each, str)]
    return {"$or": [_all(_is_list(key), {key: {"$in": _alike(wanted)}}), *texts]}


def _every(key: str, value: Any) -> Where:
    wanted = _listed(key, "all", value)
    null = _of_one(key, {"$eq": None})
    return _all({key: {"$exists": True}}, _not(null), *(_contains(key, each) for each in wanted))


def _text(key: str, value: Any) -> Where:
    if not isinstance(value, str):
        raise FilterError(f"operator 'text_match' of {key!r} takes a text, not {type(value).__name__}")
    return _of_one(key, {"$contains": value})


def _text_of_any_case(key: str, value: Any) -> Where:
    if not isinstance(value, str):
        raise FilterError(f"operator 'text_match_insensitive' of {key!r} takes a text, not {type(value).__name__}")
    return _of_one(key, {"$ilike": f"%{_WILD.sub(_ESCAPED, value)}%"})


def _empty(key: str, _: Any) -> Where:
    none = _of_one(key, {"$in": [None, ""]})
    return {"$or": [{key: {"$exists": False}}, none, {LISTS: {"$eq": _name(key, [])}}]}


_MEANINGS: dict[FilterOperator, Callable[[str, Any], Where]] = {
    FilterOperator.EQ: _equal,
    FilterOperator.NE: lambda key, value: _not(_equal(key, value)),
    **{each: _ordered(each) for each in _ORDERS},
    FilterOperator.IN: _in,
    FilterOperator.NIN: lambda key, value: _not(_in(key, value)),
    FilterOperator.ANY: _any,
    FilterOperator.ALL: _every,
    FilterOperator.CONTAINS: _contains,
    FilterOperator.TEXT_MATCH: _text,
    FilterOperator.TEXT_MATCH_INSENSITIVE: _text_of_any_case,
    FilterOperator.IS_EMPTY: _empty,
}


# -- helpers


def _all(*parts: Where) -> Where:
    return {"$and": list(parts)}


def _not(part: Where) -> Where:
    return {"$not": part}


def _is_list(key: str) -> Where:
    return {LISTS: {"$eq": _name(key)}}


def _of_one(key: str, said: Where) -> Where:
    """Return a condition on a value that is not a list."""
    return _all({key: said}, _not(_is_list(key)))


def _alike(values: Iterable[Any]) -> list[Any]:
    """Return the values, and the bools that Python considers equal to them."""
    given = list(values)
    return [*given, *(each for each in (False, True) if any(not isinstance(v, str) and v == each for v in given))]


def _name(key: str, whole: list[Any] | None = None) -> str:
    """Return the entry of a list in LISTS: its key, or its key and a digest that is equal for lists equal in Python."""
    if whole is None:
        return json.dumps([key], ensure_ascii=False)
    plain = [each if isinstance(each, str) else _number(each) for each in whole]
    return json.dumps([key, blake2b(json.dumps(plain).encode(), digest_size=12).hexdigest()], ensure_ascii=False)


def _number(value: float) -> float:
    return int(value) if isinstance(value, int) or value.is_integer() else value


def _listed(key: str, said: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise FilterError(f"operator {said!r} of {key!r} takes a list of values, not {type(value).__name__}")
    return value
