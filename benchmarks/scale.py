"""Measure an ingest by several processes against one: its speed, how busy each model is, and its memory.

With a model, one process and several workers ingest the same records in turns. A rate is measured from the first report
with encoded chunks, which do not count, to the end; the start of processes is reported separately. A paced embedder
stands for a GPU with a fixed rate, and reports its busy share. The cutter is compared with one that tokenizes each
stretch that the splitter asks for. With --ray, an ingest with one Ray worker is compared with one process. On a machine
with several GPUs each worker uses one: set --workers to their number.

    make bench-scale MODEL=/models/harrier-270m
    .venv/bin/python benchmarks/scale.py --model FOLDER --workers 8 --records 200000
    .venv/bin/python benchmarks/scale.py --model FOLDER --ray
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harrier_pgvector import PgVectorStore
from paced import Paced

from harrier_core import Chunking, Embedder, Encoder, Index, IngestReport, Record
from harrier_core.chunking import chunks
from harrier_core.seen import Seen
from harrier_core.testing.sample import PROSE


def records(number: int, sentences: int = 8) -> Iterator[Record]:
    """Yield records of one chunk, with different texts."""
    for at in range(number):
        said = (PROSE[(at + each) % len(PROSE)] for each in range(sentences))
        yield Record(f"record {at}", f"{at}: {' '.join(said)}", {"number": at})


@dataclass
class Watch:
    """The rate of an ingest, from its first report with encoded chunks, which do not count, to the last one."""

    first: tuple[float, int] | None = None
    last: tuple[float, int] = (0.0, 0)

    def __call__(self, report: IngestReport) -> None:
        """Take a report."""
        self.last = (time.monotonic(), report.encoded)
        if self.first is None and report.encoded:
            self.first = self.last

    @property
    def rate(self) -> float:
        """Return the chunks a second."""
        assert self.first is not None
        return (self.last[1] - self.first[1]) / max(self.last[0] - self.first[0], 1e-9)


def ingest(folder: Path, encoder: Embedder, number: int, workers: int | None, sentences: int) -> tuple[float, float]:
    """Return the rate of an ingest into an empty table, and its total seconds."""
    store = PgVectorStore.embedded(folder / "postgres", table="docs")
    with store, Index(store, encoder) as index:
        watch = Watch()
        report = index.ingest(records(number, sentences), workers=workers, on_progress=watch, build_indexes=False)
        assert report.encoded == number, report
        index.drop()
    return watch.rate, report.seconds


def ingest_on_ray(folder: Path, encoder: Embedder, number: int, sentences: int) -> float:
    """Return the rate of an ingest of a Parquet file with one Ray worker into an empty table."""
    import harrier_ray
    import pyarrow as pa  # type: ignore[import-untyped]
    import ray
    from pyarrow import parquet

    given = [{"id": each.id, "text": each.text, **each.metadata} for each in records(number, sentences)]
    file = folder / f"{number} {sentences}.parquet"
    parquet.write_table(pa.Table.from_pylist(given), file)
    store = PgVectorStore.embedded(folder / "postgres", table="docs")
    with store, Index(store, encoder) as index:
        watch = Watch()
        report = harrier_ray.ingest(
            ray.data.read_parquet(str(file)),
            index,
            metadata=["number"],
            workers=1,
            block=max(8, min(2_000, number // 8)),
            build_indexes=False,
            on_progress=watch,
        )
        assert report.encoded == number, report
        index.drop()
    return watch.rate


def by_ray(folder: Path, pace: float, number: int, model: str | None, few: int, rounds: int, sentences: int) -> None:
    """Compare one Ray worker with one process: how busy a paced embedder is, and both rates."""
    from harrier_ray import cluster

    with cluster("local", workers=1):
        for round_ in range(rounds if pace else 0):
            notes = [folder / f"notes of {who} {round_}" for who in ("one", "ray")]
            one, ray = (Paced(pace, each) for each in notes)
            rate, _ = ingest(folder, one, number, None, sentences=1)
            other = ingest_on_ray(folder, ray, number, sentences=1)
            print(
                f"paced at {pace:,.0f}/s: Ray {ray.busy():.1%} busy, one process {one.busy():.1%}; {other / rate:.2f}"
            )
        if model:
            ratios = []
            with Encoder(model) as encoder:
                for _ in range(rounds):
                    one_rate, _ = ingest(folder, encoder, few, None, sentences)
                    ratios.append(ingest_on_ray(folder, encoder, few, sentences) / one_rate)
            print(f"one Ray worker / one process, steady: {statistics.median(ratios):.2f} of {ratios}")


def by_model(folder: Path, model: str, number: int, workers: int, rounds: int, sentences: int) -> None:
    """Compare one process with several workers, in turns, on real weights."""
    ratios, wholes = [], []
    with Encoder(model) as encoder:
        for _ in range(rounds):
            one, seconds = ingest(folder, encoder, number, None, sentences)
            several, other = ingest(folder, encoder, number, workers, sentences)
            ratios.append(several / one)
            wholes.append(seconds / other)
            print(f"  one process {one:,.1f}/s, {workers} workers {several:,.1f}/s")
    whole = f"with their start, {number:,} records: {statistics.median(wholes):.2f}"
    print(f"{workers} workers / one process, steady: {statistics.median(ratios):.2f}; {whole}")


def by_pace(folder: Path, pace: float, number: int, workers: int) -> None:
    """Print the busy share of a model with this rate: in one process, with one worker, and with several."""
    for many in (None, 1, workers):
        notes = folder / f"notes {many}"
        encoder = Paced(pace, notes)
        rate, _ = ingest(folder, encoder, number * (many or 1), many, sentences=1)
        who = "one process" if many is None else f"{many} workers"
        print(f"paced at {pace:,.0f}/s, {who}: busy {encoder.busy():.1%}, {rate:,.0f} rows/s")


def by_words(model: str, rounds: int) -> None:
    """Compare the cutter with one that tokenizes each stretch as a whole."""
    text = "\n\n".join(f"{prose} {number}" for number in range(40) for prose in PROSE)
    with Encoder(model, device="cpu") as encoder:
        tokens = encoder._tokenizer
        count, total = encoder.count_tokens, encoder.count_tokens([text])[0]
        count([text[:1_000]])  # it scans the vocabulary once
        ratios = []
        for _ in range(rounds):
            took: list[float] = []
            made: list[list[bytes]] = []
            for each in (count, lambda texts: [len(row) for row in tokens.tokenize(texts, "", 10**9).rows]):
                begin = time.process_time()
                made.append([chunk.hash for chunk in chunks(Record("a", text), total, Chunking(512), each)])
                took.append(time.process_time() - begin)
            assert made[0] == made[1]
            ratios.append(took[1] / took[0])
            print(f"  {total / took[0] / 1e6:.2f} against {total / took[1] / 1e6:.2f} million tokens per CPU second")
    print(f"cutting by words / by tokenizing: {statistics.median(ratios):.1f} times as fast, the chunks equal")


def ids(number: int) -> None:
    """Print the memory of the ids that were seen."""
    begin, seen = _memory(), Seen()
    chance = np.random.default_rng(0)
    for _ in range(0, number, 2_000):
        for each in chance.integers(0, 2**64, 2_000, np.uint64).tolist():
            seen.add(each)
        seen.settle()
    grown = _memory() - begin
    print(f"{len(seen):,} ids: at most {grown / 2**20:,.0f} MiB, {grown / len(seen):.1f} bytes each")


def _memory() -> int:
    """Return the peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Measure the requested parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder or name; without it, parts that need weights are skipped")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--records", type=int, default=400, help="for the model")
    parser.add_argument("--sentences", type=int, default=8, help="sentences per record")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pace", type=float, default=3_000, help="chunks a second of the paced embedder; 0 skips it")
    parser.add_argument("--paced-records", type=int, default=60_000, help="for each worker")
    parser.add_argument("--ids", type=int, default=10_000_000, help="number of simulated ids; 0 skips them")
    parser.add_argument("--ray", action="store_true", help="only compare one Ray worker with one process")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.ray:
            how = options.model, options.records, options.rounds, options.sentences
            by_ray(Path(folder), options.pace, options.paced_records, *how)
            return
    if options.ids:
        ids(options.ids)
    if options.model:
        by_words(options.model, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        if options.pace:
            by_pace(Path(folder), options.pace, options.paced_records, options.workers)
        if options.model:
            how = options.records, options.workers, options.rounds, options.sentences
            by_model(Path(folder), options.model, *how)


if __name__ == "__main__":
    main()
