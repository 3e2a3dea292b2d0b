"""Btree indexes on fields of metadata, and the conditions that they serve. Pure: values are bound.

No index serves a JSON path, to which filters.py compiles an order, and containment, to which it compiles equality, is
served by an index without frequencies. So a field may have an index on a key that depends on its kind:

number      its number, or NaN for a list
text        the first characters of its text, or `[]` for a list
bool        its value as text, or `[]` for a list

A field of another kind, or an absent one, has no key. The key of a list is a fixed mark, whatever is in it: such a row
is tested with what filters.py compiles, and so is a text that happens to equal the mark. All others are decided by
their keys alone.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from harrier_core.filters import All, AnyOf, Between, Condition, Equal, Order
from harrier_core.indexes import IndexKind
from harrier_core.layout import field_name
from harrier_pgvector.filters import Compiled, compile_condition
from harrier_pgvector.schema import BESIDE, STAMP, Name, create_beside, literal

Family = Literal["number", "text", "bool"]
Key = tuple[str, Family]  # for the field with this name
Comparison = Equal | Order | Between

_FAMILIES: Mapping[IndexKind, Family] = {"keyword": "text", "integer": "number", "float": "number", "bool": "bool"}
_KINDS: Mapping[Family, IndexKind] = {"text": "keyword", "number": "float", "bool": "bool"}

# A btree entry has at most 2,704 bytes, and a character at most four. A text of fewer bytes has fewer characters in any
# encoding, so that comparing it with a key is comparing it with the text.
_CHARACTERS = 256

_KEYS: Mapping[Family, sql.SQL] = {
    "number": sql.SQL(
        "(CASE jsonb_typeof(metadata -> {field}) WHEN 'number' THEN (metadata -> {field})::numeric "
        "WHEN 'array' THEN 'NaN'::numeric END)"
    ),
    "text": sql.SQL(
        "(CASE jsonb_typeof(metadata -> {field}) WHEN 'string' THEN left(metadata ->> {field}, {characters}) "
        "WHEN 'array' THEN '[]' END)"
    ),
    "bool": sql.SQL(
        "(CASE jsonb_typeof(metadata -> {field}) WHEN 'boolean' THEN metadata ->> {field} WHEN 'array' THEN '[]' END)"
    ),
}
_MARKS: Mapping[Family, sql.SQL] = {
    "number": sql.SQL("'NaN'::numeric"),
    "text": sql.SQL("'[]'"),
    "bool": sql.SQL("'[]'"),
}
_OPERATORS = {"$gt": sql.SQL(">"), "$gte": sql.SQL(">="), "$lt": sql.SQL("<"), "$lte": sql.SQL("<=")}

_MOST = 1_000  # values of a list; the planner considers each of them


@dataclass(frozen=True, slots=True)
class Typed:
    """The keys of a table that have an index."""

    keys: frozenset[Key] = frozenset()
    by_code_point: bool = False  # whether the database can order texts by COLLATE "C" as filters do


def keys_of(indexes: Mapping[str, IndexKind]) -> tuple[Key, ...]:
    """Return the keys that the kinds of fields ask for."""
    return tuple((field, _FAMILIES[kind]) for field, kind in indexes.items())


def kinds_of(keys: Iterable[Key]) -> dict[str, IndexKind]:
    """Return the fields that have an index, each with a kind that asks for it."""
    return {field_name(field): _KINDS[family] for field, family in sorted(keys)}


def keys_in(comments: Iterable[str]) -> frozenset[Key]:
    """Return the keys of a table's indexes, from the comments on them."""
    found = set()
    for comment in comments:
        with suppress(ValueError, TypeError):  # someone's own comment
            field, family = json.loads(comment.removeprefix(STAMP))
            found |= {(field, family)} if family in _KEYS else set()
    return frozenset(found)


def create_index(table: Name, schema: str, key: Key, beside: int | None = None) -> list[sql.Composed]:
    """Return the statements that create a key's index, and a comment that tells searches what it is.

    beside: the table's oid, to build it while others write.
    """
    family, said = key[1], json.dumps(key, ensure_ascii=False)
    of_both = hashlib.sha256(f"{beside} {said}".encode()).hexdigest()[:16]
    name = f"{family}_{of_both if beside else secrets.token_hex(8)}"
    begin = (
        create_beside(name, table) if beside else sql.SQL("CREATE INDEX {} ON {}").format(Name(BESIDE + name), table)
    )
    create = sql.SQL("{} ({}{})").format(begin, _key(key), _collation(family))
    comment = sql.SQL("COMMENT ON INDEX {} IS {}").format(Name(schema, BESIDE + name), literal(STAMP + said))
    return [create, comment]


def compile_where(condition: Condition | None, typed: Typed) -> Compiled:
    """Return SQL for rows that meet a condition; for others it is false or null, so it must not be negated by NOT."""
    if not typed.keys:
        return compile_condition(condition)
    match condition:
        case All(parts) if parts:
            return _all(parts, typed)
        case AnyOf(parts) if parts:
            return _any(condition, parts, typed)
        case Equal() | Order() | Between() if key := _served_by(condition, typed):
            return _compared(key, [condition])
    return compile_condition(condition)


