"""The rows of a Postgres query or table as a Source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from harrier_core import Deferred, Record, Skipped
from harrier_files.files import Origin
from harrier_files.rows import database_of, postgres_rows
from harrier_files.sources import SOURCE, Source


@dataclass(slots=True)
class PostgresSource(Source):
    """The rows of a query or a table."""

    url: str = field(default="", kw_only=True)
    query: str | None = field(default=None, kw_only=True)
    table: str | None = field(default=None, kw_only=True)

    @property
    def origins(self) -> list[Origin]:
        """The table or query in this database."""
        return [self._origin]

    @property
    def _origin(self) -> Origin:
        read = f"query {sha256((self.query or '').encode()).hexdigest()[:16]}"
        if self.table is not None:
            read = f"table {self.table}"
        name = self.name or self.table or "query"
        return Origin(name, f"{database_of(self.url)} {read}", named=self.name is not None)

    def _all(self, *, later: bool) -> Iterator[Record | Skipped | Deferred]:  # rows have no stamps
        rows = postgres_rows(self.url, self.query, self.table, self.columns.wanted)
        file = None if self.columns.id is None else self._origin.name
        yield from self._rows(self._origin.name, rows, self._origin, file)

    def size(self) -> int | None:
        """Return None: finding out would mean reading everything twice."""
        return None

    def _may_own(self, record_id: str) -> bool:
        """Return whether a record may be a row, by its id."""
        return self.columns.id is not None or record_id.startswith(f"{self._origin.name}:")

    def _owns(self, record_id: str, metadata: Mapping[str, Any]) -> bool:
        """Return whether a record is a row of this source."""
        return metadata.get(SOURCE) == self._origin.name
