"""Find a table and the extension, create them if they are missing, and check that they are as required."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

from psycopg import Connection, errors

from harrier_core.errors import SettingError, SpaceError, StoreMissing, StoreUnsuitable, StoreWarning, WrongSpace
from harrier_core.filters import Condition
from harrier_core.indexes import Hnsw
from harrier_core.lexical import VERSION
from harrier_core.space import EmbeddingSpace
from harrier_pgvector.catalogs import EXTENSION, LOOK_UP
from harrier_pgvector.rows import Precision
from harrier_pgvector.schema import COLUMNS, LAYOUT, Table
from harrier_pgvector.session import ask, transaction
from harrier_pgvector.typed import Key, Typed, is_served, keys_in
from harrier_pgvector.words import are_there, problem, version_in

_NEEDED, _ITERATIVE, _SOUND = (0, 7, 0), (0, 8, 0), (0, 8, 4)  # halfvec; iterative scans; no damaged HNSW

# In the schema in which the user's own CREATE EXTENSION would put it: the first one of the session's initial search
# path. It is one round trip, and a transaction has our path again afterwards.
_CREATE_EXTENSION = (
    "SET LOCAL search_path TO DEFAULT; CREATE EXTENSION vector; SET LOCAL search_path = pg_catalog, pg_temp"
)


class Found(NamedTuple):
    """A table as described by the catalog."""

    oid: int
    columns: dict[str, str]  # with their types
    comment: str | None  # on the vectors' column
    is_indexed: bool  # whether the vectors are indexed
    keys: frozenset[Key] = frozenset()  # of metadata fields that are indexed
    by_containment: bool = False  # whether metadata have an index for containment
    words: str | None = None  # the comment on the column of word weights


@dataclass(frozen=True, slots=True)
class Extension:
    """The extension as installed in a database."""

    said: str  # its version
    schema: str
    oid: int | None  # of its type for the vectors
    sparse: int | None  # of its type for sparse vectors

    @property
    def version(self) -> tuple[int, ...]:
        """Its version, in comparable form."""
        return tuple(int(part) for part in self.said.split(".")[:3] if part.isdigit())

    @property
    def iterative(self) -> bool:
        """Whether an index scan continues until it has found enough."""
        return self.version >= _ITERATIVE


@dataclass(frozen=True, slots=True)
class Opened:
    """A table that was looked up."""

    found: Found
    space: EmbeddingSpace
    table: Table
    iterative: bool
    typed: Typed

    @property
    def is_indexed(self) -> bool:
        """Whether searches have an index."""
        return self.found.is_indexed

    def serves(self, condition: Condition | None) -> bool:
        """Return whether indexes find the rows that meet a condition, and no others."""
        return is_served(condition, self.typed, by_containment=self.found.by_containment)

    @property
    def has_words(self) -> bool:
        """Whether all rows have the words that this release makes of their texts."""
        return self.table.words is not None and self.words_version == VERSION

    @property
    def words_version(self) -> int | None:
        """The version of the words that all rows have, or None if some have none."""
        return version_in(self.found.words)

    @property
    def words_problem(self) -> str:
        """Why it cannot be searched by word, and what to do."""
        return problem(".".join(self.table.names), self.table.words, self.words_version)

    def was(self, rows: list[Any]) -> bool:
        """Return whether LOOK_UP still returns the same."""
        return found_in(rows) == self.found


@dataclass(frozen=True, slots=True)
class TableName:
    """The location of a table of chunks, whether it exists or not."""

    schema: str
    name: str
    precision: Precision  # that of a new table
    hnsw: Hnsw | None = None  # for indexes that are built
    keys: tuple[Key, ...] = ()  # that should have an index
    keywords: bool = False  # whether a new table can be searched by word

    def __post_init__(self) -> None:
        checked_name("schema", self.schema)
        checked_name("table", self.name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    def open(self, connection: Connection[Any], space: EmbeddingSpace, *, create: bool) -> Opened:
        """Look up the table; with `create`, create it if it does not exist."""
        found = self._look_up(connection)
        if found is None:
            if not create:
                raise self.missing()
            found = self._create(connection, space)
        opened = self._opened(connection, found)
        if opened.space != space:
            raise WrongSpace(
                f"table {self} holds vectors of another space: {opened.space.explain(space)}; use another table, or "
                "ingest everything again into a new one"
            )
        return opened

    def look(self, connection: Connection[Any]) -> Opened:
        """Look up the table, whatever its space."""
        return self._opened(connection, self.find(connection))

    def find(self, connection: Connection[Any]) -> Found:
        """Return the catalog's description of the table. Raise StoreMissing, or StoreUnsuitable if not the kit's."""
        found = self._look_up(connection)
        if found is None:
            raise self.missing()
        self._stored(found)
        return found

    def _opened(self, connection: Connection[Any], found: Found) -> Opened:
        space, precision = self._stored(found)
        extension = self._checked(_extension(connection, precision))
        typed = Typed(found.keys, connection.info.parameter_status("server_encoding") == "UTF8")
        table = self._table(space, precision, extension, words=are_there(found.columns))
        return Opened(found, space, table, extension.iterative, typed)

    def _table(self, space: EmbeddingSpace, precision: Precision, extension: Extension, *, words: bool) -> Table:
        at = self.schema, self.name, space.dimensions, precision, extension.schema, extension.oid or 0
        return Table(*at, words=(extension.sparse or 0) if words else None)

    def missing(self) -> StoreMissing:
        """Return the error for a table that does not exist."""
        return StoreMissing(f"there is no table {self}; ingest something into it first")

    def space(self, connection: Connection[Any]) -> EmbeddingSpace | None:
        """Return the space of the stored vectors, or None if there is no table."""
        found = self._look_up(connection)
        return self._stored(found)[0] if found else None

    def missing_keys(self, connection: Connection[Any]) -> list[Key]:
        """Return the keys that should have an index, but have none."""
        found = self._look_up(connection)
        return [key for key in self.keys if found is not None and key not in found.keys]

    def _look_up(self, connection: Connection[Any]) -> Found | None:
        return found_in(ask(connection, LOOK_UP, [self.schema, self.name]).fetchall())

    def _stored(self, found: Found) -> tuple[EmbeddingSpace, Precision]:
        columns, comment = found.columns, found.comment
        if missing := [name for name in COLUMNS if name not in columns]:
            raise StoreUnsuitable(
                f"table {self} was not created by Harrier Kit: it has no column {missing[0]!r}; use another table name"
            )
        try:
            space = EmbeddingSpace.from_json(comment or "")
        except SpaceError as error:
            raise StoreUnsuitable(
                f"table {self} does not identify its embedding space: the comment on its column 'embedding' is "
                f"{error}; use another table name"
            ) from None
        if (layout := json.loads(comment or "{}").get("layout")) != LAYOUT:
            raise StoreUnsuitable(
                f"table {self} has layout {layout!r}, but this release reads layout {LAYOUT}; update "
                "harrier-kit, or use another table name"
            )
        kind = re.search(r"(halfvec|vector)\(\d+\)$", columns["embedding"])
        return space, "vector" if kind and kind[1] == "vector" else "halfvec"

    def _create(self, connection: Connection[Any], space: EmbeddingSpace) -> Found:
        """Create the table, all of it or nothing. If another session creates it at the same time, use that one."""
        with transaction(connection):
            extension = _extension(connection, self.precision) or self._create_extension(connection)
            table = self._table(space, self.precision, self._checked(extension), words=self.keywords)
            try:
                with transaction(connection):
                    for statement in table.create(space):
                        connection.execute(statement, [])
            except (errors.DuplicateTable, errors.DuplicateObject, errors.UniqueViolation):
                found = self._look_up(connection)
                if found is None:
                    raise
                return found
            return self._look_up(connection) or Found(0, {}, None, is_indexed=False)

    def _create_extension(self, connection: Connection[Any]) -> Extension | None:
        try:
            with transaction(connection):
                connection.execute(_CREATE_EXTENSION)
        except (errors.UniqueViolation, errors.DuplicateObject):
            pass  # another session created it first
        except (
            errors.InsufficientPrivilege,
            errors.FeatureNotSupported,
            errors.UndefinedFile,
            errors.InvalidSchemaName,
        ) as error:
            raise StoreUnsuitable(
                f"the database of {self} lacks the extension 'vector' ({error.diag.message_primary}); install "
                "pgvector on the server and run CREATE EXTENSION vector as the database owner"
            ) from None
        return _extension(connection, self.precision)

    def _checked(self, extension: Extension | None) -> Extension:
        if extension is None:
            raise StoreUnsuitable(f"the database of {self} lacks the extension 'vector'; run CREATE EXTENSION vector")
        if extension.version < _NEEDED:
            raise StoreUnsuitable(
                f"{self} needs pgvector 0.7.0 or later (halfvec), and its database has {extension.said}; install 0.8.4 "
                "or later on the server and run ALTER EXTENSION vector UPDATE"
            )
        if extension.version < _SOUND:
            warnings.warn(
                f"{self} has pgvector {extension.said}, whose indexes can be damaged or lose rows; update it to 0.8.4 "
                "or later",
                StoreWarning,
                stacklevel=2,
            )
        return extension


def found_in(rows: list[Any]) -> Found | None:
    """Return the table that the rows of LOOK_UP describe, or None if there are no rows."""
    if not rows:
        return None
    columns = {name: kind for _, name, kind, *_ in rows}
    comment, indexes = next((row[3:] for row in rows if row[1] == "embedding"), (None, []))
    parts = [index.partition(" ") for index in indexes]
    kinds = {kind for kind, _, _ in parts}
    is_indexed = any(kind.startswith("hnsw:") for kind in kinds)
    words = next((row[3] for row in rows if row[1] == "lex"), None)
    keys = keys_in(said for _, _, said in parts)
    return Found(rows[0][0], columns, comment, is_indexed, keys, "gin:metadata" in kinds, words)


def _extension(connection: Connection[Any], precision: Precision) -> Extension | None:
    row = ask(connection, EXTENSION, [precision]).fetchone()
    return Extension(*row) if row else None


def checked_name(what: str, name: str) -> str:
    """Return a name unchanged if it is valid in Postgres, or raise."""
    if not name or "\0" in name or len(name.encode()) > 63:
        raise SettingError(f"{what} must be a name of 1 to 63 bytes, got {name!r}")
    return name
