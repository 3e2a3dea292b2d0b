"""How a table is shown to people: where it is, and never a password."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

TABLE, SCHEMA = "documents", "public"  # by default
SERVER_URLS = ("postgresql://", "postgres://")  # what libpq takes for a URL


def shown(database: str | Path, table: str | None, schema: str) -> str:
    """Return the URL of a folder, or what a server is called by, with the table and its schema."""
    if isinstance(database, Path):
        named = {"table": table, "schema": None if schema == SCHEMA else schema}
        query = urlencode({name: value for name, value in named.items() if value is not None})
        return f"pgvector:{database}{'?' if query else ''}{query}"
    said = [] if table is None else [f"table {table!r}"]
    said += [] if schema == SCHEMA else [f"in schema {schema!r}"]
    return f"{database} ({' '.join(said)})" if said else database


def without_password(url: str) -> str:
    """Return the URL of a server as it may be shown; one that only libpq can split is not shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a Postgres server"
    user, at, host = parts.netloc.rpartition("@")
    options = parse_qsl(parts.query.replace("+", "%2B"))
    query = query_of((name, value) for name, value in options if "password" not in name)
    return joined(parts.scheme, f"{user.partition(':')[0]}{at}{host}", parts.path, query)


def joined(scheme: str, host: str, path: str, query: str) -> str:
    """Return what urlunsplit would, but for a URL without a host, whose slashes it takes away."""
    return f"{scheme}://{host}{path}{'?' if query else ''}{query}"


def query_of(options: Iterable[tuple[str, str]]) -> str:
    """Return the query of a URL for libpq, to which a + is no blank."""
    return urlencode(list(options), quote_via=quote)
