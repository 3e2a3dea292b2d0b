"""Files and rows as records: the input of `harrier ingest`, for use in programs.

    from harrier_core import Encoder, Index, open_store
    from harrier_files import Source, refuse_other_roots

    source = Source(["handbook", "notes.md"], exclude=["drafts/"])
    with Index(open_store("qdrant:index"), Encoder("microsoft/harrier-oss-v1-270m")) as index:
        refuse_other_roots(index, source.origins, moved=False)  # another folder of that name would replace its records
        report = index.ingest(source, prune=source.pruning)
    print(report.rejected, report.blank, dict(source.walk.left_out))

Importing it loads no parser, and nothing for remote sources; each is loaded when it is first needed.
"""

from __future__ import annotations

from harrier_files.columns import Columns
from harrier_files.limits import Unreadable
from harrier_files.memory import FileMemory
from harrier_files.owning import refuse_other_roots
from harrier_files.sources import Source
from harrier_files.tables import PostgresSource

__all__ = ["Columns", "FileMemory", "PostgresSource", "Source", "Unreadable", "refuse_other_roots"]
