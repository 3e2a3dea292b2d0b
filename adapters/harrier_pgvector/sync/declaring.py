"""Declare a table: everything that it needs is created in one transaction."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from psycopg import Connection, Cursor, errors, sql

from harrier_core import Chunking
from harrier_core.errors import SettingError, StoreUnavailable, StoreUnsuitable
from harrier_pgvector.catalogs import EXTENSION, LOOK_UP
from harrier_pgvector.connections import Connections
from harrier_pgvector.rows import Precision
from harrier_pgvector.schema import Name, Table, literal, written
from harrier_pgvector.store import PgVectorStore
from harrier_pgvector.sync import catalog
from harrier_pgvector.sync.declaration import FAMILY, Declaration, Lost, declarations_and_lost, seen_first, to_json
from harrier_pgvector.sync.objects import Objects, drop_noticing, drop_view, view_of
from harrier_pgvector.sync.session import PATH, configure, pinned
from harrier_pgvector.sync.source import COLUMNS_OF, Path, Source, find, refuse_unlogged
from harrier_pgvector.sync.trust import STRANGERS, TYPE_OWNERS, refuse_strangers

if TYPE_CHECKING:
    from harrier_core.space import EmbeddingSpace

# CREATE TRIGGER waits for all writers of the source, and all later ones wait for it.
_LOCK_TIMEOUT = "10s"

_MEMBERS = """
    {family}
    SELECT n.nspname, c.relname, c.oid, {strangers}, c.relpersistence
    FROM family JOIN pg_class AS c ON c.oid = family.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') ORDER BY n.nspname, c.relname"""
_MEMBERS = _MEMBERS.replace("{family}", FAMILY.format("%s::oid"))
_MEMBERS = _MEMBERS.replace("{strangers}", STRANGERS.format(f"c.relowner || {TYPE_OWNERS.format('c.oid')}"))

