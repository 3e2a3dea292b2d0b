"""Conditions to SQL. Pure: values are bound, never written into it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import LiteralString

from psycopg import sql

from harrier_core.filters import All, AnyOf, Condition, Contains, Equal, Exists, Not, Order, Scalar

_OPERATORS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}

# Postgres hashes a list of more than eight values. Of more than a thousand it knows that no index pays, but would take
# seconds to find that out.
_UNHASHED, _INDEXED = 8, 1_000

Compiled = tuple[sql.Composable, Sequence[str | list[str]]]  # and what is bound in it


def compile_condition(condition: Condition | None) -> Compiled:
    """SQL over the column `metadata`.

    Equality is containment, which a GIN index serves. Order is a JSON path, whose lax mode looks into lists as
    Harrier Kit's filters do, and compares like with like only.
    """
    compiled: Compiled
    match condition:
        case None:
            compiled = sql.SQL("true"), []
        case Equal(field, value):
            contained = [json.dumps({field: each}) for each in (value, [value])]
            compiled = sql.SQL("(metadata @> %s::jsonb OR metadata @> %s::jsonb)"), contained
        case Order(field, operator, value):
            # A comparison would look into lists of lists as well, which is deeper than our filters do.
            path = f'$.{json.dumps(field)} ? (@.type() != "array" && @ {_OPERATORS[operator]} $value)'
            bound = [path, json.dumps({"value": value})]
            compiled = sql.SQL("jsonb_path_exists(metadata, %s::jsonpath, %s::jsonb)"), bound
        case Contains(field, text):  # "q": the text is no pattern
            path = f'$.{json.dumps(field)} ? (@.type() == "string" && @ like_regex {json.dumps(text)} flag "q")'
            compiled = sql.SQL("jsonb_path_exists(metadata, %s::jsonpath)"), [path]
        case Exists(field):
            compiled = sql.SQL("(metadata ? %s)"), [field]
        case Not(part):
            inner, values = compile_condition(part)
            compiled = sql.SQL("(NOT {})").format(inner), values
        case All(parts):
            compiled = _joined(parts, " AND ", "true")
        case AnyOf((Equal(field), *_) as parts) if all(isinstance(p, Equal) and p.field == field for p in parts):
            compiled = _one_of(field, [part.value for part in parts if isinstance(part, Equal)])
        case AnyOf(parts):
            compiled = _joined(parts, " OR ", "false")
    return compiled


def _one_of(field: str, wanted: Sequence[Scalar]) -> Compiled:
    """That a field has one of many values, bound as lists: a value each would soon be more than Postgres takes.

    Containment compares a row with one value after the other, so a hash decides before it where there are many.
    """
    contained = sql.SQL("metadata @> ANY(%s::jsonb[])")
    either = [json.dumps({field: each}) for value in wanted for each in (value, [value])]
    hashed = sql.SQL("metadata -> %s = ANY(%s::jsonb[])")
    values = [json.dumps(value) for value in wanted]
    listed = sql.SQL("jsonb_typeof(metadata -> %s) = 'array'")
    if len(wanted) <= _UNHASHED:
        return sql.SQL("({})").format(contained), [either]
    if len(wanted) <= _INDEXED:
        # For the planner that knows containment only, a coalesce is as likely as not; without it all would seem rare.
        first = sql.SQL("({} AND coalesce({} OR {}, false))").format(contained, hashed, listed)
        return first, [either, field, values, field]
    element = sql.SQL("EXISTS (SELECT FROM jsonb_array_elements(metadata -> %s) AS e (v) WHERE v = ANY(%s::jsonb[]))")
    all_ = sql.SQL("coalesce({} OR ({} AND {}), false)").format(hashed, listed, element)
    return all_, [field, values, field, field, values]


def _joined(parts: Sequence[Condition], word: LiteralString, none: LiteralString) -> Compiled:
    if not parts:
        return sql.SQL(none), []
    compiled = [compile_condition(part) for part in parts]
    joined = sql.SQL(word).join(inner for inner, _ in compiled)
    return sql.SQL("({})").format(joined), [value for _, values in compiled for value in values]
