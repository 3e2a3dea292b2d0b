"""Where an index is, as a URL: to a store, and to what can be said of it without a model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from harrier_core import (
    EmbeddingSpace,
    HarrierError,
    SettingError,
    SpaceError,
    StoreMissing,
    StoreUnavailable,
    VectorStore,
)

if TYPE_CHECKING:
    from harrier_pgvector import PgVectorStore
    from harrier_qdrant import QdrantStore

FORMS = (
    "postgresql://user@host/db?table=docs, pgvector:FOLDER?table=docs, qdrant://host:6334/docs or "
    "qdrant:FOLDER?collection=docs"
)
_ESCAPED = "with %23 for a #, %2F for a /, %3F for a ?, %5B for a [ and %25 for a % in a password"
_DEFAULT, _SCHEMA = "documents", "public"  # the names of a table or collection, and its schema, as in the stores


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a place; None is what it does not tell."""

    space: str | None  # as JSON
    indexed: bool | None
    bytes: int | None
    health: str


class HasSpace(Protocol):
    """An encoder, as far as a place cares."""

    @property
    def space(self) -> EmbeddingSpace:
        """What its vectors may be compared with."""


class Place(Protocol):
    """A table or a collection somewhere. As text it holds no password."""

    def store(self, *, write: bool) -> VectorStore:
        """Its store; to read, a folder has to be there."""

    def facts(self) -> Facts:
        """What is known of it."""


def parse(url: str) -> Place:
    """The place that a URL names."""
    scheme, _, rest = url.partition(":")
    remote = rest.startswith("//")
    try:
        if scheme in ("postgresql", "postgres") and remote:
            return _postgres(url)
        if scheme == "qdrant" and remote:
            return _qdrant(url)
    except SettingError:
        raise
    except ValueError:  # of brackets that hold no address, and it may quote them
        raise SettingError(f"the host of that place is none; a place is {FORMS}, {_ESCAPED}") from None
    if scheme == "pgvector" and not remote:
        return _postgres_folder(rest)
    if scheme == "qdrant":
        return QdrantFolder(*_folder(rest, "collection"))
    raise SettingError(f"that is no place; a place is {FORMS}")  # it may hold a password


def opened(place: Place, encoder: HasSpace, *, write: bool) -> VectorStore:
    """Its store, open for the encoder's vectors."""
    store = place.store(write=write)  # first, for it may find in no time that there is none
    try:
        store.open(encoder.space, write=write)
    except BaseException:
        store.close()
        raise
    return store


def summary(place: Place) -> dict[str, Any]:
    """What there is to say of a place, whichever model it belongs to."""
    facts = place.facts()
    space, chunks, health = None, None, facts.health
    try:
        space = EmbeddingSpace.from_json(facts.space or "")
        with closing(place.store(write=False)) as store:
            store.open(space, write=False)
            chunks = store.count()
    except SpaceError as error:
        health = str(error)
    except StoreMissing:
        raise
    except HarrierError as error:
        health = str(error)
    said = {"place": str(place), "chunks": chunks, "space": space}
    return said | {"indexed": facts.indexed, "bytes": facts.bytes, "health": health}


@dataclass(frozen=True, slots=True)
class Postgres:
    """A table on a server."""

    url: str
    table: str
    schema: str = _SCHEMA

    def store(self, *, write: bool) -> PgVectorStore:
        """Its store."""
        from harrier_pgvector import PgVectorStore

        return PgVectorStore(connectable(self.url), table=self.table, schema=self.schema)

    @contextmanager
    def conninfo(self) -> Iterator[str]:
        """What its database is connected to by."""
        yield connectable(self.url)

    def facts(self) -> Facts:
        """What the database says of the table."""
        with self.conninfo() as conninfo:
            return _table_facts(conninfo, self.schema, self.table, str(self))

    def __str__(self) -> str:
        schema = "" if self.schema == _SCHEMA else f" in schema {self.schema!r}"
        return f"{without_password(self.url)} (table {self.table!r}{schema})"


