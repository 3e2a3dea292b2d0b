"""A copy to be killed: run as a program it does one, and may kill itself at a named step of it.

python copies.py FROM TO STEP OCCURRENCE     a step of one of the lists here, or "none"; a place is a URL or a file
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from harrier_pgvector.opened import OpenTable
from harrier_pgvector.writing import Writing
from harrier_qdrant.edge_backend import EdgeBackend
from ingesting import die_at

from harrier_core.migration import copy, sources
from harrier_core.migration.dumps import Dump, DumpWriter

# Steps of a copy into a table, into a Qdrant Edge collection, and into a file. Those in ONCE happen only once.
STEPS = {
    "postgres": ["before write_on", "after _put", "before _remove", "after write_on", "after delete", "after known"],
    "edge": ["before upsert", "after upsert", "after set_payloads", "before delete", "after delete_where"],
    "file": ["after _flush", "before close", "after close", "before digest", "after chosen"],
}
ONCE = ("delete", "delete_where", "close", "digest", "chosen", "_flush")


def run(source: str, target: str) -> None:
    copy(source, target, extra="remove")


if __name__ == "__main__":
    source_, target_, step_, occurrence_ = sys.argv[1:]
    sources.MOST_CHUNKS, sources._IDS = 20, 10  # so that there are many instants between windows
    if step_ != "none":
        kinds = [DumpWriter, Dump] if target_.endswith(".parquet") else [OpenTable, Writing]
        kinds = [EdgeBackend] if target_.startswith("qdrant:") else kinds
        die_at(next(kind for kind in kinds if hasattr(kind, step_.split()[1])), step_, int(occurrence_))
    sys.stdout.write("begin\n")
    sys.stdout.flush()
    run(source_, target_)
    with suppress(BrokenPipeError):
        os.write(1, b"end\n")
