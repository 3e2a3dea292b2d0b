"""How fast an index is copied, against how fast the slower of its two stores writes at all; and in how much memory.

Made chunks, four to a record, are written into both stores by as many threads as a copy has: that is what each store's
own write path gives. Then the first is copied into an empty place of the second, and back. Each size runs in a process
of its own, whose greatest memory is read at the end; the servers and engines have theirs. The rate of a copy is that
until all is written; the check at the end is told apart.

    make bench-copy
    .venv/bin/python benchmarks/copying.py --rows 1000000 --pair postgres edge
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore

from harrier_core import Chunk, EmbeddingSpace, OpenStore, Record, VectorStore, Write
from harrier_core.migration import CopyReport, copy

SPACE = EmbeddingSpace("made", None, "w", "t", 640, "last token", "l2", "{text}")
TEXT = " ".join(f"word{number}" for number in range(100))
WRITE, THREADS = 1_000, 4  # chunks at once, and threads, as a copy has them


def store_of(kind: str, folder: Path, name: str) -> VectorStore:
    """An embedded store, in float32, so that both sides write the same bytes."""
    if kind == "postgres":
        return PgVectorStore.embedded(folder / "postgres", table=name, precision="float32")
    return QdrantStore.embedded(folder / "edge", collection=name)


def writes(rows: int) -> Iterator[Write]:
    """Made chunks, as an ingest would write them."""
    vectors = np.random.default_rng(0).normal(size=(WRITE, SPACE.dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made = chunks(rows)
    while part := list(islice(made, WRITE)):
        sizes: dict[str, int] = {}
        for chunk in part:
            sizes[chunk.record_id] = chunk.number + 1
        yield Write(sizes, part, vectors[: len(part)], [], {record_id: {} for record_id in sizes})


def chunks(rows: int) -> Iterator[Chunk]:
    """Records of four chunks, so that none is cut by a write."""
    for number in range(0, rows, 4):
        for own in range(min(4, rows - number)):
            record = Record(f"record-{number:09}", TEXT, {"number": number, "lang": "en", "topic": f"t{number % 97}"})
            yield Chunk.of(record, own, own * 100, f"{number} {own} {TEXT}")


def own_rate(opened: OpenStore, rows: int) -> float:
    """Chunks a second that a store writes; what is to be written is made while it writes."""
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


def measure(rows: int, kinds: tuple[str, str]) -> None:
    """One size, and one pair both ways."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stores = [store_of(kind, folder, f"made{at}") for at, kind in enumerate(kinds)]
        rates = [own_rate(store.open(SPACE, create=True), rows) for store in stores]
        memory = peak()
        print(f"{rows:,} chunks of {SPACE.dimensions} dimensions; {memory:.0f} MB before the copies")
        for kind, rate in zip(kinds, rates, strict=True):
            print(f"  {kind:<10} writes {rate:>8,.0f} chunks a second")
        ways = [(0, 1), (1, 0)] if kinds[0] != kinds[1] else [(0, 1)]
        for one, other in ways:
            target = store_of(kinds[other], folder, f"copy{other}")
            written, report = copied(stores[one], target)
            rate = rows / written
            print(
                f"  {kinds[one]} -> {kinds[other]}: {rate:,.0f} chunks a second, {rate / min(rates):.2f} of the slower "
                f"side's own; the check took {report.seconds - written:.1f} s more, {report.compared} vectors "
                f"compared, {report.identical} identical; {peak():.0f} MB"
            )
            if not report.sound or report.copied != rows:
                raise SystemExit(f"not a copy: {report}")
            target.close()
        for store in stores:
            store.close()


def copied(source: VectorStore, target: VectorStore) -> tuple[float, CopyReport]:
    """Return the seconds until all was written, and the report."""
    written = 0.0

    def follow(report: CopyReport) -> None:
        nonlocal written
        if report.stage == "copying":
            written = report.seconds

    report = copy(source, target, build_indexes=False, on_progress=follow)
    return written, report


def peak() -> float:
    """The greatest memory of this process so far, in MB."""
    said = Path("/proc/self/status").read_text(encoding="utf-8")
    [line] = [each for each in said.splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1]) / 1_024


def main() -> None:
    """Measure each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--pair", nargs=2, choices=["postgres", "edge"], default=["postgres", "edge"])
    options = parser.parse_args()
    if len(options.rows) == 1:
        measure(options.rows[0], tuple(options.pair))
        return
    for rows in options.rows:
        command = [sys.executable, __file__, "--rows", str(rows), "--pair", *options.pair]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
