"""The database objects of a declared table: a queue, triggers that append to a list of changes, and a view.

Everything is in the schema harrier_sync, except the triggers, which belong to the source, and the view, which is next
to the chunks. Writers of the source only ever append: they never wait for a worker, nor does a worker wait for them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from psycopg import sql

from harrier_pgvector.schema import Name, literal, written
from harrier_pgvector.sync import catalog
from harrier_pgvector.sync.catalog import SCHEMA
from harrier_pgvector.sync.source import Source

_INVOKER = 150_000  # the version of Postgres from which a view can check the rights of its readers
_LONGEST = 63  # bytes of a name

# The events that are recorded, with the transition tables of each.
_EVENTS = {
    "INSERT": " REFERENCING NEW TABLE AS harrier_new",
    "UPDATE": " REFERENCING OLD TABLE AS harrier_old NEW TABLE AS harrier_new",
    "DELETE": " REFERENCING OLD TABLE AS harrier_old",
    "TRUNCATE": "",
}


@dataclass(frozen=True, slots=True)
class Objects:
    """The database objects of one declared table, by its number."""

    number: int
    source: Source

    @property
    def queue(self) -> Name:
        """The table of keys whose rows are to be embedded, each once."""
        return Name(SCHEMA, f"queue_{self.number}")

    @property
    def changes(self) -> Name:
        """The table of keys whose rows were changed, once per change; workers fold them into the queue."""
        return Name(SCHEMA, f"changes_{self.number}")

    @property
    def _function(self) -> Name:
        return Name(SCHEMA, f"note_{self.number}")

    def create(self, declared: str, *, notify: bool) -> list[sql.Composed]:
        """Return the statements that create the tables, and the function for the triggers.

        The declaration is SQL code, so it is stored where only the queue's owner can write: in a comment on the queue.
        """
        return [
            *self._tables(),
            sql.SQL("COMMENT ON TABLE {} IS {}").format(self.queue, literal(declared)),
            self._create_function(notify=notify),
            # Otherwise a role that may use the schema could call it from a trigger on its own table.
            sql.SQL("REVOKE ALL ON FUNCTION {}() FROM PUBLIC").format(self._function),
        ]

    def notice_again(self, tables: list[tuple[str, str]]) -> list[sql.Composed]:
        """Return the statements that create the triggers of tables that have lost some of them, or never had any."""
        return [
            *(
                sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(self._trigger(event), Name(*table))
                for table in tables
                for event in _EVENTS
            ),
            *self.notice(tables),
        ]

    def notice(self, tables: list[tuple[str, str]]) -> list[sql.Composed]:
        """Return the statements that create the triggers of some tables: of the source and its partitions."""
        return [trigger for schema, name in tables for trigger in self._triggers(Name(schema, name))]

    def _tables(self) -> list[sql.Composed]:
        queue = """
            CREATE TABLE {queue} (
                {keys},
                version bigint NOT NULL DEFAULT 1,
                priority smallint NOT NULL DEFAULT 0,
                attempts smallint NOT NULL DEFAULT 0,
                since timestamptz NOT NULL DEFAULT clock_timestamp(),
                due timestamptz NOT NULL DEFAULT clock_timestamp(),
                token uuid,
                error text,
                failed text,
                PRIMARY KEY ({names})
            ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)"""
        changes = """
            CREATE TABLE {changes} ({keys}, at timestamptz NOT NULL DEFAULT clock_timestamp())
            WITH (autovacuum_vacuum_scale_factor = 0.02)"""
        names = {"queue": self.queue, "changes": self.changes, "keys": self.source.key.definitions()}
        return [
            sql.SQL(queue).format(**names, names=self.source.key.names()),
            sql.SQL("CREATE INDEX ON {queue} (priority, due) WHERE failed IS NULL").format(**names),
            sql.SQL(changes).format(**names),
            # It has no key, and Postgres refuses to delete rows without an identity from a table that is published, as
            # it is by FOR ALL TABLES.
            sql.SQL("ALTER TABLE {changes} REPLICA IDENTITY FULL").format(**names),
        ]

    def _create_function(self, *, notify: bool) -> sql.Composed:
        """Return the function for all triggers. It runs in users' writes, so it must never fail."""
        key = self.source.key
        columns = sql.SQL(", ").join(
            sql.SQL("({}, {})").format(literal(column.name), literal(column.type)) for column in key.columns
        )
        watched = sql.SQL(", ").join(sql.SQL("({}, NULL)").format(literal(name)) for name in self.source.watched)
        body = sql.SQL(
            """
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO harrier_sync.scans (sync, kind) VALUES ({number}, 'orphans');
    ELSIF EXISTS (
        SELECT FROM (VALUES {columns}, {watched}) AS needed (name, type)
        WHERE NOT EXISTS (
            SELECT FROM pg_attribute AS a WHERE a.attrelid = TG_RELID AND a.attname = needed.name
            AND NOT a.attisdropped AND (needed.type IS NULL OR a.atttypid = to_regtype(needed.type))
        )
    ) THEN
        INSERT INTO harrier_sync.scans (sync, kind) SELECT {number}, 'missed' WHERE NOT EXISTS (
            SELECT FROM harrier_sync.scans AS s WHERE s.sync = {number} AND s.kind = 'missed'
        );
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO {changes} ({names}) SELECT {new_keys} FROM harrier_new AS n;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO {changes} ({names}) SELECT {old_keys} FROM harrier_old AS o;
    ELSIF {whole} AND EXISTS (
        SELECT FROM pg_attribute AS a WHERE a.attrelid = TG_RELID AND a.attgenerated = 'v' AND NOT a.attisdropped
    ) THEN
        INSERT INTO {changes} ({names}) SELECT {either_keys}
        FROM harrier_new AS n FULL JOIN harrier_old AS o ON {same};
    ELSE
        INSERT INTO {changes} ({names}) SELECT {either_keys}
        FROM harrier_new AS n FULL JOIN harrier_old AS o ON {same}
        WHERE {new_key} IS NULL OR {old_key} IS NULL
            OR ROW({new_watched})::record *<> ROW({old_watched})::record;
    END IF;{notify}
    RETURN NULL;
END"""
        ).format(
            number=literal(self.number),
            whole=written("true" if self.source.whole else "false"),
            columns=columns,
            watched=watched,
            changes=self.changes,
            names=key.names(),
            new_keys=key.source_names("n"),
            old_keys=key.source_names("o"),
            either_keys=key.either("n", "o"),
            same=sql.SQL(" AND ").join(
                sql.SQL("{} = {}").format(Name("n", column.name), Name("o", column.name)) for column in key.columns
            ),
            new_key=Name("n", key.columns[0].name),
            old_key=Name("o", key.columns[0].name),
            new_watched=_watched("n", self.source),
            old_watched=_watched("o", self.source),
            notify=sql.SQL("\n    IF FOUND THEN PERFORM pg_notify('harrier_sync', ''); END IF;" if notify else ""),
        )
        return sql.SQL(
            "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
            "SET search_path = pg_catalog, pg_temp AS {tag}{body}{tag}"
        ).format(function=self._function, body=body, tag=written(_tag(body.as_string())))

    def _triggers(self, table: Name) -> list[sql.Composed]:
        return [
            sql.SQL("CREATE TRIGGER {name} AFTER {event} ON {table}{transition} EXECUTE FUNCTION {function}()").format(
                name=self._trigger(event),
                event=written(event),
                table=table,
                transition=written(transition),
                function=self._function,
            )
            for event, transition in _EVENTS.items()
        ]

    def _trigger(self, event: str) -> Name:
        return Name(f"harrier_sync_{self.number}_{event.lower()}")

    def create_view(self, target: Name, view: Name, version: int) -> sql.Composed:
        """Return the statement for the view of the chunks with the source's own key, for joins with it."""
        key = self.source.key
        # Row-level security is that of the role that reads the view. Before Postgres 15 it would be that of the view's
        # owner, so such a view shows nothing to roles to which a policy applies.
        invoker: sql.Composable = sql.SQL(" WITH (security_invoker = true)")
        hidden: sql.Composable = sql.SQL("")
        if version < _INVOKER:
            invoker, quoted = hidden, literal(target.as_string().replace("%%", "%"))
            hidden = sql.SQL(" WHERE NOT row_security_active({}::regclass)").format(quoted)
        names = sql.SQL(", ").join(Name(column.name) for column in key.columns)
        return sql.SQL(
            "CREATE OR REPLACE VIEW {view} ({names}, chunk, chunk_text, chunk_metadata, chunk_start, chunk_end, "
            "embedding){invoker} AS SELECT {keys}, number, text, metadata, start_at, end_at, embedding FROM {target}"
            "{hidden}"
        ).format(
            view=view,
            names=names,
            invoker=invoker,
            keys=key.of_record_id(sql.SQL("record_id")),
            target=target,
            hidden=hidden,
        )


