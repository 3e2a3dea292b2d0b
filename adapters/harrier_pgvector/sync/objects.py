"""What a declared table has in the database: a queue, triggers that append to a list of changes, and a view.

Everything is in the schema harrier_sync, but for the triggers, which belong to the source, and the view, which stands
beside the chunks. Whoever writes to the source only ever appends: nobody waits for a worker, and no worker for them.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from harrier_pgvector.schema import Name, literal, written
from harrier_pgvector.sync.source import Source

SCHEMA = "harrier_sync"
CHANNEL = "harrier_sync"
_INVOKER = 150_000
_LAYOUT = "Harrier Kit's live sync, layout 1"

LAYOUT_OF = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'harrier_sync'"

# Not IF NOT EXISTS: whoever may not create a schema shall hear so only if there is none.
CATALOG = [
    "CREATE SCHEMA harrier_sync",
    f"COMMENT ON SCHEMA harrier_sync IS '{_LAYOUT.replace(chr(39), chr(39) * 2)}'",
    """
    CREATE TABLE harrier_sync.tables (
        id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        source regclass NOT NULL,
        target regclass NOT NULL UNIQUE,
        declared jsonb NOT NULL,
        state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'broken')),
        reason text,
        created_at timestamptz NOT NULL DEFAULT now()
    )""",
    """
    CREATE TABLE harrier_sync.scans (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        sync integer NOT NULL,
        kind text NOT NULL CHECK (kind IN ('all', 'orphans', 'missed')),
        position text[],
        found bigint NOT NULL DEFAULT 0
    )""",
    """
    CREATE TABLE harrier_sync.workers (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        seen_at timestamptz NOT NULL,
        rates jsonb NOT NULL
    )""",
]


def layout_fits(found: str | None) -> bool:
    """Whether a schema of that name is ours, of the layout that this release knows."""
    return found == _LAYOUT


@dataclass(frozen=True, slots=True)
class Objects:
    """What belongs to one declared table, by its number."""

    number: int
    source: Source

    @property
    def queue(self) -> Name:
        """Keys whose rows are to be embedded, each once."""
        return Name(SCHEMA, f"queue_{self.number}")

    @property
    def changes(self) -> Name:
        """Keys whose rows were changed, as often as they were; workers fold them into the queue."""
        return Name(SCHEMA, f"changes_{self.number}")

    @property
    def _function(self) -> Name:
        return Name(SCHEMA, f"note_{self.number}")

    def create(
        self, noticed: list[tuple[str, str]], target: Name, view: Name, *, notify: bool, version: int
    ) -> list[sql.Composed]:
        """The statements; noticed: the tables that get triggers, which are the source and its partitions."""
        return [
            *self._tables(),
            self._create_function(notify=notify),
            *(trigger for schema, name in noticed for trigger in self._triggers(Name(schema, name))),
            self._create_view(target, view, version),
        ]

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
        ]

    def _create_function(self, *, notify: bool) -> sql.Composed:
        """One for all triggers. Whatever becomes of the source, it must not fail: it runs in users' writes."""
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
            new_watched=_columns("n", self.source.watched),
            old_watched=_columns("o", self.source.watched),
            notify=sql.SQL("\n    IF FOUND THEN PERFORM pg_notify('harrier_sync', ''); END IF;" if notify else ""),
        )
        return sql.SQL(
            "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
            "SET search_path = pg_catalog, pg_temp AS {tag}{body}{tag}"
        ).format(function=self._function, body=body, tag=written(_tag(body.as_string())))

    def _triggers(self, table: Name) -> list[sql.Composed]:
        events = {
            "INSERT": " REFERENCING NEW TABLE AS harrier_new",
            "UPDATE": " REFERENCING OLD TABLE AS harrier_old NEW TABLE AS harrier_new",
            "DELETE": " REFERENCING OLD TABLE AS harrier_old",
            "TRUNCATE": "",
        }
        return [
            sql.SQL("CREATE TRIGGER {name} AFTER {event} ON {table}{transition} EXECUTE FUNCTION {function}()").format(
                name=Name(f"harrier_sync_{self.number}_{event.lower()}"),
                event=written(event),
                table=table,
                transition=written(transition),
                function=self._function,
            )
            for event, transition in events.items()
        ]

    def _create_view(self, target: Name, view: Name, version: int) -> sql.Composed:
        """The chunks with the source's key in its own columns and types, to be joined with it."""
        key = self.source.key
        # Whoever looks through it sees what policies let them see; before Postgres 15 a view knows no such thing.
        invoker = sql.SQL(" WITH (security_invoker = true)" if version >= _INVOKER else "")
        names = sql.SQL(", ").join(Name(column.name) for column in key.columns)
        return sql.SQL(
            "CREATE VIEW {view} ({names}, chunk, chunk_text, chunk_metadata, chunk_start, chunk_end, embedding)"
            "{invoker} AS SELECT {keys}, number, text, metadata, start_at, end_at, embedding FROM {target}"
        ).format(view=view, names=names, invoker=invoker, keys=key.of_record_id(sql.SQL("record_id")), target=target)


def drop(number: int, view: Name) -> list[sql.Composed]:
    """The statements that remove all of it, whatever has become of the source; the triggers go with their function."""
    queue, changes = Name(SCHEMA, f"queue_{number}"), Name(SCHEMA, f"changes_{number}")
    return [
        sql.SQL("DROP VIEW IF EXISTS {}").format(view),
        sql.SQL("DROP FUNCTION IF EXISTS {}() CASCADE").format(Name(SCHEMA, f"note_{number}")),
        sql.SQL("DROP TABLE IF EXISTS {}, {}").format(queue, changes),
        sql.SQL("DELETE FROM harrier_sync.scans WHERE sync = {}").format(literal(number)),
        sql.SQL("DELETE FROM harrier_sync.tables WHERE id = {}").format(literal(number)),
    ]


def _columns(alias: str, names: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(Name(alias, name) for name in names)


def _tag(body: str) -> str:
    """What ends a body is not in it, whatever somebody has called a column."""
    tag = "$harrier$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    return tag
