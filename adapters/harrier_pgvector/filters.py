"""Conditions to SQL. Pure: values are bound, never written into it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg import sql

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
    Scalar,
)
from harrier_core.patterns import Pattern, Wild

_OPERATORS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}

# Postgres hashes a list of more than eight values. For more than a thousand it finds that no index pays, but takes
# seconds to do so.
_UNHASHED, _INDEXED = 8, 1_000

Compiled = tuple[sql.Composable, Sequence[str | list[str]]]  # SQL, and its parameters


def compile_condition(condition: Condition | None) -> Compiled:
    """Return SQL over the column `metadata`.

    Equality is containment, which a GIN index serves. Order and patterns are JSON paths, whose lax mode looks into
    lists as Harrier Kit's filters do, and which compare only values of the same kind.
    """
    compiled: Compiled
    match condition:
        case None:
            compiled = sql.SQL("true"), []
        case Equal(path, value):
            contained = [_at(path, each) for each in (value, [value])]
            compiled = sql.SQL("(metadata @> %s::jsonb OR metadata @> %s::jsonb)"), contained
        case Exists(path):
            value_, names = _value(path)
            there = sql.SQL("({} IS NOT NULL)").format(value_)
            compiled = (there, names) if len(path) > 1 else (sql.SQL("(metadata ? %s)"), names)
        case Not(part):
            inner, values = compile_condition(part)
            compiled = sql.SQL("(NOT {})").format(inner), values
        case All(parts):
            compiled = _joined(parts, " AND ", "true")
        case AnyOf((Equal(path), *_) as parts) if all(isinstance(p, Equal) and p.path == path for p in parts):
            compiled = _one_of(path, [part.value for part in parts if isinstance(part, Equal)])
        case AnyOf(parts):
            compiled = _joined(parts, " OR ", "false")
        case _:
            compiled = _tested(condition)
    return compiled


def _tested(condition: Order | Between | Contains | Like) -> Compiled:
    """Return SQL for a value, or an element of a list, that passes a test in a JSON path."""
    variables: dict[str, Any] = {}
    match condition:
        case Order(_, operator, value):
            # A comparison would also look into lists of lists, which is deeper than our filters go.
            test, variables = f'@.type() != "array" && @ {_OPERATORS[operator]} $value', {"value": value}
        case Between(_, low, high):
            test, variables = '@.type() != "array" && @ >= $low && @ <= $high', {"low": low, "high": high}
        case Contains(_, text):  # "q": the text is not a pattern
            test = f'@.type() == "string" && @ like_regex {json.dumps(text)} flag "q"'
        case Like(_, pattern):  # "s": a line break is a character like any other
            test = f'@.type() == "string" && @ like_regex {json.dumps(_regex(pattern))} flag "s"'
    path, bound = condition.path, json.dumps(variables)
    if len(path) == 1:
        found = sql.SQL("jsonb_path_exists(metadata, %s::jsonpath, %s::jsonb)")
        return found, [f"$.{json.dumps(path[0])} ? ({test})", bound]
    value_, names = _value(path)  # a JSON path would look into lists on the way
    nested = sql.SQL("coalesce(jsonb_path_exists({}, %s::jsonpath, %s::jsonb), false)").format(value_)
    return nested, [*names, f"$ ? ({test})", bound]


def _value(path: Path) -> tuple[sql.Composable, list[str]]:
    """Return the value at the end of a path through objects, or null; `-> text` yields nothing for a list."""
    return sql.SQL("metadata{}").format(sql.SQL(" -> %s::text") * len(path)), list(path)


def _at(path: Path, value: Scalar | list[Scalar]) -> str:
    """Return the smallest metadata that have a value at the path."""
    found: Any = value
    for name in reversed(path):
        found = {name: found}
    return json.dumps(found)


def _regex(pattern: Pattern) -> str:
    return f"^{''.join(map(_regex_part, pattern))}$"


def _regex_part(part: str | Wild) -> str:
    if isinstance(part, Wild):
        return ".*" if part is Wild.ANY else "."
    if len(part) == 1:
        return re.sub(r"[!-/:-@\[-`{-~]", r"\\\g<0>", part)
    # The other case is written as itself. Other equal letters, such as the Kelvin sign, do not exist in many encodings:
    # as an escape they cause no error there, and are just not found.
    cases = (part[0], part[0].lower(), part[0].upper())
    letters = (each if each in cases else rf"\U{ord(each):08x}" for each in part)
    return f"[{''.join(letters)}]"


def _one_of(path: Path, wanted: Sequence[Scalar]) -> Compiled:
    """Return SQL for a field with one of many values, bound as lists: one parameter each would exceed Postgres's limit.

    Containment compares a row with one value after the other, so with many values a hash decides first.
    """
    contained = sql.SQL("metadata @> ANY(%s::jsonb[])")
    either = [_at(path, each) for value in wanted for each in (value, [value])]
    value_, names = _value(path)
    hashed = sql.SQL("{} = ANY(%s::jsonb[])").format(value_)
    values = [json.dumps(value) for value in wanted]
    listed = sql.SQL("jsonb_typeof({}) = 'array'").format(value_)
    if len(wanted) <= _UNHASHED:
        return sql.SQL("({})").format(contained), [either]
    if len(wanted) <= _INDEXED:
        # The planner can estimate only containment. It gives a coalesce even odds; without one, all would seem rare.
        first = sql.SQL("({} AND coalesce({} OR {}, false))").format(contained, hashed, listed)
        return first, [either, *names, values, *names]
    element = sql.SQL("EXISTS (SELECT FROM jsonb_array_elements({}) AS e (v) WHERE v = ANY(%s::jsonb[]))")
    all_ = sql.SQL("coalesce({} OR ({} AND {}), false)").format(hashed, listed, element.format(value_))
    return all_, [*names, values, *names, *names, values]


def _joined(parts: Sequence[Condition], word: LiteralString, none: LiteralString) -> Compiled:
    if not parts:
        return sql.SQL(none), []
    compiled = [compile_condition(part) for part in parts]
    joined = sql.SQL(word).join(inner for inner, _ in compiled)
    return sql.SQL("({})").format(joined), [value for _, values in compiled for value in values]
