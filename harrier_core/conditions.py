"""Conditions on metadata as a small tree, and what it means. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any

from harrier_core.patterns import Pattern, fits

Scalar = str | int | float | bool | None
Path = tuple[str, ...]  # the names that lead to a field: those of the enclosing dicts, then its own

ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {"$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}


@dataclass(frozen=True, slots=True)
class Equal:
    """The field has this value, or is a list that contains it."""

    path: Path
    value: Scalar


@dataclass(frozen=True, slots=True)
class Order:
    """The field's value, or one in its list, is above or below a bound."""

    path: Path
    operator: str  # $gt, $gte, $lt, $lte
    value: str | int | float


@dataclass(frozen=True, slots=True)
class Between:
    """The field's value, or one in its list, is neither below `low` nor above `high`; both bounds are of one kind."""

    path: Path
    low: str | int | float
    high: str | int | float


@dataclass(frozen=True, slots=True)
class Contains:
    """The field's text, or one in its list, contains this text."""

    path: Path
    value: str


@dataclass(frozen=True, slots=True)
class Like:
    """The field's text, or one in its list, matches the pattern."""

    path: Path
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is present, even if its value is null."""

    path: Path


@dataclass(frozen=True, slots=True)
class All:
    """Every part is met; with no parts, it is always met."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part is met; with no parts, it is never met."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part is not met."""

    part: Condition


Condition = Equal | Order | Between | Contains | Like | Exists | All | AnyOf | Not


def meets(metadata: Mapping[str, Any], condition: Condition | None) -> bool:
    """Return whether a chunk with this metadata meets the condition. Every store must agree with it."""
    match condition:
        case Exists(path):
            met = any(True for _ in _found(metadata, path))
        case All(parts):
            met = all(meets(metadata, part) for part in parts)
        case AnyOf(parts):
            met = any(meets(metadata, part) for part in parts)
        case Not(part):
            met = not meets(metadata, part)
        case None:
            met = True
        case _:
            met = any(_met(each, condition) for each in _values(metadata, condition.path))
    return met


def _met(found: Any, condition: Equal | Order | Between | Contains | Like) -> bool:  # noqa: ANN401
    match condition:
        case Equal(_, value):
            return kind(found) == kind(value) and found == value
        case Order(_, operator, value):
            return kind(found) == kind(value) and ORDERS[operator](found, value)
        case Between(_, low, high):
            return kind(found) == kind(low) and bool(low <= found <= high)
        case Contains(_, value):
            return isinstance(found, str) and value in found
        case Like(_, pattern):
            return isinstance(found, str) and fits(pattern, found)


def _found(metadata: Mapping[str, Any], path: Path) -> Iterator[Any]:
    """Yield what is at the end of a path through dicts, if it leads anywhere."""
    found: Any = metadata
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return
        found = found[name]
    yield found


def _values(metadata: Mapping[str, Any], path: Path) -> Iterator[Any]:
    for found in _found(metadata, path):
        yield from found if isinstance(found, list | tuple) else (found,)


def kind(value: object) -> str:
    """Return the kind of a value: numbers are compared only with numbers, texts only with texts."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "text"
    return "number" if isinstance(value, int | float) else type(value).__name__


def decided(condition: Condition) -> bool | None:
    """Return whether a condition is met by everything (True) or nothing (False); None if it depends on the metadata."""
    match condition:
        case Not(part):
            inner = decided(part)
            return None if inner is None else not inner
        case All(parts):
            found = {decided(part) for part in parts}
            return False if False in found else None if None in found else True
        case AnyOf(parts):
            found = {decided(part) for part in parts}
            return True if True in found else None if None in found else False
    return None
