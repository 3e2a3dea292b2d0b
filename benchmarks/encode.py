"""How fast the Encoder is on a CPU, against sentence-transformers and against bare matrix products, in one run.

The models have the shape of harrier-270m and random weights, on which speed does not depend; for documents it has
fewer layers by default, on whose number their ratios do not depend. Both sides compute in float32: left to itself,
sentence-transformers takes the checkpoint's bfloat16, which is several times slower on a CPU without bfloat16 units,
and nobody should win by that. Each loaded model has a process of its own, for pools of threads beside each other slow
down both. Rounds are interleaved, after a first one that nobody counts; a ratio is the median of the rounds' ratios.

    make bench-encode
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from workload import GEMMA_270M, TASK, build, documents, own_tokens, products, queries, seconds

from harrier_core import Encoder

THEIRS, OURS, WHOLE, BARE = "sentence-transformers", "Encoder", "Encoder, int8", "matrix products alone"
FEW, ALL, VECTORS = "few layers", "all layers", "vectors"
SIZES = (32, 1, 4, 8, 16)  # of their batches; the first is the default

Runs = dict[str, Callable[[], Any]]
_runs: Runs = {}  # of a contestant's process


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    few_layers = {**GEMMA_270M, "num_hidden_layers": options.layers}
    with tempfile.TemporaryDirectory() as folder:
        few, all_ = build(Path(folder, "few"), few_layers), build(Path(folder, "all"), GEMMA_270M)
        with Encoder(few, task=TASK) as encoder:
            texts, asked = documents(encoder, options.tokens), queries(encoder, 64)
            tokens = say(encoder, options.layers, texts, asked)
        contestants = {
            (THEIRS, FEW): partial(load_theirs, few, texts, None),
            (THEIRS, ALL): partial(load_theirs, all_, None, asked),
            (OURS, FEW): partial(load_ours, few, texts, None, "float32"),
            (OURS, ALL): partial(load_ours, all_, None, asked, "float32"),
            (WHOLE, FEW): partial(load_ours, few, texts, None, "int8"),
            (WHOLE, ALL): partial(load_ours, all_, None, asked, "int8"),
            (BARE, FEW): partial(load_bare, few_layers, tokens),
        }
        spawn = multiprocessing.get_context("spawn")
        pools = {name: ProcessPoolExecutor(1, spawn, enter, (load,)) for name, load in contestants.items()}
        names = [(side, name) for side, pool in pools.items() for name in pool.submit(names_of_runs).result()]
        compare(pools)
        rounds = [
            {name: pools[side].submit(timed, name).result() for side, name in sorted(names, key=lambda each: each[1])}
            for _ in range(options.rounds + 1)
        ][1:]
        for pool in pools.values():
            pool.shutdown()
    table(rounds)


def enter(load: Callable[[], Runs]) -> None:
    """Set up a contestant's process."""
    _runs.update(load())


def names_of_runs() -> list[str]:
    """What it can be timed on."""
    return [name for name in _runs if ": " in name]


def timed(name: str) -> float:
    """How long one run takes; of queries one that follows another, after a pause the first takes its time."""
    if "queries" in name:
        _runs[name]()
    return seconds(_runs[name])


def result(name: str) -> Any:
    """What one run returns."""
    return _runs[name]()


def load_theirs(model: str, texts: list[str] | None, asked: list[str] | None) -> Runs:
    """sentence-transformers, for documents or for queries."""
    encode = SentenceTransformer(model, device="cpu", model_kwargs={"dtype": torch.float32}).encode
    if texts is not None:
        sizes = {f"documents: {THEIRS}, batches of {size}": partial(encode, texts, batch_size=size) for size in SIZES}
        return {**sizes, VECTORS: lambda: encode(texts, batch_size=1)}
    prompt, asked = Encoder(model, task=TASK).prompt(""), asked or []
    return {
        f"64 queries: {THEIRS}": lambda: encode(asked, prompt=prompt),
        f"8 queries singly: {THEIRS}": lambda: [encode([query], prompt=prompt) for query in asked[:8]],
        VECTORS: lambda: encode(asked, prompt=prompt, batch_size=1),
    }