_TABLE = "SELECT c.relrowsecurity, {strangers} FROM pg_class AS c WHERE c.oid = %s::regclass"
_TABLE = _TABLE.replace("{strangers}", STRANGERS.format("ARRAY[c.relowner]"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """The arguments of `TableSync.create`."""

    source: str
    space: EmbeddingSpace
    text: list[str]
    metadata: list[str]
    chunking: Chunking
    precision: str
    keywords: bool
    notify: bool | None
    row_security: bool
    replace: bool
    prune: bool
    dry_run: bool


class _OvertakenError(Exception):
    """Another session has created the schema in the meantime."""


class Declaring:
    """One declaration in progress; target: the table of the chunks."""

    def __init__(
        self, connections: Connections, target: tuple[str, str], wanted: Wanted, trust: Collection[str]
    ) -> None:
        self._connections = connections
        self._target = target
        self._wanted = wanted
        self._trust = trust
        self._said: list[str] = []
        self._note = ""  # a comment above them

    def run(self, connection: Connection[Any]) -> str:
        """Declare it, and return the SQL that does so."""
        try:
            return self._run(connection)
        except _OvertakenError:
            return self._run(connection)

    def _run(self, connection: Connection[Any]) -> str:
        self._said = []
        path = Path.of(connection)
        with impatient(connection), connection.transaction(force_rollback=self._wanted.dry_run):
            self._open_catalog(connection)
            catalog.lock(connection)
            wanted = self._wanted
            source = find(connection, wanted.source, wanted.text, wanted.metadata, path, self._trust)
            self._open_target(connection)
            self._tell([sql.SQL("SET search_path = {}").format(written(PATH))], connection)
            self._declare(connection, source)
            self._tell([sql.SQL("RESET search_path")], connection)
        return self._note + ";\n\n".join(self._said) + ";"

    def _open_catalog(self, connection: Connection[Any]) -> None:
        if catalog.is_there(connection, self._trust):
            return
        try:
            self._do([written(statement) for statement in catalog.CREATE], connection)
        except (errors.DuplicateSchema, errors.UniqueViolation):
            raise _OvertakenError from None

    def _open_target(self, connection: Connection[Any]) -> None:
        wanted = self._wanted
        schema, table = self._target
        is_new = not connection.execute(LOOK_UP, self._target).fetchall()
        new = PgVectorStore(
            self._connections, table=table, schema=schema, precision=wanted.precision, keywords=wanted.keywords
        )
        new.open_on(connection, wanted.space, create=True)
        if is_new:
            kind: Precision = "vector" if wanted.precision == "float32" else "halfvec"
            _, extension, *_ = connection.execute(EXTENSION, [kind]).fetchone() or (None, "public")
            words = 0 if wanted.keywords else None
            made = Table(schema, table, wanted.space.dimensions, kind, extension, words=words).create(wanted.space)
            self._tell([sql.SQL("CREATE EXTENSION IF NOT EXISTS vector"), *made], connection)

    def _declare(self, connection: Connection[Any], source: Source) -> None:
        wanted, view = self._wanted, view_of(self._target)
        before = self._before(connection)
        family = connection.execute(_MEMBERS, [source.oid]).fetchall()
        for schema, table, _, strangers, persistence in family:
            refuse_strangers(f"table {schema}.{table}, or a type of its columns,", strangers, self._trust)
            refuse_unlogged(f"{schema}.{table}", persistence)
        protect = self._protect(connection, source)
        # This may take minutes, so no one's table may be locked yet. The scans find what changes in the meantime.
        self._check_unknown(connection, source)
        self._lock(protect, connection)
        if before is not None:
            self._lock([drop_view(view)], connection)
            self._do(catalog.delete(before.number), connection)
        [columns] = connection.execute(sql.SQL(COLUMNS_OF).format(literal(source.oid)), []).fetchone() or [{}]
        seen = json.dumps(seen_first(source, columns, [oid for _, _, oid, *_ in family]))
        followed, target = (sql.Identifier(*each).as_string() for each in ((source.schema, source.table), self._target))
        row = self._do([catalog.insert(followed, target, seen)], connection).fetchone()
        number = row[0] if row else 0
        objects = Objects(number, source)
        notify = self._announces(connection)
        declared = to_json(source, self._target, wanted.chunking, notify=notify, row_security=wanted.row_security)
        self._do(objects.create(declared, notify=notify), connection)
        self._create_view(
            connection, objects.create_view(Name(*self._target), view, connection.info.server_version), before
        )
        # Last, because from here on the source's readers and writers wait.
        if before is not None:
            self._lock(drop_noticing(before.number), connection)
        self._lock(objects.notice([(schema, table) for schema, table, *_ in family]), connection)
        catalog.start_scans(connection, number)
        catalog.wake(connection)

    def _before(self, connection: Connection[Any]) -> Declaration | None:
        """Return the declaration that is to be replaced, if there is one."""
        before = declared(connection, self._target, self._trust)
        if before is not None and not self._wanted.replace:
            raise SettingError(
                f"table {self} follows {before.source} already; declare it again with replace, or drop it first"
            )
        return before

    def _announces(self, connection: Connection[Any]) -> bool:
        """Return whether changes are announced by NOTIFY, after which a transaction can no longer be prepared."""
        if self._wanted.notify is not None:
            return self._wanted.notify
        [(allowed,)] = connection.execute("SELECT current_setting('max_prepared_transactions')").fetchall()
        if allowed == "0":
            return True
        self._note = (
            f"-- max_prepared_transactions is {allowed}, and PREPARE TRANSACTION fails after NOTIFY: changes are not "
            "announced, and workers look for them (poll)\n"
        )
        return False

    def _protect(self, connection: Connection[Any], source: Source) -> list[sql.Composed]:
        """Return the statements that hide chunks from roles from which the source's rows are hidden."""
        [(of_source, _)] = connection.execute(_TABLE, [str(source.oid)]).fetchall()
        [(of_target, strangers)] = connection.execute(_TABLE, [sql.Identifier(*self._target).as_string()]).fetchall()
        refuse_strangers(f"table {self}", strangers, self._trust)
        if self._wanted.row_security and of_source and not of_target:
            return [sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(Name(*self._target))]
        return []

    def _create_view(self, connection: Connection[Any], create: sql.Composed, before: Declaration | None) -> None:
        try:
            if before is None:
                self._do([create], connection)
            else:
                self._lock([create], connection)
        except (errors.WrongObjectType, errors.InvalidTableDefinition) as error:
            view = view_of(self._target).as_string()
            raise StoreUnsuitable(
                f"the view {view} cannot be created: {error.diag.message_primary}; drop or rename the object of "
                "that name"
            ) from None

    def _check_unknown(self, connection: Connection[Any], source: Source) -> None:
        """Check for records that the source does not have: foreign ones, or ones whose rows were deleted unnoticed."""
        unknown = sql.SQL("FROM {} AS t WHERE NOT EXISTS (SELECT FROM {} AS s WHERE {} = t.record_id)").format(
            Name(*self._target), source.name, source.key.record_id("s", source=True)
        )
        # All rows or an error: one hidden by row-level security would seem to be deleted.
        configure(connection, {"row_security": "off"})
        held = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(Name(*self._target))
        if connection.execute(held, []).fetchone() == (False,):
            return  # a role that may not see all rows may declare nonetheless
        if self._wanted.prune and not self._wanted.dry_run:
            connection.execute(sql.SQL("DELETE ") + unknown, [])
            return
        row = connection.execute(sql.SQL("SELECT record_id ") + unknown + sql.SQL(" LIMIT 1"), []).fetchone()
        if row and not self._wanted.prune:
            raise SettingError(
                f"table {self} holds records that {source} does not have, such as {row[0]!r}; use another "
                "table, or have them removed with prune"
            )

    # -- statements, and their printed form

    def _do(self, statements: Sequence[sql.SQL | sql.Composed], connection: Connection[Any]) -> Cursor[Any]:
        self._tell(statements, connection)
        return [connection.execute(statement, []) for statement in statements][-1]

    def _lock(self, statements: Sequence[sql.Composed], connection: Connection[Any]) -> None:
        """Run statements that lock tables in use; in a dry run, only record them."""
        if self._wanted.dry_run:
            self._tell(statements, connection)
        elif statements:
            self._do(statements, connection)

    def _tell(self, statements: Sequence[sql.Composable], connection: Connection[Any]) -> None:
        """Record statements that are run elsewhere."""
        texts = (statement.as_string(connection).replace("%%", "%") for statement in statements)
        self._said += [dedent(text).strip() for text in texts]

    def __str__(self) -> str:
        return ".".join(self._target)


def declared(connection: Connection[Any], target: tuple[str, str], trust: Collection[str]) -> Declaration | None:
    """Return the declaration of a table of chunks, in a pinned transaction of the caller's."""
    name = ".".join(target)
    found = next((each for each in declarations_and_lost(connection, trust) if each.name == name), None)
    if isinstance(found, Lost):
        raise StoreUnsuitable(found.reason)
    if found is not None:
        found.refuse_strangers(trust)
    return found


@contextmanager
def impatient(connection: Connection[Any]) -> Iterator[None]:
    """Run in a transaction that does not wait long for the locks of others, because all later ones wait behind it."""
    try:
        with pinned(connection, {"lock_timeout": _LOCK_TIMEOUT}):
            yield
    except errors.LockNotAvailable:
        raise StoreUnavailable(
            f"the table is in use by a transaction that has run for more than {_LOCK_TIMEOUT}, and triggers "
            "cannot be added or removed meanwhile; try again"
        ) from None
