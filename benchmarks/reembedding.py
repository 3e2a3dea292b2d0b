"""Measure the cost of a re-embedding to searches: their latency while it runs, over their latency while it is paused.

One client with the old model searches an index in embedded Postgres all the time. Another process re-embeds the index
with --rate. Signals pause and resume it every second, so that both latencies come from one run and the same minutes.
The last lines are those of a re-embedding without --rate. The models are the tiny ones of the tests.

    make bench-reembed
    .venv/bin/python benchmarks/reembedding.py --rows 20000 --rate 100 --seconds 120
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import numpy as np
from harrier_pgvector import PgVectorStore

from harrier_core import Encoder, Index, Record
from harrier_core.testing import build_model

WORDS = [f"word{number}" for number in range(5_000)]
BESIDE = "import sys; from harrier_cli import main; sys.argv[0] = 'harrier'; main()"


def text(number: int, words: int) -> str:
    """Return random words, the same for each number."""
    return " ".join(np.random.default_rng(number).choice(WORDS, words))


def measure(
    index: Index, store: PgVectorStore, place: str, model: str, rate: float | None, seconds: float
) -> tuple[list[float], list[float]]:
    """Return the latencies of searches while a re-embedding is paused, and while it runs."""
    options = [] if rate is None else ["--rate", str(rate)]
    process = subprocess.Popen(
        [sys.executable, "-c", BESIDE, "reembed", place, "--model", model, *options], stdout=subprocess.DEVNULL
    )
    standing: list[float] = []
    going: list[float] = []
    beside = store.beside("_next")
    while beside.space() is None:  # until it has loaded its model
        time.sleep(0.1)
    numbers = count(1_000_000)
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds and process.poll() is None:
        for latencies, state in ((going, signal.SIGCONT), (standing, signal.SIGSTOP)):
            os.kill(process.pid, state)
            time.sleep(0.05)  # a search that began before this state does not count
            until = time.perf_counter() + 1
            while time.perf_counter() < until:
                begun = time.perf_counter()
                index.search(text(next(numbers), 8), 10)
                latencies.append(time.perf_counter() - begun)
    ended = process.poll() is not None
    os.kill(process.pid, signal.SIGCONT) if not ended else None
    process.kill()
    process.wait()
    print(f"  {beside.describe().chunks:,} chunks in the new space; the process {'ended' if ended else 'was killed'}")
    beside.drop()
    beside.close()
    return standing, going


def main() -> None:
    """Measure with the rate, and without."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        old, new = (str(build_model(Path(folder, name), name)) for name in ("qwen3", "gemma3"))
        store = PgVectorStore.embedded(Path(folder, "postgres"), table="docs")
        with Encoder(old) as encoder, Index(store, encoder) as index:
            index.ingest(Record(f"r{number}", text(number, 60)) for number in range(options.rows))
            print(f"{options.rows:,} chunks of {encoder.dimensions} dimensions", flush=True)
            for rate in (options.rate, None):
                place = f"pgvector:{folder}/postgres?table=docs"
                standing, going = measure(index, store, place, new, rate, options.seconds)
                said = "without a rate" if rate is None else f"at {rate:g} chunks a second"
                for share in (50, 99):
                    one, other = (float(np.percentile(each, share)) * 1_000 for each in (standing, going))
                    print(
                        f"  {said}, p{share}: {other:.1f} ms while it runs, {one:.1f} ms while it is paused "
                        f"({len(going):,} and {len(standing):,} searches): {other / one:.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
