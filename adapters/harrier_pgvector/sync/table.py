"""A table of chunks that follows another table: its declaration and maintenance."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import Connection, sql
from psycopg_pool import ConnectionPool

from harrier_core import Chunking
from harrier_core.closing import Closing
from harrier_core.errors import SettingError, StoreMissing
from harrier_pgvector.connections import Connections
from harrier_pgvector.schema import Name
from harrier_pgvector.sync import catalog
from harrier_pgvector.sync.declaration import Declaration
from harrier_pgvector.sync.declaring import Declaring, Wanted, declared, impatient
from harrier_pgvector.sync.objects import Objects, drop, view_of
from harrier_pgvector.sync.session import named, run
from harrier_pgvector.sync.status import SyncFailure, SyncStatus, status_of

if TYPE_CHECKING:
    from harrier_core.space import EmbeddingSpace

T = TypeVar("T")


class TableSync(Closing):
    """A table of chunks that follows another table. Creating the object neither connects nor declares anything."""

    def __init__(
        self,
        place: str | ConnectionPool[Any],
        *,
        table: str = "documents",
        schema: str = "public",
        trust: Collection[str] = (),
    ) -> None:
        """Name the table of the chunks, in the database of a connection string or of a psycopg pool.

        trust: other roles that may own the source, the chunks or the schema harrier_sync. Their SQL code (functions,
        triggers, index expressions) runs with the rights of this connection. Superusers need not be named.
        """
        self._connections = Connections(named(place), retry_for=10.0)
        self._target = schema, table
        self._trust = frozenset(trust)

    # -- declaring

    def create(
        self,
        source: str,
        space: EmbeddingSpace,
        *,
        text: str | Sequence[str],
        metadata: Sequence[str] = (),
        chunking: Chunking | None = None,
        precision: str = "float16",
        keywords: bool = False,
        wake: str | None = None,
        row_security: bool = True,
        replace: bool = False,
        prune: bool = False,
        dry_run: bool = False,
    ) -> str:
        """Have workers keep the chunks of a source up to date from now on; return the SQL that does so.

        source: TABLE or SCHEMA.TABLE, with a primary key. space: `encoder.space`. text: a column, or an SQL expression
        over one row, or several of them, which are joined by blank lines. metadata: columns that are copied, and can be
        searched by.
        chunking: 512 tokens by default. keywords: if the table is new, its chunks can be found by their words as well.
        wake: "notify" announces changes; with "poll", workers find them when they look. It is "notify" by default,
        unless the server allows prepared transactions, which must not announce anything. row_security: enable row-level
        security on the chunks if the source has it; no role but their owner sees any until there are policies. replace:
        replace an earlier declaration; texts that stay the same are not embedded again. prune: remove other records
        that the table already holds. dry_run: try it in a transaction that is rolled back, except for statements that
        lock tables in use, such as CREATE TRIGGER.
        """
        if wake not in (None, "notify", "poll"):
            raise SettingError(f"wake must be 'notify' or 'poll', got {wake!r}")
        wanted = Wanted(
            source,
            space,
            [text] if isinstance(text, str) else list(text),
            list(metadata),
            chunking or Chunking(),
            precision,
            keywords=keywords,
            notify=None if wake is None else wake == "notify",
            row_security=row_security,
            replace=replace,
            prune=prune,
            dry_run=dry_run,
        )
        declaring = Declaring(self._connections, self._target, wanted, self._trust)
        return self._connections.run(declaring.run)

    def drop(self, *, chunks: bool = False) -> None:
        """Remove triggers, queue and view and, with `chunks`, the table of the chunks as well."""

        def remove(connection: Connection[Any]) -> None:
            with impatient(connection):
                found = self._found(connection)
                for statement in drop(found.number, view_of(found.target)):
                    connection.execute(statement, [])
                if chunks:
                    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(Name(*self._target)), [])
                catalog.drop_if_empty(connection)

        self._connections.run(remove)

    # -- maintenance

    def status(self) -> SyncStatus:
        """Return its status."""
        return self._with(status_of)

    def failures(self, most: int = 100) -> list[SyncFailure]:
        """Return rows that were set aside, with the reasons."""

        def fetch(connection: Connection[Any], found: Declaration) -> list[SyncFailure]:
            query = sql.SQL("SELECT {}, failed, attempts FROM {} AS q WHERE failed IS NOT NULL LIMIT %s").format(
                found.source.key.record_id("q"), Objects(found.number, found.source).queue
            )
            return [SyncFailure(*row) for row in connection.execute(query, [most]).fetchall()]

        return self._with(fetch)

    def retry(self) -> int:
        """Retry the rows that were set aside or wait for another attempt; return how many there are."""
        update = (
            "UPDATE {} SET failed = NULL, error = NULL, attempts = 0, due = now(), version = version + 1::bigint "
            "WHERE token IS NULL AND (failed IS NOT NULL OR attempts > 0)"
        )

        def again(connection: Connection[Any], found: Declaration) -> int:
            queue = Objects(found.number, found.source).queue
            number = connection.execute(sql.SQL(update).format(queue), []).rowcount
            catalog.wake(connection)
            return number

        return self._with(again)

    def rescan(self) -> None:
        """Have workers look at every row, for changes that no trigger saw.

        Partitions without triggers get them, which requires the same rights as declaring.
        """

        def look(connection: Connection[Any]) -> None:
            with impatient(connection):
                found = self._found(connection)
                missing = [(schema, table) for schema, table in found.facts.unnoticed]
                for statement in Objects(found.number, found.source).notice_again(missing):
                    connection.execute(statement, [])
                catalog.start_scans(connection, found.number)
                catalog.wake(connection)

        self._connections.run(look)

    def pause(self) -> None:
        """Have workers leave the table alone; changes are still recorded."""
        self._set_state("paused", among=("active", "broken"))

    def resume(self) -> None:
        """Have workers resume work on the table."""
        self._set_state("active", among=("paused",))

    def _set_state(self, state: str, among: tuple[str, ...]) -> None:
        def set_(connection: Connection[Any], found: Declaration) -> None:
            catalog.set_state(connection, found.number, state, among)
            catalog.wake(connection)

        self._with(set_)

    # -- finding it

    def _with(self, action: Callable[[Connection[Any], Declaration], T]) -> T:
        return run(self._connections, lambda connection: action(connection, self._found(connection)))

    def _found(self, connection: Connection[Any]) -> Declaration:
        found = declared(connection, self._target, self._trust)
        if found is None:
            raise StoreMissing(f"table {self} follows no other table; declare that first")
        return found

    def close(self) -> None:
        """Close our own connections."""
        self._connections.close()

    def __str__(self) -> str:
        return ".".join(self._target)
