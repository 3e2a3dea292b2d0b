"""Random metadata and conditions for the contract: how every store must interpret a `where`."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date
from typing import Any

from harrier_core.filters import Key


def random_metadata(chance: random.Random) -> dict[str, Any]:
    """Return random metadata, with fields of types that are easily confused."""
    fields = ["a", "b", "c d", 'q"\\', "é", "x.y", "x", "x.y", "x", "$z"]
    return {field: _value(chance, inside=2) for field in chance.sample(fields, chance.randint(0, 6))}


_TEXTS = ["", "0", "1", "a", "A", "B", "ab", "é", "É", "\u212a", "ß", "a\nb", "😀", "ﬀ", "2024-05-01", "%_\\"]


def _value(chance: random.Random, *, inside: int = 0) -> object:
    scalars: list[Any] = [0, 1, 2, -1, 1.0, 0.5, 2**40, 2**53, 2**53 + 1, *_TEXTS, date(2024, 5, 1), True, False, None]
    kind = chance.random() if inside else 1.0
    if kind < 0.3:
        return [chance.choice([*scalars, {"y": 1}, [1]]) for _ in range(chance.randint(0, 3))]
    if kind < 0.6:
        names = chance.sample(["y", "z", "y.z", 'q"\\'], chance.randint(0, 3))
        return {name: _value(chance, inside=inside - 1) for name in names}
    return chance.choice(scalars)


def random_where(chance: random.Random, depth: int) -> dict[str, Any]:
    """Return random conditions on the fields of `random_metadata`, with any operator, nested up to a depth."""
    fields = ["a", "b", "c d", 'q"\\', "é", "x", "x.y", "x.y.z", "x.z", "a.y", 'b.q"\\', Key("x.y"), "missing"]
    kind = chance.choice(["field", "field", "$and", "$or", "$not"]) if depth else "field"
    if kind in ("$and", "$or"):
        return {kind: [random_where(chance, depth - 1) for _ in range(chance.randint(0, 3))]}
    if kind == "$not":
        return {kind: random_where(chance, depth - 1)}
    operator = chance.choice([*_OPERANDS])
    return {chance.choice(fields): {operator: _OPERANDS[operator](chance)}}


def _values(chance: random.Random) -> list[Any]:
    return [_value(chance) for _ in range(chance.randint(0, 3))]


def _number_or_text(chance: random.Random) -> object:
    return chance.choice([0, 1, 0.5, -1, 2**40, 2**53, 2**53 + 1, date(2024, 4, 30), *_TEXTS])


def _bounds(chance: random.Random) -> list[Any]:
    numbers: list[Any] = [0, 1, 0.5, -1, 2**40, 2**53, 2**53 + 1]
    return [chance.choice(kind) for kind in [chance.choice([numbers, _TEXTS])] for _ in range(2)]


def _pattern(chance: random.Random) -> str:
    parts = ["%", "_", "a", "A", "é", "k", "\u1e9e", "\\%", "\\_", "\\\\", ".", "😀", "ﬀ", "0", "2024"]
    return "".join(chance.choice(parts) for _ in range(chance.randint(0, 3)))


_OPERANDS: dict[str, Callable[[random.Random], Any]] = {
    **dict.fromkeys(("$eq", "$ne"), _value),
    **dict.fromkeys(("$in", "$nin"), _values),
    **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), _number_or_text),
    "$between": _bounds,
    "$contains": lambda chance: chance.choice(["", "0", "a", "é", "😀", '"', "\\", ".", "$", "\n"]),
    **dict.fromkeys(("$like", "$ilike"), _pattern),
    "$exists": lambda chance: chance.random() < 0.5,
}
