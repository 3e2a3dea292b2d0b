"""Ingest a JSON Lines file into Postgres, and search it. Run it again: only what changed is encoded.

    python examples/postgres_pipeline.py records.jsonl "postgresql://me@localhost/db?table=notes" "why does bread rise"

Each line of the file is {"id": ..., "text": ..., and any other fields}. pgvector:FOLDER?table=notes needs no server.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from harrier_core import Chunking, Encoder, Index, Record


def records(path: str) -> Iterator[Record]:
    """Yield a record for each line."""
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            fields = json.loads(line)
            yield Record(str(fields.pop("id")), fields.pop("text"), fields)


def main(path: str, place: str, *questions: str) -> None:
    """Update the index from the file, and print the matches for each question."""
    encoder = Encoder(os.environ.get("HARRIER_MODEL", "harrier-270m"))
    with Index(place, encoder, chunking=Chunking(tokens=256, overlap=32)) as index:
        report = index.ingest(records(path), prune=True, on_progress=lambda so_far: print(so_far, end="\r"))
        print(report)
        for record_id, reason in report.rejected:
            print(f"rejected: {record_id} {reason}", file=sys.stderr)
        for question in questions:
            for match in index.search(question, k=3):
                print(f"{match.score:.3f}  {match.record_id}  {match.text[:80]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