def load_ours(model: str, texts: list[str] | None, asked: list[str] | None, dtype: str) -> Runs:
    """Our Encoder, in one number format, for documents or for queries."""
    encoder, name = Encoder(model, device="cpu", dtype=dtype, task=TASK), OURS if dtype == "float32" else WHOLE
    if texts is not None:
        return {
            f"documents: {name}": lambda: encoder.encode_documents(texts),
            VECTORS: lambda: encoder.encode_documents(texts),
        }
    prompt, asked = encoder.prompt(""), asked or []
    return {
        f"64 queries: {name}, no reuse": lambda: encoder.encode_documents([prompt + query for query in asked]),
        f"64 queries: {name}": lambda: encoder.encode_queries(asked),
        f"8 queries singly: {name}": lambda: [encoder.encode_queries([query]) for query in asked[:8]],
        VECTORS: lambda: encoder.encode_queries(asked),
    }


def load_bare(shape: dict[str, Any], tokens: int) -> Runs:
    """The matrix products that documents need, and nothing else."""
    run = products(shape, "cpu", torch.float32, 1_024)
    return {f"documents: {BARE}": lambda: run(tokens)}


def say(encoder: Encoder, layers: int, texts: list[str], asked: list[str]) -> int:
    """What runs; back come the tokens of the documents."""
    counts, instruction = encoder.count_tokens(texts), own_tokens(encoder, encoder.prompt(""))
    short = statistics.mean(own_tokens(encoder, query) for query in asked)
    print(f"the shape of harrier-270m, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{layers} layers: {len(texts)} documents, {sum(counts):,} tokens, {min(counts)} to {max(counts)} each")
    print(f"18 layers: 64 queries of {short:.1f} tokens on average, behind an instruction of {instruction}")
    return sum(counts)


def compare(pools: dict[tuple[str, str], ProcessPoolExecutor]) -> None:
    """How far the vectors are apart."""
    for layers in (FEW, ALL):
        expected, exact, whole = (
            pools[side, layers].submit(result, VECTORS).result() for side in (THEIRS, OURS, WHOLE)
        )
        cosines = (expected * whole).sum(axis=1)
        print(f"{layers}: largest difference {np.abs(expected - exact).max():.1e}; ", end="")
        print(f"int8: cosine at least {cosines.min():.4f}, {cosines.mean():.4f} on average")
    print("(int8 on random weights: a trained model's outliers cost more)")


def table(rounds: list[dict[str, float]]) -> None:
    """Times, and ratios with their aims."""
    medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    for name, time in medians.items():
        print(f"{name:58}{time:9.4f} s")
    default = f"documents: {THEIRS}, batches of 32"
    best = min((name for name in medians if name.startswith(f"documents: {THEIRS}")), key=medians.__getitem__)
    for slow, fast, aim in (
        (default, f"documents: {OURS}", 1.8),
        (best, f"documents: {OURS}", 1.4),
        (f"documents: {BARE}", f"documents: {OURS}", 0.85),
        (f"64 queries: {THEIRS}", f"64 queries: {OURS}", 3.5),
        (f"64 queries: {OURS}, no reuse", f"64 queries: {OURS}", 3.0),
        (f"8 queries singly: {THEIRS}", f"8 queries singly: {OURS}", 2.5),
        (f"8 queries singly: {THEIRS}", f"8 queries singly: {WHOLE}", 4.0),
        (best, f"documents: {WHOLE}", None),
    ):
        ratios = sorted(each[slow] / each[fast] for each in rounds)
        told = f"{slow} / {fast.partition(': ')[2]}"
        aimed = f"; aim {aim}" if aim else ""
        print(f"{told:72}{statistics.median(ratios):6.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f}{aimed})")


if __name__ == "__main__":
    main()
