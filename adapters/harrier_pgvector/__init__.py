"""Harrier Kit for Postgres: a VectorStore that needs only psycopg and the `vector` extension.

store = PgVectorStore("postgresql://user@host/db", table="documents")
store = PgVectorStore.embedded("folder", table="documents")     # a real PostgreSQL 18, without a server to install
index = Index(store, Encoder("harrier-270m"))
"""

from harrier_core.errors import MissingExtra
from harrier_core.extras import require

require("harrier_pgvector", "psycopg", "psycopg_pool")
try:
    import psycopg as _psycopg  # noqa: F401
except ImportError as error:  # the kit leaves the choice to you, as psycopg asks of libraries
    raise MissingExtra("psycopg, on a system without libpq,", "psycopg[binary]", None) from error

from harrier_pgvector.store import PgVectorStore

__all__ = ["PgVectorStore"]