def is_served(condition: Condition | None, typed: Typed, *, by_containment: bool) -> bool:
    """Return whether indexes find the rows that meet a condition, and no others.

    by_containment: there is an index that serves equality.
    """
    match condition:
        case All(parts):
            return bool(parts) and all(is_served(part, typed, by_containment=by_containment) for part in parts)
        case AnyOf(parts):
            own = (is_served(part, typed, by_containment=by_containment) for part in parts)
            return 0 < len(parts) <= _MOST and all(own)
        case Equal():
            return by_containment or _served_by(condition, typed) is not None
        case Order() | Between():
            return _served_by(condition, typed) is not None
    return False


def _all(parts: Sequence[Condition], typed: Typed) -> Compiled:
    """Combine comparisons of one key, because an index is read from the lowest of them to the highest."""
    by_key: dict[Key, list[Comparison]] = {}
    others = []
    for part in parts:
        if isinstance(part, Comparison) and (key := _served_by(part, typed)):
            by_key.setdefault(key, []).append(part)
        else:
            others.append(compile_where(part, typed))
    return _joined([*(_compared(key, own) for key, own in by_key.items()), *others], " AND ")


def _any(condition: Condition, parts: Sequence[Condition], typed: Typed) -> Compiled:
    """Combine tests for one of several values into one comparison, unless they are of several kinds, or very many."""
    equals = [part for part in parts if isinstance(part, Equal)]
    if len(equals) < len(parts) or len({each.path for each in equals}) > 1:
        return _joined([compile_where(part, typed) for part in parts], " OR ")
    keys = {_served_by(each, typed) for each in equals} if len(equals) <= _MOST else {None}
    if len(keys) == 1 and (key := keys.pop()):
        return _one_of(key, [_bound(each.value) for each in equals], condition)
    return compile_condition(condition)


def _served_by(condition: Comparison, typed: Typed) -> Key | None:
    """Return the key by which a comparison can be decided, if that has an index."""
    families = {_family(each, typed) for each in _parts(condition)}
    family = families.pop() if len(families) == 1 else None
    if family is None or len(condition.path) > 1:  # nested fields have no key
        return None
    key = condition.path[0], family
    return key if key in typed.keys else None


def _family(condition: Equal | Order, typed: Typed) -> Family | None:
    value = condition.value
    if isinstance(value, str):
        whole = len(value.encode()) < _CHARACTERS  # then comparing it with a key is comparing it with the whole text
        return "text" if whole and (typed.by_code_point or isinstance(condition, Equal)) else None
    if value is None:
        return None
    return "bool" if isinstance(value, bool) else "number"


def _parts(condition: Comparison) -> Sequence[Equal | Order]:
    """Return the comparisons with one value each. For a value that is not a list they are equivalent."""
    if isinstance(condition, Between):
        return [Order(condition.path, "$gte", condition.low), Order(condition.path, "$lte", condition.high)]
    return [condition]


def _compared(key: Key, conditions: Sequence[Comparison]) -> Compiled:
    kind = _type(key[1])
    parts = [part for condition in conditions for part in _parts(condition)]
    tests = [sql.SQL("{} {} %s::{}").format(_ordered(key), _operator(each), kind) for each in parts]
    bound = [_bound(each.value) for each in parts]
    return _decided(key, (sql.SQL(" AND ").join(tests), bound), All(tuple(conditions)))


def _one_of(key: Key, values: list[str], condition: Condition) -> Compiled:
    test = sql.SQL("{} = ANY(%s::{}[])").format(_ordered(key), _type(key[1]))
    return _decided(key, (test, [values]), condition)


def _decided(key: Key, test: Compiled, condition: Condition) -> Compiled:
    """Decide by the test of the key or, if that is the mark, by the condition itself."""
    either = "(({test} AND {key} <> {mark}) OR ({key} = {mark} AND {exact}))"
    exact, bound = compile_condition(condition)
    parts = {"key": _ordered(key), "mark": _MARKS[key[1]], "test": test[0], "exact": exact}
    return sql.SQL(either).format(**parts), [*test[1], *bound]


def _joined(compiled: Sequence[Compiled], word: Literal[" AND ", " OR "]) -> Compiled:
    joined = sql.SQL(word).join(inner for inner, _ in compiled)
    return sql.SQL("({})").format(joined), [value for _, values in compiled for value in values]


def _key(key: Key) -> sql.Composed:
    field, family = key
    return _KEYS[family].format(field=literal(field), characters=literal(_CHARACTERS))


def _ordered(key: Key) -> sql.Composed:
    """Return the key with the index's collation, without which the index is not used."""
    return sql.SQL("{}{}").format(_key(key), _collation(key[1]))


def _collation(family: Family) -> sql.SQL:
    return sql.SQL("" if family == "number" else ' COLLATE "C"')


def _type(family: Family) -> sql.SQL:
    return sql.SQL("numeric" if family == "number" else "text")


def _operator(condition: Equal | Order) -> sql.SQL:
    return _OPERATORS[condition.operator] if isinstance(condition, Order) else sql.SQL("=")


def _bound(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