@dataclass(frozen=True, slots=True)
class PostgresFolder:
    """A table in a Postgres that runs in a folder."""

    folder: Path
    table: str
    schema: str = _SCHEMA

    def store(self, *, write: bool) -> PgVectorStore:
        """Its store."""
        from harrier_pgvector import PgVectorStore
        from harrier_pgvector.embedded import check_index

        if not write:
            check_index(self.folder)
        return PgVectorStore.embedded(self.folder, table=self.table, schema=self.schema)

    @contextmanager
    def conninfo(self) -> Iterator[str]:
        """What its database is connected to by, while it runs."""
        from harrier_pgvector.embedded import check_index, start

        check_index(self.folder)
        conninfo, stop = start(self.folder, create=False)
        try:
            yield conninfo
        finally:
            stop()

    def facts(self) -> Facts:
        """What the database says of the table."""
        with self.conninfo() as conninfo:
            return _table_facts(conninfo, self.schema, self.table, str(self))

    def __str__(self) -> str:
        schema = {} if self.schema == _SCHEMA else {"schema": self.schema}
        return f"pgvector:{self.folder}?{urlencode({'table': self.table, **schema})}"


@dataclass(frozen=True, slots=True)
class Qdrant:
    """A collection on a server."""

    url: str
    collection: str

    def store(self, *, write: bool) -> QdrantStore:
        """Its store; the key is in the environment, where no list of processes shows it."""
        from harrier_qdrant import QdrantStore

        return QdrantStore(self.url, collection=self.collection, api_key=os.environ.get("QDRANT_API_KEY"))

    def facts(self) -> Facts:
        """What the server says of the collection."""
        from harrier_qdrant.wire import ERRORS, Trouble
        from qdrant_client import QdrantClient

        key = os.environ.get("QDRANT_API_KEY")
        client = QdrantClient(self.url, api_key=key, check_compatibility=False)
        try:
            if not client.collection_exists(self.collection):
                raise StoreMissing(f"there is no collection {self}; ingest something into it first")
            info = client.get_collection(self.collection)
        except ERRORS as error:
            raise Trouble.of(error).error(self.url) from None
        finally:
            client.close()
        space = (getattr(info.config, "metadata", None) or {}).get("harrier_space")
        health = "fine" if info.status.value == "green" else f"its status is {info.status.value}"
        return Facts(space, bool(info.indexed_vectors_count), None, health)

    def __str__(self) -> str:
        return f"{self.collection!r} at {self.url}"


@dataclass(frozen=True, slots=True)
class QdrantFolder:
    """A collection by Qdrant Edge in a folder."""

    folder: Path
    collection: str

    def store(self, *, write: bool) -> QdrantStore:
        """Its store."""
        _check_there(self.folder, write=write)
        from harrier_qdrant import QdrantStore

        return QdrantStore.embedded(self.folder, collection=self.collection)

    def facts(self) -> Facts:
        """What lies in the folder."""
        folder = self.folder / self.collection
        _check_there(folder, write=False)
        file = folder / "harrier_space.json"
        space = file.read_text(encoding="utf-8") if file.is_file() else None
        size = sum(each.stat().st_blocks * 512 for each in folder.rglob("*") if each.is_file())
        return Facts(space, None, size, "fine")

    def __str__(self) -> str:
        return f"qdrant:{self.folder}?{urlencode({'collection': self.collection})}"


def connectable(conninfo: str) -> str:
    """The same, if libpq takes its parts for what they are: its errors quote them, and one may be of a password."""
    from harrier_pgvector.connections import checked_conninfo
    from psycopg.conninfo import conninfo_to_dict

    port = str(conninfo_to_dict(checked_conninfo(conninfo)).get("port") or "")
    if not all(each.strip().isdecimal() for each in port.split(",") if each):
        raise SettingError(f"the port in the connection string is no number; a URL is written {_ESCAPED}")
    return conninfo


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    query = _query(
        [(name, value) for name, value in parse_qsl(parts.query.replace("+", "%2B")) if "password" not in name]
    )
    return _joined(parts.scheme, f"{user.partition(':')[0]}{at}{host}", parts.path, query)


