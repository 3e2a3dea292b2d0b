"""Measure the Encoder on a CPU against sentence-transformers and against bare matrix products, in one run.

With `--model FOLDER`, that model encodes all texts. Without it, the models have the shape of harrier-270m and random
weights, which do not affect speed; for documents the model has fewer layers, which does not affect the ratios. Both
sides compute in float32. As shipped, sentence-transformers uses the checkpoint's bfloat16, which is several times
slower on a CPU without bfloat16 units: this is measured as well, and so is the Encoder in bfloat16 where the CPU has
such units. Each loaded model has its own process, because two thread pools in one process slow down each other. Rounds
are interleaved, after a first one that is not counted; a ratio is the median of the rounds' ratios.

    make bench-encode MODEL=folder
"""

from __future__ import annotations

import argparse
import json
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
from harrier_core.device import multiplies_bfloat16

THEIRS, SHIPPED, BARE = "sentence-transformers", "sentence-transformers as shipped", "matrix products alone"
OURS, HALF = "Encoder", "Encoder, bfloat16"
DOCUMENTS, QUERIES, VECTORS = "documents", "queries", "vectors"
SIZES = (32, 1, 4, 8, 16)  # their batch sizes; the first is the default

Runs = dict[str, Callable[[], Any]]
_runs: Runs = {}  # of each contestant's process


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder with trained weights")
    parser.add_argument("--layers", type=int, default=6, help="of the model with random weights, for documents")
    parser.add_argument("--tokens", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.model:
            few = all_ = options.model
            shape = shape_of(Path(options.model))
        else:
            shape = {**GEMMA_270M, "num_hidden_layers": options.layers}
            few, all_ = build(Path(folder, "few"), shape), build(Path(folder, "all"), GEMMA_270M)
        with Encoder(few, task=TASK) as encoder:
            texts, asked = documents(encoder, options.tokens), queries(encoder, 64)
            tokens = say(encoder, shape, texts, asked)
        contestants = {
            (THEIRS, DOCUMENTS): partial(load_theirs, few, texts, None, THEIRS),
            (THEIRS, QUERIES): partial(load_theirs, all_, None, asked, THEIRS),
            (SHIPPED, DOCUMENTS): partial(load_theirs, few, texts, None, SHIPPED),
            (SHIPPED, QUERIES): partial(load_theirs, all_, None, asked, SHIPPED),
            (OURS, DOCUMENTS): partial(load_ours, few, texts, None, OURS),
            (OURS, QUERIES): partial(load_ours, all_, None, asked, OURS),
            (BARE, DOCUMENTS): partial(load_bare, shape, tokens),
        }
        if multiplies_bfloat16():
            contestants[HALF, DOCUMENTS] = partial(load_ours, few, texts, None, HALF)
            contestants[HALF, QUERIES] = partial(load_ours, all_, None, asked, HALF)
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
    """Return the runs to time."""
    return [name for name in _runs if ": " in name]


def timed(name: str) -> float:
    """Return the time of one run. Queries run twice, because the first run after a pause is slow."""
    if "queries" in name:
        _runs[name]()
    return seconds(_runs[name])


def result(name: str) -> Any:
    """Return the result of one run."""
    return _runs[name]()


def load_theirs(model: str, texts: list[str] | None, asked: list[str] | None, name: str) -> Runs:
    """Set up sentence-transformers in float32 or as shipped, for documents or for queries."""
    settings = {"dtype": torch.float32} if name == THEIRS else {}
    encode = SentenceTransformer(model, device="cpu", model_kwargs=settings).encode
    if texts is not None and name == SHIPPED:
        return {f"documents: {SHIPPED}": partial(encode, texts)}
    if texts is not None:
        sizes = {f"documents: {THEIRS}, batches of {size}": partial(encode, texts, batch_size=size) for size in SIZES}
        return {**sizes, VECTORS: lambda: encode(texts, batch_size=1)}
    prompt, asked = Encoder(model, task=TASK).prompt(""), asked or []
    return {
        f"64 queries: {name}": lambda: encode(asked, prompt=prompt),
        f"8 queries singly: {name}": lambda: [encode([query], prompt=prompt) for query in asked[:8]],
        VECTORS: lambda: encode(asked, prompt=prompt, batch_size=1),
    }


def load_ours(model: str, texts: list[str] | None, asked: list[str] | None, name: str) -> Runs:
    """Set up our Encoder in one dtype, for documents or for queries."""
    encoder = Encoder(model, device="cpu", dtype="float32" if name == OURS else "bfloat16", task=TASK)
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
    """Set up the matrix products that documents need, and nothing else."""
    run = products(shape, "cpu", torch.float32, 1_024)
    return {f"documents: {BARE}": lambda: run(tokens)}


def shape_of(folder: Path) -> dict[str, Any]:
    """Return the dimensions of a model that determine its matrix products."""
    shape: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return shape


def say(encoder: Encoder, shape: dict[str, Any], texts: list[str], asked: list[str]) -> int:
    """Print the setup, and return the token counts of the documents."""
    counts, instruction = encoder.count_tokens(texts), own_tokens(encoder, encoder.prompt(""))
    short = statistics.mean(own_tokens(encoder, query) for query in asked)
    layers = shape["num_hidden_layers"]
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, documents with {layers} layers")
    print(f"{len(texts)} documents, {sum(counts):,} tokens, {min(counts)} to {max(counts)} each")
    print(f"64 queries of {short:.1f} tokens on average, after an instruction of {instruction}")
    return sum(counts)


def compare(pools: dict[tuple[str, str], ProcessPoolExecutor]) -> None:
    """Print the largest differences between the vectors."""
    for kind in (DOCUMENTS, QUERIES):
        expected, own = (pools[side, kind].submit(result, VECTORS).result() for side in (THEIRS, OURS))
        print(f"{kind}: largest difference of a component to {THEIRS} in float32 {np.abs(expected - own).max():.1e}")


def table(rounds: list[dict[str, float]]) -> None:
    """Print times, and ratios with their targets."""
    medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    for name, time in medians.items():
        print(f"{name:58}{time:9.4f} s")
    default = f"documents: {THEIRS}, batches of 32"
    best = min((name for name in medians if name.startswith(f"documents: {THEIRS}, ")), key=medians.__getitem__)
    singly, together = "8 queries singly", "64 queries"
    pairs: list[tuple[str, str, float | None]] = [
        (f"documents: {SHIPPED}", f"documents: {OURS}", 2.5),
        (default, f"documents: {OURS}", 1.8),
        (best, f"documents: {OURS}", 1.5),
        (f"documents: {BARE}", f"documents: {OURS}", 0.85),
        (f"{together}: {SHIPPED}", f"{together}: {OURS}", None),
        (f"{together}: {THEIRS}", f"{together}: {OURS}", 3.5),
        (f"{together}: {OURS}, no reuse", f"{together}: {OURS}", 3.0),
        (f"{singly}: {SHIPPED}", f"{singly}: {OURS}", 3.5),
        (f"{singly}: {THEIRS}", f"{singly}: {OURS}", 2.5),
        (f"documents: {SHIPPED}", f"documents: {HALF}", 5.0),
        (best, f"documents: {HALF}", 3.0),
        (f"{singly}: {SHIPPED}", f"{singly}: {HALF}", 7.0),
    ]
    for slow, fast, aim in pairs:
        if fast not in medians:
            continue
        ratios = sorted(each[slow] / each[fast] for each in rounds)
        told = f"{slow} / {fast.partition(': ')[2]}"
        aimed = f"; target {aim}" if aim else ""
        print(f"{told:72}{statistics.median(ratios):6.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f}{aimed})")


if __name__ == "__main__":
    main()
