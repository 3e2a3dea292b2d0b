"""Harrier Kit's Postgres: a VectorStore over psycopg and the `vector` extension, and nothing else.

store = PgVectorStore("postgresql://user@host/db", table="documents")
store = PgVectorStore.embedded("folder", table="documents")     # a real PostgreSQL 18, without a server to install
index = Index(store, Encoder("harrier-270m"))
"""

from harrier_pgvector.store import PgVectorStore

__all__ = ["PgVectorStore"]
