"""The name of a table for people: where it is, and never a password."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

TABLE, SCHEMA = "documents", "public"  # by default
SERVER_URLS = ("postgresql://", "postgres://")  # prefixes that libpq accepts for a URL


def shown(database: str | Path, table: str | None, schema: str) -> str:
    """Return the URL of a folder, or the name of a server, with the table and its schema."""
    if isinstance(database, Path):
        named = {"table": table, "schema": None if schema == SCHEMA else schema}
        query = urlencode({name: value for name, value in named.items() if value is not None})
        return f"pgvector:{database}{'?' if query else ''}{query}"
    said = [] if table is None else [f"table {table!r}"]
    said += [] if schema == SCHEMA else [f"in schema {schema!r}"]
    return f"{database} ({' '.join(said)})" if said else database


def without_password(url: str) -> str:
    """Return the URL of a server in a form that may be shown; one that only libpq can parse is not shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a Postgres server"
    user, at, host = parts.netloc.rpartition("@")
    options = parse_qsl(parts.query.replace("+", "%2B"))
    query = query_of((name, value) for name, value in options if "password" not in name)
    return joined(parts.scheme, f"{user.partition(':')[0]}{at}{host}", parts.path, query)


def joined(scheme: str, host: str, path: str, query: str) -> str:
    """Return what urlunsplit would, but keep the slashes of a URL without a host."""
    return f"{scheme}://{host}{path}{'?' if query else ''}{query}"


def query_of(options: Iterable[tuple[str, str]]) -> str:
    """Return the query of a URL for libpq, which does not read + as a blank."""
    return urlencode(list(options), quote_via=quote)
