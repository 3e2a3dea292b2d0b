"""Functions, operators, types and views of Postgres's own names, as a hostile role would create them in public.

Postgres counts function calls, so the functions need not report them: `called` returns those that were called.
"""

from __future__ import annotations

import time

import psycopg

# The application_name of a connection that calls no functions of these names, so `called` does not wait for it.
SPECTATOR = "spectator"

# For each function that could be overloaded, one with the same arguments in a schema that is searched first.
_FUNCTIONS = """
DO $plant$
DECLARE f record;
BEGIN
    FOR f IN
        SELECT p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid) AS arguments, p.proretset AS many,
            pg_catalog.format_type(p.prorettype, NULL) AS returned
        FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
        AND p.prokind IN ('f', 'a', 'w') AND p.proallargtypes IS NULL AND p.provariadic = 0
        AND NOT EXISTS (
            SELECT FROM pg_catalog.unnest(p.proargtypes::pg_catalog.oid[] || p.prorettype) AS a (type)
            JOIN pg_catalog.pg_type AS t ON t.oid = a.type WHERE t.typtype = 'p' AND t.typname <> 'record'
        )
    LOOP
        BEGIN
            EXECUTE pg_catalog.format(
                'CREATE FUNCTION public.%I(%s) RETURNS %s %s LANGUAGE plpgsql AS ''BEGIN RETURN%s; END''',
                f.proname, f.arguments, CASE WHEN f.many THEN 'SETOF' ELSE '' END, f.returned,
                CASE WHEN f.many THEN '' ELSE ' NULL' END
            );
        EXCEPTION WHEN syntax_error OR invalid_function_definition OR duplicate_function OR undefined_object THEN
            NULL;
        END;
    END LOOP;
END $plant$"""

_OPERATORS = """
DO $plant$
DECLARE o record;
BEGIN
    FOR o IN
        SELECT p.oid, p.oprname, p.oprleft, pg_catalog.format_type(p.oprleft, NULL) AS lefthand,
            pg_catalog.format_type(p.oprright, NULL) AS righthand, pg_catalog.format_type(p.oprresult, NULL) AS result
        FROM pg_catalog.pg_operator AS p JOIN pg_catalog.pg_type AS r ON r.oid = p.oprright
        LEFT JOIN pg_catalog.pg_type AS l ON l.oid = p.oprleft
        WHERE p.oprnamespace = 'pg_catalog'::pg_catalog.regnamespace
        AND r.typtype <> 'p' AND l.typtype IS DISTINCT FROM 'p' AND p.oprresult <> 0
    LOOP
        EXECUTE pg_catalog.format(
            'CREATE FUNCTION public.operator_%s(%s) RETURNS %s LANGUAGE plpgsql AS ''BEGIN RETURN NULL; END''', o.oid,
            pg_catalog.concat_ws(', ', CASE WHEN o.oprleft <> 0 THEN o.lefthand END, o.righthand), o.result
        );
        EXECUTE pg_catalog.format(
            'CREATE OPERATOR public.%s (%s RIGHTARG = %s, FUNCTION = public.operator_%s)', o.oprname,
            CASE WHEN o.oprleft <> 0 THEN 'LEFTARG = ' || o.lefthand || ',' ELSE '' END, o.righthand, o.oid
        );
    END LOOP;
END $plant$"""

# Functions that match the kit's calls more closely than Postgres's own, and relations and types of Postgres's names.
_CLOSER = """
    CREATE FUNCTION public.hashtextextended(text, integer) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
    CREATE FUNCTION public.closer_power(integer, integer) RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
    CREATE OPERATOR public.^ (LEFTARG = integer, RIGHTARG = integer, FUNCTION = public.closer_power);
    CREATE FUNCTION public.closer_join(text, integer) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
    CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = integer, FUNCTION = public.closer_join);
    CREATE FUNCTION public.of_type(anyelement) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
    CREATE FUNCTION public.of_relation() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END'"""
_TYPES = ["text", "jsonb", "json", "uuid", "oid", "regclass", "int2", "int4", "int8", "float8"]
_RELATIONS = [
    "pg_class", "pg_namespace", "pg_type", "pg_roles", "pg_trigger", "pg_inherits", "pg_index",
    "pg_constraint", "pg_depend", "pg_proc", "pg_operator", "pg_collation", "pg_extension", "pg_am",
]  # fmt: skip


def plant(database: str, role: str) -> None:
    """Create everything as a role that may create in public, and put public first in the search path."""
    with psycopg.connect(database, autocommit=True, options="-c search_path=pg_catalog") as connection:
        connection.execute(f"GRANT CREATE ON SCHEMA public TO {role}".encode())
        connection.execute(f"SET ROLE {role}".encode())
        for statement in (_FUNCTIONS, _OPERATORS, _CLOSER):
            connection.execute(statement.encode())
        for name in _TYPES:
            connection.execute(
                f"CREATE DOMAIN public.{name} AS pg_catalog.{name} CHECK (public.of_type(VALUE))".encode()
            )
        for name in _RELATIONS:
            view = f"CREATE VIEW public.{name} AS SELECT * FROM pg_catalog.{name} WHERE public.of_relation()"
            connection.execute(view.encode())
            connection.execute(f"GRANT SELECT ON public.{name} TO PUBLIC".encode())
        connection.execute("RESET ROLE")
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog'.encode())
        connection.execute(f"ALTER DATABASE \"{name}\" SET track_functions = 'all'".encode())


def called(database: str) -> set[str]:
    """Return the planted functions that were called, once other sessions have ended."""
    others = (
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE datname = %s AND pid <> %s "
        "AND backend_type = 'client backend' AND application_name <> %s"
    )
    with psycopg.connect(database, autocommit=True, options="-c search_path=pg_catalog") as connection:
        asked = [connection.info.dbname, connection.info.backend_pid, SPECTATOR]
        until = time.monotonic() + 30
        while connection.execute(others, asked).fetchone() != (0,):
            assert time.monotonic() < until
            time.sleep(0.05)
        query = (  # those of the extension are in C
            "SELECT f.funcname FROM pg_catalog.pg_stat_user_functions AS f "
            "JOIN pg_catalog.pg_proc AS p ON p.oid = f.funcid JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang "
            "WHERE f.schemaname = 'public' AND f.calls > 0 AND l.lanname = 'plpgsql'"
        )
        found: set[str] = set()
        while not found and time.monotonic() < until:  # before Postgres 15 they are counted a little later
            found = {str(name) for (name,) in connection.execute(query).fetchall()}
            time.sleep(0.2)
        return found
