"""Triggers that note which records change in two tables of chunks, so that these need not be compared in full again.

They fire for every row and in every session, those of logical replication included. Each change is noted in its own
transaction. Whatever is not noted was committed before the triggers were created, and cannot have changed since, unless
the server has crashed: then the first row of the notes is missing as well.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

from psycopg import Connection, sql

from harrier_pgvector.schema import Name, ids
from harrier_pgvector.session import ask, transaction

# The name of a function and of a table, after a crash as well. Another role's are left alone.
NOTED = "^harrier_noted_[0-9a-f]{16}$"
_LEFT = """
    SELECT DISTINCT n.nspname, p.proname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE t.tgrelid = ANY(%s::oid[]) AND p.proname ~ %s AND pg_has_role(p.proowner, 'USAGE')"""
_THERE = """
    SELECT count(*) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE t.tgrelid = ANY(%s::oid[]) AND t.tgenabled = 'A' AND p.prosecdef AND (n.nspname, p.proname) = (%s, %s)"""

# A publication of all tables would make subscribers look for it, unless it is unlogged. A crash empties it.
_TABLE: LiteralString = """
    CREATE UNLOGGED TABLE {noted} (record_id text COLLATE "C", is_first boolean) WITH (autovacuum_enabled = false)"""
_FIRST: LiteralString = "INSERT INTO {noted} (is_first) VALUES (true)"
_FUNCTION: LiteralString = """
    CREATE FUNCTION {noted}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $harrier$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO {noted} (record_id) VALUES (NULL);
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO {noted} (record_id) VALUES (NEW.record_id);
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO {noted} (record_id) VALUES (OLD.record_id);
    ELSE
        INSERT INTO {noted} (record_id) SELECT OLD.record_id UNION SELECT NEW.record_id;
    END IF;
    RETURN NULL;
END$harrier$"""
_SILENT: LiteralString = """
    CREATE OR REPLACE FUNCTION {noted}() RETURNS trigger LANGUAGE plpgsql AS $harrier$BEGIN RETURN NULL; END$harrier$"""
_EVENTS = (("rows", "INSERT OR UPDATE OR DELETE", "ROW"), ("all", "TRUNCATE", "STATEMENT"))


class Noting:
    """The triggers on two tables of one schema, and the table of what they note."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._name = f"harrier_noted_{secrets.token_hex(8)}"

    def begin(self, connection: Connection[Any]) -> None:
        """Create their function and the notes, in a transaction of the caller's."""
        for text in (_TABLE, _FIRST, _FUNCTION):
            connection.execute(self._sql(text), [])
        connection.execute(self._sql("REVOKE ALL ON FUNCTION {noted}() FROM PUBLIC"), [])

    def watch(self, connection: Connection[Any], table: str) -> None:
        """Create the triggers on a table, in the same transaction, which waits for its writers and keeps others out."""
        for suffix, events, level in _EVENTS:
            names = {"table": Name(self._schema, table), "name": Name(f"{self._name}_{suffix}")}
            words = {"events": sql.SQL(events), "level": sql.SQL(level)}
            for text in (
                "CREATE TRIGGER {name} AFTER {events} ON {table} FOR EACH {level} EXECUTE FUNCTION {noted}()",
                "ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}",
            ):
                connection.execute(self._sql(text, **names, **words), [])

    def is_whole(self, connection: Connection[Any], oids: Sequence[int]) -> bool:
        """Return whether all changes of the tables with these oids are noted."""
        [[number]] = ask(connection, _THERE, [list(oids), self._schema, self._name]).fetchall()
        if number != len(_EVENTS) * len(oids):
            return False
        return ask(connection, self._sql("SELECT FROM {noted} WHERE is_first"), []).fetchone() is not None

    def clear(self, connection: Connection[Any]) -> None:
        """Forget what was noted until now."""
        ask(connection, self._sql("DELETE FROM {noted} WHERE is_first IS NULL"), [])

    def add(self, connection: Connection[Any], record_ids: Iterable[str]) -> None:
        """Note more records."""
        add = "INSERT INTO {noted} (record_id) SELECT jsonb_array_elements_text(%s::jsonb)"
        ask(connection, self._sql(add), [ids(record_ids)])

    def noted(self, connection: Connection[Any]) -> list[str] | None:
        """Return the records that were noted, or None if all may have changed."""
        query = "SELECT DISTINCT record_id FROM {noted} WHERE is_first IS NULL ORDER BY record_id"
        rows = ask(connection, self._sql(query), []).fetchall()
        return None if (None,) in rows else [record_id for (record_id,) in rows]

    def end(self, connection: Connection[Any], oids: Sequence[int]) -> None:
        """Remove them, in a transaction of the caller's that locks the tables against all others."""
        _remove(connection, self._own(connection, oids))

    def silence(self, connection: Connection[Any], oids: Sequence[int]) -> None:
        """Let them do nothing, which needs no lock on the tables."""
        with transaction(connection):
            for names in self._own(connection, oids):
                connection.execute(sql.SQL(_SILENT).format(noted=Name(*names)), [])
                connection.execute(sql.SQL("DELETE FROM {}").format(Name(*names)), [])

    def _own(self, connection: Connection[Any], oids: Sequence[int]) -> list[tuple[str, str]]:
        """Return the name of the function, unless it is gone. Another process may be noting as well."""
        return [names for names in _left(connection, oids) if names == (self._schema, self._name)]

    def _sql(self, text: LiteralString, **more: sql.Composable) -> sql.Composed:
        return sql.SQL(text).format(noted=Name(self._schema, self._name), **more)


def forget(connection: Connection[Any], oids: Sequence[int]) -> None:
    """Remove what notes the changes of tables, of a process that was killed as well, in a transaction of the caller's.

    That transaction locks the tables against all others.
    """
    _remove(connection, _left(connection, oids))


def _left(connection: Connection[Any], oids: Sequence[int]) -> list[tuple[str, str]]:
    return [(schema, name) for schema, name in ask(connection, _LEFT, [list(oids), NOTED]).fetchall()]


def _remove(connection: Connection[Any], functions: Iterable[tuple[str, str]]) -> None:
    for names in functions:
        connection.execute(sql.SQL("DROP FUNCTION {}() CASCADE").format(Name(*names)), [])
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(Name(*names)), [])
