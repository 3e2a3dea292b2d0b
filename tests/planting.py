"""Functions, operators, types and tables that match a statement's names more closely than Postgres's own.

Each counts its calls in a sequence, which a rollback does not reset. The objects are derived from the statements
themselves, so a new statement is covered as soon as it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import psycopg
from psycopg import Connection, errors, sql

_QUOTED = re.compile(r'"([a-z_][a-z_0-9]*)"')
_TEXTS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|%%|%[sb]|%\([a-z]+\)s")
_FUNCTION = re.compile(r"([a-z_][a-z_0-9]*)\s*\(")
_TYPE = re.compile(r"::\s*(?:[a-z_]+\.)?([a-z_][a-z_0-9]*)")
_OPERATOR = re.compile(r"[-+*/<>=~!@#%^&|`?]+")
_RELATION = re.compile(r"\b(pg_[a-z_]+)\b")

# Argument types: those in the kit's statements, and those that a literal or a number may be taken for.
_TYPES = ["text", "integer", "bigint", "smallint", "jsonb", "boolean", "oid", "name", "text[]", "jsonb[]"]
_FEW = ["text", "integer", "bigint", "boolean", "jsonb", "name"]  # for functions of three arguments
_MOST_ARGUMENTS = 3

_SIGNATURES = """
    SELECT p.proname, p.prorettype::regtype::text, p.proretset,
        ARRAY(SELECT t::regtype::text FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (t, n) ORDER BY n)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.proname = ANY(%s::text[]) AND n.nspname IN ('pg_catalog', %s)"""
_OPERATORS = """
    SELECT o.oprname, o.oprresult::regtype::text, false, ARRAY[o.oprleft::regtype::text, o.oprright::regtype::text]
    FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
    WHERE o.oprkind = 'b' AND o.oprname = ANY(%s::text[]) AND n.nspname IN ('pg_catalog', %s)"""
_REAL_TYPES = """
    SELECT t.typname, format('%%I.%%I', n.nspname, t.typname)
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typname = ANY(%s::text[]) AND n.nspname IN ('pg_catalog', %s) AND n.nspname <> %s"""
_SEQUENCES = """
    SELECT sequencename::pg_catalog.text FROM pg_catalog.pg_sequences
    WHERE schemaname OPERATOR(pg_catalog.=) %s::pg_catalog.name AND (%s OR last_value IS NOT NULL)"""

Signature = tuple[str, tuple[str, ...], str]  # name, argument types, result type


class Names:
    """The names that statements call."""

    def __init__(self, statements: Iterable[str]) -> None:
        bare = [_TEXTS.sub(" ", _QUOTED.sub(r"\1", each.lower())) for each in statements]
        self.functions = {name for each in bare for name in _FUNCTION.findall(each)}
        self.types = {name for each in bare for name in _TYPE.findall(each)}
        self.operators = {name for each in bare for name in _OPERATOR.findall(each)} - {"*"}
        self.relations = {name for each in bare for name in _RELATION.findall(each)} - {"pg_catalog", "pg_temp"}


class Garden:
    """The planted objects of one schema, which may be the extension's."""

    def __init__(self, connection: Connection[Any], schema: str, extension: str) -> None:
        self._connection = connection
        self._schema = schema
        self._extension = extension

    def plant(self, names: Names) -> None:
        """Plant a trap for each name and each argument type."""
        self._connection.execute("SET search_path = pg_catalog")  # or this connection would call the traps itself
        for name, types, result in self._closer(_SIGNATURES, names.functions):
            self._function(name, name, types, result)
        for name, types, result in self._closer(_OPERATORS, names.operators):
            self._operator(name, types, result)
        for name in names.relations:
            self._relation(name)
        bound = [sorted(names.types), self._extension, self._schema]
        for name, real in self._connection.execute(_REAL_TYPES, bound).fetchall():
            self._trap(f"type {name}")
            self._make(f"CREATE DOMAIN {{}} AS {real} CHECK ({{}}())", name, f"sprung type {name}")
        self._count()

    def waiting(self) -> list[str]:
        """Return all traps."""
        return sorted(name for (name,) in self._connection.execute(_SEQUENCES, [self._schema, True]).fetchall())

    def sprung(self) -> list[str]:
        """Return the traps that were called."""
        return sorted(name for (name,) in self._connection.execute(_SEQUENCES, [self._schema, False]).fetchall())

    def _closer(self, query: str, names: Iterable[str]) -> Iterator[Signature]:
        """Return the existing signatures, and variants with other argument types."""
        seen: set[tuple[str, tuple[str, ...]]] = set()
        for name, result, is_set, types in self._connection.execute(query, [sorted(names), self._extension]).fetchall():
            if len(types) > _MOST_ARGUMENTS:
                continue
            for each in [tuple(types), *product(_FEW if len(types) == _MOST_ARGUMENTS else _TYPES, repeat=len(types))]:
                if (name, each) not in seen:
                    seen.add((name, each))
                    yield name, each, f"SETOF {result}" if is_set else result

    def _trap(self, name: str) -> None:
        """Create a counting sequence and a function that advances it."""
        if self._make("CREATE SEQUENCE {}", name):
            body = sql.Literal(f"BEGIN PERFORM pg_catalog.nextval({self._text(name)}); RETURN true; END").as_string()
            self._make("CREATE FUNCTION {}() RETURNS boolean LANGUAGE plpgsql AS " + body, f"sprung {name}")

    def _text(self, name: str) -> str:
        return sql.Literal(sql.Identifier(self._schema, name).as_string()).as_string()

    def _function(self, trap: str, name: str, types: Sequence[str], result: str) -> bool:
        self._trap(trap)
        call = (
            f"BEGIN PERFORM pg_catalog.nextval({self._text(trap)}); RETURN{'' if 'SETOF' in result else ' NULL'}; END"
        )
        body = sql.Literal(call).as_string()
        return self._make(f"CREATE FUNCTION {{}}({', '.join(types)}) RETURNS {result} LANGUAGE plpgsql AS {body}", name)

    def _operator(self, name: str, types: Sequence[str], result: str) -> None:
        if self._function(f"operator {name}", f"operator {name}", types, result):
            left, right = types
            function = sql.Identifier(self._schema, f"operator {name}").as_string()
            schema = sql.Identifier(self._schema).as_string()
            self._make(f"CREATE OPERATOR {schema}.{name} (FUNCTION = {function}, LEFTARG = {left}, RIGHTARG = {right})")

    def _relation(self, name: str) -> None:
        if self._connection.execute("SELECT to_regclass(%s)", [f"pg_catalog.{name}"]).fetchone() != (None,):
            self._trap(f"table {name}")
            self._make(
                f"CREATE VIEW {{}} AS SELECT * FROM pg_catalog.{name} WHERE {{}}()", name, f"sprung table {name}"
            )

    def _count(self) -> None:
        """Plant a trap for `count(*)`, which has no argument."""
        self._function("count", "counting", ["bigint"], "bigint")
        self._make("CREATE AGGREGATE {}(*) (SFUNC = {}, STYPE = bigint, INITCOND = '0')", "count", "counting")

    def _make(self, statement: str, *names: str) -> bool:
        """Create an object, unless it exists or is impossible, such as a function of a pseudo-type."""
        try:
            found = sql.SQL(statement).format(*(sql.Identifier(self._schema, name) for name in names))
            self._connection.execute(found)
        except (errors.DuplicateTable, errors.ProgrammingError, psycopg.NotSupportedError):
            return False
        return True
