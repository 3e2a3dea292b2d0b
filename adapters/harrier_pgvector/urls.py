"""URLs of tables: postgresql://user@host/db?table=docs on a server, pgvector:FOLDER?table=docs in a folder.

Both also accept &schema=NAME, for a schema other than public, and options for a new table: &keywords=true, with the
words of its chunks, &precision=float32, &m=32, &ef_construction=128, &indexes=year:integer,lang:keyword.
`harrier_core.open_store` finds `open_url`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from harrier_core.errors import SettingError
from harrier_core.layout import OPTIONS, StoreLayout
from harrier_pgvector.connections import checked_conninfo
from harrier_pgvector.embedded import check_index, start
from harrier_pgvector.given import without_driver
from harrier_pgvector.naming import SCHEMA, SERVER_URLS, TABLE, joined, query_of, shown, without_password
from harrier_pgvector.store import PgVectorStore

_FORMS = "postgresql://user@host/db?table=docs or pgvector:FOLDER?table=docs"
_ESCAPED = "with %23 for a #, %2F for a /, %3F for a ?, %5B for a [ and %25 for a % in a password"


def open_url(url: str) -> PgVectorStore:
    """Return the store that a URL names. It does not connect yet."""
    return Target.of(url).store()


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a URL. Its string form contains no password."""

    database: str | Path  # a connection string for libpq, or the folder of an embedded server
    table: str | None = None  # if it names one
    schema: str = SCHEMA
    layout: StoreLayout = field(default_factory=StoreLayout)  # that of a new table

    @classmethod
    def of(cls, url: str) -> Target:
        """Split a URL. No error quotes it, because it may contain a password."""
        url = without_driver(url)
        if url.startswith(SERVER_URLS):
            return cls(*_server(url))
        scheme, _, rest = url.partition(":")
        if scheme == "pgvector" and not rest.startswith("//"):
            return cls(*_folder(rest))
        raise SettingError(f"the URL of a table must be {_FORMS}")

    def store(self) -> PgVectorStore:
        """Return the store of the table. It does not connect yet."""
        settings: dict[str, Any] = {
            "table": TABLE if self.table is None else self.table,
            "schema": self.schema,
            "precision": self.layout.precision,
            "hnsw": self.layout.hnsw,
            "indexes": self.layout.indexes,
            "keywords": self.layout.keywords,
        }
        if isinstance(self.database, Path):
            return PgVectorStore.embedded(self.database, **settings)
        return PgVectorStore(self.database, **settings)

    @contextmanager
    def conninfo(self) -> Iterator[str]:
        """Yield a connection string; an embedded server runs meanwhile. Raise StoreMissing if it has no folder."""
        if not isinstance(self.database, Path):
            yield self.database
            return
        check_index(self.database)
        conninfo, stop = start(self.database, create=False)
        try:
            yield conninfo
        finally:
            stop()

    def __str__(self) -> str:
        database = self.database if isinstance(self.database, Path) else without_password(self.database)
        return shown(database, self.table, self.schema)


def _server(url: str) -> tuple[str, str | None, str, StoreLayout]:
    """Return a URL without the options that are not libpq's, and those options."""
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets without an address; the error may quote them
        raise SettingError(f"the URL has no valid host; it must be {_FORMS}, {_ESCAPED}") from None
    if parts.fragment:
        raise SettingError(f"a URL must have no fragment, the part after a #; write it {_ESCAPED}")
    options = dict(parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True))  # as libpq reads them
    own = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in ("table", "schema", *OPTIONS):
        options.pop(name, None)
    address = joined(parts.scheme, parts.netloc, parts.path, query_of(options.items()))
    return checked_conninfo(address), own.get("table"), own.get("schema", SCHEMA), StoreLayout.of_options(own)


def _folder(rest: str) -> tuple[Path, str | None, str, StoreLayout]:
    folder, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    table, schema = options.pop("table", None), options.pop("schema", SCHEMA)
    layout = StoreLayout.of_options(options)
    if options.keys() - set(OPTIONS) or not folder:
        raise SettingError(
            "the URL of a folder must be pgvector:FOLDER?table=NAME&schema=NAME; it also takes "
            f"{', '.join(OPTIONS)}, and nothing else"
        )
    return Path(folder).expanduser(), table, schema, layout
