"""Measure the speed of a copy, relative to the writes of the slower of its two stores, and its memory.

Synthetic chunks, four per record, are written into both stores by as many threads as a copy has: this gives the rate of
each store's own write path. Then one is copied into an empty place of the other, and back, and into a Parquet file and
back. Rounds are interleaved; a ratio is the median of the rounds' ratios. The rate of a copy is measured until all is
written; the check at the end is reported separately. Each size runs in its own process, whose peak memory is read;
servers and engines run in other processes.

    make bench-copy
    .venv/bin/python benchmarks/copying.py --rows 1000000 --rounds 1 --ways postgres:file file:postgres
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore

from harrier_core import Chunk, EmbeddingSpace, OpenStore, Record, VectorStore, Write
from harrier_core.migration import CopyReport, copy

SPACE = EmbeddingSpace("made", None, "w", "t", 640, "last token", "l2", "{text}")
TEXT = " ".join(f"word{number}" for number in range(100))
STORES = ("postgres", "edge")
WRITE, THREADS = 1_000, 4  # chunks at once, and threads, as in a copy


def store_of(kind: str, folder: Path, name: str) -> PgVectorStore | QdrantStore:
    """Return an embedded store in float32, so that both sides write the same bytes."""
    if kind == "postgres":
        return PgVectorStore.embedded(folder / "postgres", table=name, precision="float32")
    return QdrantStore.embedded(folder / "edge", collection=name)


def writes(rows: int) -> Iterator[Write]:
    """Yield the chunks in writes as large as those of a copy."""
    vectors = np.random.default_rng(0).normal(size=(WRITE, SPACE.dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made = chunks(rows)
    while part := list(islice(made, WRITE)):
        sizes: dict[str, int] = {}
        for chunk in part:
            sizes[chunk.record_id] = chunk.number + 1
        yield Write(sizes, part, vectors[: len(part)], [], {record_id: {} for record_id in sizes})


def chunks(rows: int) -> Iterator[Chunk]:
    """Yield synthetic chunks, four per record, so that no write splits a record."""
    for number in range(0, rows, 4):
        for own in range(min(4, rows - number)):
            record = Record(f"record-{number:09}", TEXT, {"number": number, "lang": "en", "topic": f"t{number % 97}"})
            yield Chunk.of(record, own, own * 100, f"{number} {own} {TEXT}")


def own_rate(opened: OpenStore, rows: int) -> float:
    """Return the chunks a second that a store writes; the chunks are generated while it writes."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as threads:
        ahead = []
        for write in writes(rows):
            ahead.append(threads.submit(opened.write, write))
            if len(ahead) > THREADS + 2:
                ahead.pop(0).result()
        for each in ahead:
            each.result()
    return rows / (time.perf_counter() - begin)


def measure(rows: int, rounds: int, ways: list[tuple[str, str]]) -> None:
    """Measure one size: the stores' own rates, and all ways between them."""
    ratios: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    checks: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    kinds = [kind for kind in STORES if any(kind in way for way in ways)]
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            with ExitStack() as opened:
                made = {kind: store_of(kind, Path(folder), f"made{number}") for kind in kinds}
                for store in made.values():
                    opened.callback(store.close)
                    opened.callback(store.drop)
                rates = {kind: own_rate(store.open(SPACE, create=True), rows) for kind, store in made.items()}
                own = ", ".join(f"{kind} {rate:,.0f}" for kind, rate in rates.items())
                print(f"  round {number + 1}: {own} chunks a second by themselves, {peak():.0f} MB", flush=True)
                places: dict[str, VectorStore | Path] = {**made, "file": Path(folder, "copied.parquet")}
                for one, other in ways:
                    target = places[other] if other == "file" else store_of(other, Path(folder), f"copy{number}")
                    written, report = copied(places[one], target)
                    if not report.sound or (report.copied, report.identical) != (rows, report.compared):
                        raise SystemExit(f"not a copy: {report}")
                    slower = min(rates[kind] for kind in (one, other) if kind in rates)
                    ratios[one, other].append(rows / written / slower)
                    checks[one, other].append((report.seconds - written) / written)
                    print(f"    {one} to {other}: {rows / written:,.0f} a second, {peak():.0f} MB", flush=True)
                    if not isinstance(target, Path):
                        target.drop()
                        target.close()
    print(f"{rows:,} chunks of {SPACE.dimensions} dimensions, {rounds} rounds, {peak():.0f} MB")
    for way in ways:
        found, check = ratios[way], statistics.median(checks[way])
        print(
            f"  {way[0]} to {way[1]}, copy / the slower store's own writes: {statistics.median(found):.2f} "
            f"({min(found):.2f} to {max(found):.2f}); the check takes {check:.2f} of the writing time"
        )


def copied(source: VectorStore | Path, target: VectorStore | Path) -> tuple[float, CopyReport]:
    """Return the seconds until all was written, and the report."""
    written = 0.0

    def follow(report: CopyReport) -> None:
        nonlocal written
        if report.stage == "copying":
            written = report.seconds

    report = copy(source, target, build_indexes=False, on_progress=follow)
    return written, report


def peak() -> float:
    """Return the peak memory of this process so far, in MB."""
    said = Path("/proc/self/status").read_text(encoding="utf-8")
    [line] = [each for each in said.splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1]) / 1_024


def main() -> None:
    """Measure each size in its own process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--ways", nargs="+", default=["postgres:edge", "edge:postgres", "postgres:file", "file:postgres"]
    )
    options = parser.parse_args()
    if len(options.rows) == 1:
        measure(options.rows[0], options.rounds, [tuple(way.split(":")) for way in options.ways])
        return
    for rows in options.rows:
        command = [sys.executable, __file__, "--rows", str(rows), "--rounds", str(options.rounds), "--ways"]
        subprocess.run([*command, *options.ways], check=True)


if __name__ == "__main__":
    main()
