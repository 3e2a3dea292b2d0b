"""How fast the Encoder is on a CPU, against sentence-transformers and against bare matrix products, in one run.

The model has the shape of harrier-270m, fewer layers by default (no ratio here depends on their number), and random
weights, on which speed does not depend. Both sides compute in float32: left to itself, sentence-transformers takes
the checkpoint's bfloat16, which is several times slower on a CPU without bfloat16 units, and nobody should win by that.
Rounds are interleaved; a ratio is the median of the rounds' ratios. Both sides were warmed up by a whole round.

    make bench-encode
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from workload import GEMMA_270M, TASK, build, documents, own_tokens, products, queries, seconds

from harrier_core import Encoder

THEIRS, OURS = "sentence-transformers", "Encoder"


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    shape = {**GEMMA_270M, "num_hidden_layers": options.layers}
    with tempfile.TemporaryDirectory() as folder:
        model = build(Path(folder), shape)
        theirs = SentenceTransformer(model, device="cpu", model_kwargs={"dtype": torch.float32})
        exact = Encoder(model, device="cpu", dtype="float32", task=TASK)
        whole = Encoder(model, device="cpu", dtype="int8", task=TASK)
        with exact, whole:
            texts, asked = documents(exact, options.tokens), queries(exact, 64)
            say(exact, whole, theirs, texts, asked)
            tokens = sum(exact.count_tokens(texts))
            bare = products(shape, "cpu", torch.float32, 1_024)
            runs = contestants(exact, whole, theirs, texts, asked)
            runs["documents: matrix products alone"] = lambda: bare(tokens)
            rounds = [{name: seconds(run) for name, run in runs.items()} for _ in range(options.rounds + 1)][1:]
    table(rounds)


def contestants(
    exact: Encoder, whole: Encoder, theirs: SentenceTransformer, texts: list[str], asked: list[str]
) -> dict[str, Callable[[], object]]:
    """What is timed."""
    prompt = exact.prompt("")
    singly = [[query] for query in asked[:8]]
    sizes = (32, 1, 4, 8, 16)  # the first is its default
    return {
        **{f"documents: {THEIRS}, batches of {size}": partial(theirs.encode, texts, batch_size=size) for size in sizes},
        f"documents: {OURS}": lambda: exact.encode_documents(texts),
        f"documents: {OURS}, int8": lambda: whole.encode_documents(texts),
        f"64 queries: {THEIRS}": lambda: theirs.encode(asked, prompt=prompt),
        f"64 queries: {OURS}, no reuse": lambda: exact.encode_documents([prompt + query for query in asked]),
        f"64 queries: {OURS}": lambda: exact.encode_queries(asked),
        f"8 queries singly: {THEIRS}": lambda: [theirs.encode(query, prompt=prompt) for query in singly],
        f"8 queries singly: {OURS}": lambda: [exact.encode_queries(query) for query in singly],
        f"8 queries singly: {OURS}, int8": lambda: [whole.encode_queries(query) for query in singly],
    }


def say(exact: Encoder, whole: Encoder, theirs: SentenceTransformer, texts: list[str], asked: list[str]) -> None:
    """What runs, and how far the vectors are apart."""
    counts, instruction = exact.count_tokens(texts), own_tokens(exact, exact.prompt(""))
    short = statistics.mean(own_tokens(exact, query) for query in asked)
    print(f"the shape of harrier-270m, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{len(texts)} documents, {sum(counts):,} tokens, {min(counts)} to {max(counts)} each")
    print(f"64 queries of {short:.1f} tokens on average, behind an instruction of {instruction}")
    expected = theirs.encode(texts, batch_size=1)
    print(f"largest difference to {THEIRS}, text by text: {np.abs(expected - exact.encode_documents(texts)).max():.1e}")
    cosines = (expected * whole.encode_documents(texts)).sum(axis=1)
    print(f"int8: cosine to float32 at least {cosines.min():.4f}, {cosines.mean():.4f} on average (random weights: a")
    print("      trained model's outliers cost more)")


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
        ("documents: matrix products alone", f"documents: {OURS}", 0.85),
        (f"64 queries: {THEIRS}", f"64 queries: {OURS}", 3.5),
        (f"64 queries: {OURS}, no reuse", f"64 queries: {OURS}", 3.0),
        (f"8 queries singly: {THEIRS}", f"8 queries singly: {OURS}", 2.5),
        (f"8 queries singly: {THEIRS}", f"8 queries singly: {OURS}, int8", 4.0),
        (best, f"documents: {OURS}, int8", None),
    ):
        ratios = sorted(each[slow] / each[fast] for each in rounds)
        told = f"{slow} / {fast.partition(': ')[2]}"
        aimed = f"; aim {aim}" if aim else ""
        print(f"{told:72}{statistics.median(ratios):6.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f}{aimed})")


if __name__ == "__main__":
    main()
