"""The SQL expression of a text, resolved when it is declared, so that nothing created later changes its meaning."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from psycopg import Connection, errors, sql

from harrier_core.errors import SettingError
from harrier_pgvector.schema import written
from harrier_pgvector.sync.catalog import SCHEMA
from harrier_pgvector.sync.session import PATH, configure
from harrier_pgvector.sync.trust import STRANGERS, refuse_strangers

# A table like the source, under the alias that expressions may use: what a check constraint accepts is an expression
# over one row, and Postgres reports which columns it uses.
_PROBE = sql.Identifier(SCHEMA, "s")
_OWNERS = """
    ARRAY(SELECT coalesce(p.proowner, o.oprowner, y.typowner) FROM pg_depend AS d
        LEFT JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
        LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
        LEFT JOIN pg_type AS y ON d.refclassid = 'pg_type'::regclass AND y.oid = d.refobjid
        WHERE d.classid = 'pg_constraint'::regclass AND d.objid = c.oid)"""
# Functions and operators with arguments of any type. The expression is parsed again in each query, and someone who may
# create functions in that schema could create one that matches more closely. One with exact types is always chosen.
# (Postgres's own are not in pg_depend.)
_LOOSE = """
    ARRAY(SELECT coalesce(p.proname, o.oprname)::text FROM pg_depend AS d
        LEFT JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
        LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
        WHERE d.classid = 'pg_constraint'::regclass AND d.objid = c.oid AND EXISTS (SELECT FROM pg_type AS y
            WHERE y.typtype = 'p' AND y.oid = ANY(p.proargtypes::oid[] || ARRAY[o.oprleft, o.oprright])))"""
_MADE_OF = """
    SELECT pg_get_expr(c.conbin, c.conrelid),
        ARRAY(SELECT a.attname::text FROM pg_attribute AS a WHERE a.attrelid = c.conrelid AND a.attnum > 0
            AND NOT a.attisdropped AND (a.attnum = ANY(c.conkey) OR 0 = ANY(c.conkey))),
        0 = ANY(c.conkey), {strangers}, {loose}
    FROM pg_constraint AS c WHERE c.contype = 'c' AND c.conrelid = 'harrier_sync.s'::regclass""".replace(
    "{strangers}", STRANGERS.format(_OWNERS)
).replace("{loose}", _LOOSE)
_END = " IS NOT NULL)"


def joined(columns: Collection[str], texts: Sequence[str]) -> str:
    """Return one expression for several texts, which are columns or expressions."""
    if not texts:
        raise SettingError("no text is named; give columns or an SQL expression over them")
    each = [sql.Identifier("s", text).as_string() if text in columns else f"({text})" for text in texts]
    if len(each) == 1:
        return f"{each[0]}::pg_catalog.text"
    return f"pg_catalog.concat_ws(E'\\n\\n', {', '.join(each)})"


def resolve(
    connection: Connection[Any], table: sql.Identifier, expression: str, path: str, trust: Collection[str]
) -> tuple[str, set[str], bool]:
    """Return the expression with all names qualified, the columns that it uses, and whether it uses the row as a whole.

    path: where to find its names.
    """
    try:
        with connection.transaction():
            connection.execute(sql.SQL("CREATE TABLE {} (LIKE {})").format(_PROBE, table), [])
            configure(connection, {"search_path": path})
            # Without validation: nothing is evaluated before it is known whose functions these are.
            check = sql.SQL("ALTER TABLE {} ADD CHECK ({} IS NOT NULL) NOT VALID").format(_PROBE, written(expression))
            connection.execute(check, [])
            configure(connection, {"search_path": PATH})
            [(resolved, columns, whole, strangers, loose)] = connection.execute(_MADE_OF).fetchall()
            connection.execute(sql.SQL("DROP TABLE {}").format(_PROBE), [])
    except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction):
        raise
    except (errors.ProgrammingError, errors.NotSupportedError, errors.DataError) as error:
        raise SettingError(
            f"the text must be columns or an SQL expression over one row: {error.diag.message_primary}"
        ) from None
    refuse_strangers("a function or operator of the text", strangers, trust)
    if loose:
        raise SettingError(
            f"{loose[0]} of the text takes arguments of any type, so a function created later could be called "
            "instead of it; wrap it in a function whose arguments have types"
        )
    if not columns:
        raise SettingError("the text names no column, so it would be the same for every row")
    return resolved.removeprefix("(").removesuffix(_END), set(columns), whole
