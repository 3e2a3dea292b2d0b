"""Files and rows to records: what `harrier ingest` reads, for programs.

    index.ingest(Source(["handbook", "notes.md"]))

Importing it loads no parser; a format that is met loads its own.
"""

from __future__ import annotations

from harrier_files.limits import Unreadable
from harrier_files.owning import refuse_other_roots
from harrier_files.sources import Columns, PostgresSource, Source

__all__ = ["Columns", "PostgresSource", "Source", "Unreadable", "refuse_other_roots"]