def view_of(target: tuple[str, str]) -> Name:
    """Return the name of the view next to a table of chunks."""
    schema, table = target
    name = f"{table}_by_key"
    if len(name.encode()) > _LONGEST:  # Postgres would truncate it, perhaps to the name of the table
        kept = table.encode()[: _LONGEST - 16].decode(errors="ignore")
        name = f"{kept}_{hashlib.sha256(table.encode()).hexdigest()[:8]}_by_key"
    return Name(schema, name)


def drop(number: int, view: Name) -> list[sql.Composed]:
    """Return the statements that remove everything, whatever happened to the source."""
    return [drop_view(view), *catalog.delete(number), *drop_noticing(number)]


def drop_view(view: Name) -> sql.Composed:
    """Return the statement that removes the view."""
    return sql.SQL("DROP VIEW IF EXISTS {}").format(view)


def drop_noticing(number: int) -> list[sql.Composed]:
    """Return the statements that remove the triggers, which go with their function, and what they write to.

    The source is locked first, as it is by its writers, who then come to the list of changes.
    """
    queue, changes = Name(SCHEMA, f"queue_{number}"), Name(SCHEMA, f"changes_{number}")
    return [
        sql.SQL("DROP FUNCTION IF EXISTS {}() CASCADE").format(Name(SCHEMA, f"note_{number}")),
        sql.SQL("DROP TABLE IF EXISTS {}, {}").format(queue, changes),
    ]


def _watched(alias: str, source: Source) -> sql.Composed:
    if source.whole:  # including columns that are added later; Postgres refuses this where there are virtual ones
        return sql.SQL("{}.*").format(Name(alias))
    return sql.SQL(", ").join(Name(alias, name) for name in source.watched)


def _tag(body: str) -> str:
    """Return a quoting tag that the body does not contain, whatever the columns are called."""
    tag = "$harrier$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    return tag
