"""The driver of an ingest, to be killed: its arguments are JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import harrier_ray
import ray
from fleets import Noting, index_of


def main() -> None:
    """Ingest, and print a line once a block is done."""
    given = json.loads(sys.argv[1])
    encoder = Noting(Path(given["notes"]), seconds=given["seconds"])
    with harrier_ray.cluster(given["address"]), index_of(given["postgres"], given["table"], encoder) as index:
        harrier_ray.ingest(
            ray.data.read_parquet(given["source"]),
            index,
            **given["options"],
            on_progress=lambda report: print(report.written, flush=True),  # noqa: T201
        )


if __name__ == "__main__":
    main()
