"""Conditions to Qdrant's filters, as the JSON of its REST interface. Pure.

Qdrant cannot express everything that our filters mean: it does not order texts or look into them, its paths allow no
key with a quotation mark, and it treats an empty list inside a dict as absent. Such a condition becomes a wider one,
and `exact` says that the results have to be checked again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import nextafter
from typing import Any

from harrier_core.filters import (
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
)
from harrier_qdrant.points import FIELDS, HASH, METADATA, NUMBER, RECORD, nearest_float
from harrier_qdrant.schema import WORDS

Filter = dict[str, Any]

# Up to here an integer is compared exactly, beyond it as its nearest float.
_EXACT = 2**53
_MOST = sys.float_info.max

# Filters that match every chunk, and none: an empty list of conditions does not mean the same everywhere.
_ALL: Filter = {"key": NUMBER, "range": {"gte": 0}}
_NONE: Filter = {"key": NUMBER, "range": {"lt": 0}}


# Chunks, without the points of other programs. The server answers it from this field's index.
CHUNKS: Filter = {"must_not": [{"is_empty": {"key": RECORD}}]}

WITH_WORDS: Filter = {"must": [{"has_vector": WORDS}]}
WITHOUT_WORDS: Filter = {"must_not": [{"has_vector": WORDS}]}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A filter, and whether it finds exactly what the condition means."""

    filter: Filter | None
    exact: bool


def of_records(record_ids: Sequence[str]) -> Filter:
    """Return a filter for the chunks of these records."""
    return {"must": [{"key": RECORD, "match": {"any": list(record_ids)}}]}


def of_ids(ids: Sequence[str]) -> Filter:
    """Return a filter for the chunks with these ids."""
    return {"must": [{"has_id": list(ids)}]}


def of_hashes(hashes: Sequence[str]) -> Filter:
    """Return a filter for the chunks that have one of these hashes."""
    return {"must": [{"key": HASH, "match": {"any": list(hashes)}}]}


def with_hash(id_: str, hash_: str) -> Filter:
    """Return a filter for one chunk, as long as it has this hash."""
    return {"must": [{"has_id": [id_]}, {"key": HASH, "match": {"value": hash_}}]}


def of_numbers(numbers: Sequence[int] | None) -> Filter | None:
    """Return a filter for the chunks with one of these numbers within their records, or None for all."""
    if numbers is not None and not numbers:  # a server takes an empty list for one of texts
        return {"must": [_NONE]}
    return None if numbers is None else {"must": [{"key": NUMBER, "match": {"any": list(numbers)}}]}


def both(one: Filter | None, other: Filter | None) -> Filter | None:
    """Return a filter for what both find."""
    parts = [part for part in (one, other) if part is not None]
    return {"must": parts} if len(parts) > 1 else next(iter(parts), None)


def compile_condition(condition: Condition | None) -> Compiled:
    """Return the narrowest filter that finds everything that meets the condition."""
    if condition is None:
        return Compiled(None, exact=True)
    wide, narrow = _compile(condition, wide=True), _compile(condition, wide=False)
    return Compiled({"must": [wide]}, exact=wide == narrow)


def _compile(condition: Condition, *, wide: bool) -> Filter:
    """Return a filter for all that meets the condition, and maybe more; or, not `wide`, for only that, maybe less."""
    match condition:
        case Exists(path):
            return _exists(path, wide=wide)
        case Not(part):
            return {"must_not": [_compile(part, wide=not wide)]}
        case All(parts):
            return {"must": [_compile(part, wide=wide) for part in parts]} if parts else _ALL
        case AnyOf(parts):
            return {"should": [_compile(part, wide=wide) for part in parts]} if parts else _NONE
        case _:
            return _leaf(condition.path, _test(condition), wide=wide)


def _named(path: Path) -> Filter:
    """Return a filter for chunks that list the first name of a path, because Qdrant treats empty lists as absent."""
    return {"key": FIELDS, "match": {"value": path[0]}}


def _exists(path: Path, *, wide: bool) -> Filter:
    if wide or len(path) == 1:
        return _named(path)
    key = _key(path)
    return {"must_not": [{"is_empty": {"key": key}}]} if key else _NONE


def _leaf(path: Path, test: tuple[Filter, bool] | None, *, wide: bool) -> Filter:
    key = _key(path)
    if test is None or key is None:  # it cannot be expressed, or has no path
        return _named(path) if wide else _NONE
    said, exact = test
    if not (exact or wide):
        return _NONE
    return {"is_null": {"key": key}} if said == {"is_null": True} else {"key": key, **said}


def _key(path: Path) -> str | None:
    """Return the path in Qdrant's notation, or None if a name cannot be written in it."""
    if any('"' in name or "\\" in name for name in path):
        return None
    return ".".join([METADATA, *(f'"{name}"' for name in path)])


def _test(condition: Equal | Order | Between | Contains | Like) -> tuple[Filter, bool] | None:
    match condition:
        case Equal(_, value):
            return _equal(value)
        case Order(_, operator, bound):
            return _order(operator, bound)
        case Between(_, low, high):
            return _between(low, high)
        case Contains() | Like():  # the meaning of "match": {"text": ...} depends on the field's indexes
            return None


def _equal(value: object) -> tuple[Filter, bool]:
    if value is None:
        return {"is_null": True}, True
    if isinstance(value, bool | str):
        return {"match": {"value": value}}, True
    assert isinstance(value, int | float)  # noqa: S101  # filters.parse has refused all else
    return _range(gte=value, lte=value)


def _order(operator: str, value: str | float) -> tuple[Filter, bool] | None:
    return None if isinstance(value, str) else _range(**{operator.removeprefix("$"): value})


def _between(low: str | float, high: str | float) -> tuple[Filter, bool] | None:
    return None if isinstance(low, str) or isinstance(high, str) else _range(gte=low, lte=high)


def _range(**bounds: float) -> tuple[Filter, bool]:
    if all(abs(value) < _EXACT for value in bounds.values()):
        return {"range": {name: float(value) for name, value in bounds.items()}}, True
    return {"range": dict(_outside(name, nearest_float(value)) for name, value in bounds.items())}, False


def _outside(name: str, value: float) -> tuple[str, float]:
    """Return a bound that includes everything within a float's precision, because local mode rounds no integers."""
    return ("gte", nextafter(value, -_MOST)) if name in ("gt", "gte") else ("lte", nextafter(value, _MOST))
