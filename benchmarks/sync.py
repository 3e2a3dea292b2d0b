"""Measure the cost of live sync to an application, and its speed: triggers, latency, and draining without a model.

Ratios come from rounds that alternate in one run, on a separate embedded Postgres.

    make bench-sync
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psycopg
from harrier_pgvector.embedded import start
from harrier_pgvector.sync import SyncWorker, TableSync
from ready import Instant

from harrier_core import Chunking, Encoder
from harrier_core.testing import PROSE, build_model

DIMENSIONS = 640
BODY = " ".join(PROSE)[:560]

COPIED, UPDATED = 20_000, 2_000
SOURCE = "CREATE TABLE {} (id bigint PRIMARY KEY, body text, views int DEFAULT 0)"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        conninfo, stop = start(Path(folder) / "postgres")
        try:
            triggers(conninfo, options.rounds)
            for chunks in (1, 2):
                draining(conninfo, chunks)
            latency(conninfo, Path(folder) / "model")
        finally:
            stop()


def triggers(conninfo: str, rounds: int) -> None:
    """Compare the same writes to a table with and without triggers; no worker drains meanwhile."""
    encoder = Instant(DIMENSIONS)
    times: dict[str, list[tuple[float, float]]] = {}
    with psycopg.connect(conninfo, autocommit=True) as connection, TableSync(conninfo, table="noticed_chunks") as sync:
        for table in ("plain", "noticed"):
            connection.execute(SOURCE.format(table))
        sync.create("noticed", encoder.space, text="body")
        steps: list[tuple[str, str, int]] = [
            (f"COPY of {COPIED:,} rows", "copy", COPIED),
            (f"UPDATE of {COPIED:,} texts at once", "UPDATE {} SET body = body || '.'", COPIED),
            (f"UPDATE of {COPIED:,} rows, no text", "UPDATE {} SET views = views + 1", COPIED),
            ("UPDATE of one text, committed", "UPDATE {} SET body = body || '.' WHERE id = %s", UPDATED),
            ("UPDATE of one row, no text, committed", "UPDATE {} SET views = views + 1 WHERE id = %s", UPDATED),
        ]
        for round_ in range(rounds + 1):
            for name, statement, number in steps:
                order = ("plain", "noticed") if round_ % 2 else ("noticed", "plain")
                took = {table: run(connection, statement, table, number) for table in order}
                if round_:
                    times.setdefault(name, []).append((number / took["plain"], number / took["noticed"]))
            for table in ("plain", "noticed"):
                connection.execute(f"TRUNCATE {table}")
            connection.execute("TRUNCATE harrier_sync.changes_1, harrier_sync.queue_1")
            connection.execute("CHECKPOINT")
        print(f"{rounds} rounds; rows a second without triggers, and with them")
        for name, pairs in times.items():
            ratios = sorted(noticed / plain for plain, noticed in pairs)
            plain, noticed = (statistics.median(column) for column in zip(*pairs, strict=True))
            median = statistics.median(ratios)
            print(f"  {name:40}{plain:10,.0f}{noticed:10,.0f}{median:8.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
        sync.drop(chunks=True)


def run(connection: psycopg.Connection, statement: str, table: str, number: int) -> float:
    """Return the seconds of a COPY, or of a statement that is run once or once per row."""
    begin = time.perf_counter()
    if statement == "copy":
        with connection.cursor().copy(f"COPY {table} (id, body) FROM STDIN") as copy:
            for id_ in range(number):
                copy.write_row((id_, BODY))
    elif "%s" in statement:
        query = statement.format(table)
        for id_ in range(number):
            connection.execute(query.encode(), [id_])
    else:
        connection.execute(statement.format(table).encode())
    return time.perf_counter() - begin


def draining(conninfo: str, chunks: int) -> None:
    """Measure draining rows of so many chunks by one worker and by two, with vectors that cost nothing."""
    for workers in (1, 2):
        rates = []
        for _ in range(3):
            with psycopg.connect(conninfo, autocommit=True) as connection:
                connection.execute(SOURCE.format("source"))
                body = " ".join([BODY] * chunks)
                with connection.cursor().copy("COPY source (id, body) FROM STDIN") as copy:
                    for id_ in range(COPIED):
                        copy.write_row((id_, f"{id_} {body}"))
                with TableSync(conninfo, table="drained") as sync:
                    words = len(BODY.split())
                    chunking = Chunking(tokens=words + 10)
                    sync.create("source", Instant(DIMENSIONS).space, text="body", chunking=chunking)
                    rates.append(COPIED / drained(conninfo, connection, workers))
                    sync.drop(chunks=True)
                connection.execute("DROP TABLE source")
        print(
            f"draining {COPIED:,} rows of {chunks} chunks, {workers} workers: {statistics.median(rates):,.0f} rows a "
            f"second ({min(rates):,.0f} to {max(rates):,.0f})"
        )


def drained(conninfo: str, connection: psycopg.Connection, number: int) -> float:
    """Return the seconds until the queue is empty; building the index afterwards does not count."""
    workers = [SyncWorker(conninfo, Instant(DIMENSIONS), poll=0.05) for _ in range(number)]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    left = "SELECT count(*) FROM drained WHERE number = 0"
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    while connection.execute(left).fetchone() != (COPIED,):
        time.sleep(0.02)
    took = time.perf_counter() - begin
    for worker in workers:
        worker.stop()
    for thread in threads:
        thread.join()
    return took


def latency(conninfo: str, folder: Path) -> None:
    """Measure the time from a commit until a search finds the change, with a tiny model, one change at a time."""
    with (
        Encoder(str(build_model(folder))) as encoder,
        psycopg.connect(conninfo, autocommit=True) as connection,
        TableSync(conninfo, table="searched") as sync,
    ):
        connection.execute(SOURCE.format("source"))
        sync.create("source", encoder.space, text="body")
        with working(SyncWorker(conninfo, encoder)):
            took = [found_after(connection, number) for number in range(320)][20:]
    p50, p99 = np.percentile(took, [50, 99]) * 1_000
    print(f"from a commit until a search finds it, {len(took)} times: p50 {p50:.1f} ms, p99 {p99:.1f} ms")


@contextmanager
def working(worker: SyncWorker) -> Iterator[None]:
    """Run a worker for the duration of the context."""
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


def found_after(connection: psycopg.Connection, number: int) -> float:
    """Insert a row, and return the seconds until a search finds it."""
    connection.execute("INSERT INTO source VALUES (%s, %s)", [number, f"{number} {BODY}"])
    begin = time.perf_counter()
    nearest = "SELECT 1 FROM searched WHERE record_id = %s ORDER BY embedding <=> embedding LIMIT 1"
    while not connection.execute(nearest, [str(number)]).fetchone():
        time.sleep(0.001)  # leave CPU time for the worker
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
