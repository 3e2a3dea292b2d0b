"""Arguments that newcomers pass to a store: other libraries' class names, URLs and objects."""

from __future__ import annotations

import re
from typing import Any, TypedDict

from psycopg import Connection
from psycopg_pool import ConnectionPool

from harrier_core.errors import SettingError
from harrier_core.keywords import Keywords
from harrier_pgvector.connections import Connections
from harrier_pgvector.naming import SCHEMA, TABLE

Database = str | ConnectionPool[Any] | Connections


class Names(TypedDict, total=False):
    """Other names for `table`, `schema` and `keywords`."""

    table_name: str
    collection_name: str
    schema_name: str
    hybrid_search: bool


class Aliases(Names, total=False):
    """Other names for `table`, `schema`, `keywords` and `database`."""

    connection: str | ConnectionPool[Any]
    connection_string: str
    conninfo: str


DEFAULTS = {"database": None, "table": TABLE, "schema": SCHEMA, "keywords": None}

_ADDRESS = "pass one connection string, postgresql://user:password@host:5432/database"
_ASYNC = "pass the connection string; an Index over it has asearch, aingest and other async methods"
_MODEL = "a store has no model; the encoder of an Index defines the vectors"
_HNSW = "write hnsw=Hnsw(m=..., ef_construction=...), and ef=... in a search"
_KEYWORDS = (
    "write keywords=True, and mode='hybrid' in a search; words of all languages are found without further settings"
)
_INDEXES = "write indexes={'year': 'integer', 'lang': 'keyword'}"

KEYWORDS = Keywords(
    "PgVectorStore",
    aliases={
        **dict.fromkeys(("connection", "connection_string", "conninfo"), "database"),
        **dict.fromkeys(("table_name", "collection_name"), "table"),
        "schema_name": "schema",
        "hybrid_search": "keywords",
    },
    hints={
        **dict.fromkeys(("host", "port", "user", "password", "dbname", "engine", "async_engine"), _ADDRESS),
        **dict.fromkeys(("async_connection_string", "async_connection", "async_mode", "use_async"), _ASYNC),
        **dict.fromkeys(("embedding", "embeddings", "embedding_service", "embedding_function", "embed_model"), _MODEL),
        **dict.fromkeys(("embed_dim", "embedding_length", "embedding_dimension", "vector_size"), _MODEL),
        **dict.fromkeys(("hnsw_kwargs", "hnsw_index_creation_kwargs", "m", "ef_construction", "ef_search"), _HNSW),
        **dict.fromkeys(("hybrid_search_config", "text_search_config", "tsv_column", "tsv_lang"), _KEYWORDS),
        **dict.fromkeys(("metadata_indexes", "indexed_metadata_keys", "metadata_columns"), _INDEXES),
        **dict.fromkeys(("distance", "distance_strategy", "vector_function"), "vectors are compared by cosine"),
        **dict.fromkeys(("use_halfvec", "vector_type"), "write precision='float16' or precision='float32'"),
        **dict.fromkeys(("pre_delete_collection", "recreate_table", "overwrite_existing"), "call store.drop() first"),
    },
)

_FORMS = (
    "a database must be given as a connection string, postgresql://user@host/database or host=... dbname=..., or as a "
    "psycopg_pool.ConnectionPool; for one in a folder, use PgVectorStore.embedded(folder)"
)
_OF_SQLALCHEMY = ("sqlalchemy", "langchain_postgres")

# The driver in a URL of SQLAlchemy.
_DRIVER = re.compile(r"(postgres|postgresql)\+\w+(?=://)")


def checked_database(given: object) -> Database:
    """Return a database that a store accepts, a URL without SQLAlchemy's driver; or raise with what to pass instead."""
    if isinstance(given, str):
        return without_driver(given)
    if isinstance(given, ConnectionPool | Connections):
        return given
    if given is None:
        raise SettingError(_FORMS)
    kind = type(given)
    if isinstance(given, Connection):
        raise SettingError(
            "one connection serves one thread, so a store takes its connection string or a ConnectionPool; to write "
            "in your own transaction, use store.open_on(connection, space).write_on(connection, write)"
        )
    if kind.__module__.partition(".")[0] in _OF_SQLALCHEMY:
        raise SettingError(
            f"got {kind.__name__} of {kind.__module__.partition('.')[0]}; give the URL that it was created from as a "
            "str, such as engine.url.render_as_string(hide_password=False)"
        )
    raise SettingError(f"{_FORMS}; got {kind.__name__}")


def without_driver(url: str) -> str:
    """Return a URL without SQLAlchemy's driver: libpq's is used."""
    found = _DRIVER.match(url)
    return f"{found[1]}{url[found.end() :]}" if found else url