def _joined(scheme: str, host: str, path: str, query: str) -> str:
    """What urlunsplit would say, but for a URL without a host, whose slashes it takes away."""
    return f"{scheme}://{host}{path}{'?' if query else ''}{query}"


def _query(options: Iterable[tuple[str, str]]) -> str:
    """The query of a URL for libpq, to which a + is no blank."""
    return urlencode(list(options), quote_via=quote)


def _postgres(url: str) -> Postgres:
    """The names of the table and its schema are taken out of the URL, for libpq does not know them."""
    parts = urlsplit(url)
    if parts.fragment:
        raise SettingError(f"a place has no part behind a #; it is written {_ESCAPED}")
    options = dict(parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True))  # as libpq reads them
    own = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in ("table", "schema"):
        options.pop(name, None)
    address = _joined(parts.scheme, parts.netloc, parts.path, _query(options.items()))
    return Postgres(address, own.get("table", _DEFAULT), own.get("schema", _SCHEMA))


def _postgres_folder(rest: str) -> PostgresFolder:
    folder, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    schema = options.pop("schema", _SCHEMA)
    return PostgresFolder(*_folder(f"{folder}?{_query(options.items())}", "table"), schema)


_GRPC_PORT, _PORT = 6334, 6333


def _qdrant(url: str) -> Qdrant:
    """By the port of either interface; the client looks for the other one."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls = options.pop("tls", "false")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if options or tls not in ("true", "false") or parts.username or not parts.hostname or port == -1:
        raise SettingError(
            "a Qdrant server is qdrant://host:6334/collection, and ?tls=true for https; its key is in QDRANT_API_KEY"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"{'https' if tls == 'true' else 'http'}://{host}:{_PORT if port in (None, _GRPC_PORT) else port}"
    return Qdrant(address, unquote(parts.path.strip("/")) or _DEFAULT)


def _folder(rest: str, kind: str) -> tuple[Path, str]:
    folder, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    name = options.pop(kind, _DEFAULT)
    if options or not folder:
        raise SettingError(f"a place in a folder is FOLDER?{kind}=NAME behind its kind; it takes nothing else")
    return Path(folder).expanduser(), name


def _check_there(folder: Path, *, write: bool) -> None:
    """A mistyped name must not make a folder, and a database in it, to search there."""
    if not write and not folder.is_dir():
        raise StoreMissing(f"there is no folder {folder}; ingest something into it first")


def _table_facts(conninfo: str, schema: str, table: str, place: str) -> Facts:
    import psycopg
    from harrier_pgvector.schema import INDEXES, LOOK_UP, Name, are_few
    from harrier_pgvector.session import ask

    try:
        with psycopg.connect(conninfo, autocommit=True, fallback_application_name="harrier-kit") as connection:
            columns = ask(connection, LOOK_UP, [schema, table]).fetchall()
            if not columns:
                raise StoreMissing(f"there is no table {place}; ingest something into it first")
            space = next((comment for _, name, _, comment in columns if name == "embedding"), None)
            indexes = {method for (method,) in ask(connection, INDEXES, [schema, table]).fetchall()}
            sized = ask(connection, "SELECT pg_total_relation_size(%s::oid)", [columns[0][0]]).fetchone()
            few = ask(connection, are_few(Name(schema, table)), []).fetchone() == (True,)
    except psycopg.Error as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise StoreUnavailable(f"Postgres cannot be asked: {said[0]}") from None
    indexed = "hnsw" in indexes
    health = "fine" if indexed or few else "its searches use no index; run an ingest to its end, which builds it"
    return Facts(space, indexed, sized[0] if sized else None, health)
