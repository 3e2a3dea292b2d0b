"""Measure whether processes that load one table wait for each other: on Postgres, and on Qdrant if there is a server.

Each process loads the same number of different rows, with vectors that cost nothing, into one new table; then its
indexes are built once. For comparison, the same processes load a table each. Rounds are interleaved.

    make bench-loaders
    QDRANT_URL=http://127.0.0.1:6333 make bench-loaders
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore
from ready import Instant

from harrier_core import Index, Record
from harrier_core.testing import PROSE

DIMENSIONS = 640
TEXT = " ".join(PROSE)[:550]


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="number of rows of each process")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, PgVectorStore.embedded(Path(folder, "data")) as server:
        server.open(Instant(DIMENSIONS).space, create=True)
        conninfo = server._reach()._conninfo
        compare("Postgres", lambda name: PgVectorStore(conninfo, table=name), options)
    if url := os.environ.get("QDRANT_URL"):
        compare("Qdrant", lambda name: QdrantStore(url, collection=name), options)
    else:
        print("Qdrant was not measured: QDRANT_URL is not set")


def compare(name: str, store: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Compare one shared table with a table for each process."""
    ratios, builds = [], []
    for number in range(options.rounds):
        each = load([store(f"apart_{number}_{process}") for process in range(options.processes)], options)
        together = load([store(f"together_{number}")] * options.processes, options)
        ratios.append(together / each)
        with Index(store(f"together_{number}"), Instant(DIMENSIONS)) as index:
            begin = time.perf_counter()
            index.build_indexes()
            builds.append(time.perf_counter() - begin)
            assert index.count() == options.rows * options.processes
            print(f"{name}: {together:,.0f} rows a second into one table, {each:,.0f} into {options.processes}")
    print(
        f"{name}: together {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) of apart (at least "
        f"0.9); the indexes are built once, in {statistics.median(builds):.0f} s"
    )


def load(stores: list[Any], options: argparse.Namespace) -> float:
    """Return the rows a second of all processes together."""
    context = multiprocessing.get_context("spawn")
    ready, begin = context.Barrier(len(stores) + 1), context.Event()
    sent = [pickle.dumps(Index(store, Instant(DIMENSIONS))) for store in stores]
    processes = [
        context.Process(target=ingest, args=[index, number, options.rows, ready, begin])
        for number, index in enumerate(sent)
    ]
    for process in processes:
        process.start()
    ready.wait()
    since = time.perf_counter()
    begin.set()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    rows = int(options.rows) * len(stores)
    return rows / (time.perf_counter() - since)


def ingest(index: bytes, number: int, rows: int, ready: Any, begin: Any) -> None:
    """Load the rows of one process."""
    with pickle.loads(index) as own:  # created by this program
        own.ingest([], build_indexes=False)  # connects
        ready.wait()
        begin.wait()
        own.ingest(records(number, rows), build_indexes=False)


def records(number: int, rows: int) -> Iterator[Record]:
    """Yield the records of one process."""
    return (Record(f"{number} {row}", f"{row} {TEXT}", {"n": row}) for row in range(rows))


if __name__ == "__main__":
    main()
