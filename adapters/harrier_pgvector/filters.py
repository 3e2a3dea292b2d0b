"""Conditions to SQL. Pure: values are bound, never written into it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import LiteralString

from psycopg import sql

from harrier_core.filters import All, AnyOf, Condition, Equal, Exists, Not, Order

_OPERATORS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}

Compiled = tuple[sql.Composable, list[str]]  # and what is bound in it


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
        case Exists(field):
            compiled = sql.SQL("(metadata ? %s)"), [field]
        case Not(part):
            inner, values = compile_condition(part)
            compiled = sql.SQL("(NOT {})").format(inner), values
        case All(parts):
            compiled = _joined(parts, " AND ", "true")
        case AnyOf(parts):
            compiled = _joined(parts, " OR ", "false")
    return compiled


def _joined(parts: Sequence[Condition], word: LiteralString, none: LiteralString) -> Compiled:
    if not parts:
        return sql.SQL(none), []
    compiled = [compile_condition(part) for part in parts]
    joined = sql.SQL(word).join(inner for inner, _ in compiled)
    return sql.SQL("({})").format(joined), [value for _, values in compiled for value in values]
