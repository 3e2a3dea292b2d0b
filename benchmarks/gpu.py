"""Measure the Encoder on a GPU: tokens a second, compared with bare matrix products; latencies, memory and a profile.

The models have the shapes of harrier-270m and harrier-0.6b and random weights, in bfloat16. They are compared with
sentence-transformers, as shipped and with its best batch size. It needs torch 2.11 or later, transformers and
sentence-transformers.

    make bench-gpu                                   # or PYTHONPATH=. python benchmarks/gpu.py
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch.profiler import ProfilerActivity, profile
from workload import GEMMA_270M, QWEN_06B, TASK, build, documents, products, queries, seconds

from harrier_core import Encoder
from harrier_core.graphs import Graphs

SHAPES = {"270m": (GEMMA_270M, 0.40), "0.6b": (QWEN_06B, 0.65)}  # and the target share of matrix products


def main() -> None:
    """Measure one model after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--layers", type=int, help="fewer layers than the model has, to try this command")
    options = parser.parse_args()
    for name in options.models:
        shape, aim = SHAPES[name]
        shape = {**shape, "num_hidden_layers": options.layers or shape["num_hidden_layers"]}
        with tempfile.TemporaryDirectory() as folder:
            model = build(Path(folder), shape)
            print(f"== the shape of harrier-{name}, {shape['num_hidden_layers']} layers, torch {torch.__version__}")
            with Encoder(model, device=options.device, dtype="bfloat16", task=TASK) as encoder:
                print(encoder.placement)
                measure(encoder, model, shape, aim, options)


def measure(encoder: Encoder, model: str, shape: dict[str, Any], aim: float, options: argparse.Namespace) -> None:
    """Measure exactness, speed, latency, and the time of each kernel."""
    encoder.encode_queries(["a first query, for loading and compiling"])
    exactness(encoder, model)
    texts = documents(encoder, options.tokens)
    theirs = SentenceTransformer(model, device=options.device, model_kwargs={"dtype": torch.bfloat16})
    throughput(encoder, theirs, texts, shape, aim, options)
    latency(encoder, theirs, texts, options.device)
    if options.device != "cpu":
        print(f"peak of GPU memory, both sides loaded: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
    print(f"{encoder.stats}")
    where_time_goes(encoder, texts[:2_000])


def exactness(encoder: Encoder, model: str) -> None:
    """Print cosines to float32 at lengths where attention kernels have been wrong, and encode the longest text."""
    word = "a "
    lengths = [1, 2, 31, 32, 33, 34, 64, 65, 66, 96, 97, 98, 500, 2_000, 8_000]
    texts = [word * length for length in lengths]
    with Encoder(model, device=encoder.placement.device, dtype="float32", task=TASK) as exact:
        for role in ("encode_documents", "encode_queries"):
            cosines = (getattr(encoder, role)(texts) * getattr(exact, role)(texts)).sum(axis=1)
            print(f"{role}: cosine to float32 at least {cosines.min():.5f} (target 0.999), lengths 1 to 8,000")
            short = texts[:10]
            for _ in range(2):  # they are replayed from the second time on
                replayed = np.concatenate([getattr(encoder, role)([text]) for text in short])
            cosines = (replayed * getattr(exact, role)(short)).sum(axis=1)
            print(f"{role}: singly, replayed: at least {cosines.min():.5f}, lengths 1 to 96")
    longest = word * (encoder.max_tokens - 10)
    [vector] = encoder.encode_documents([longest])
    print(f"{encoder.count_tokens([longest])[0]:,} tokens: a vector of length {np.linalg.norm(vector):.4f}")


def throughput(
    encoder: Encoder,
    theirs: SentenceTransformer,
    texts: list[str],
    shape: dict[str, Any],
    aim: float,
    options: argparse.Namespace,
) -> None:
    """Measure documents, from strings to vectors on the host; the others get a quarter of them, interleaved."""
    some = texts[: max(1, len(texts) // 4)]
    tokens, fewer = (sum(encoder.count_tokens(each)) for each in (texts, some))
    bare = products(shape, options.device, torch.bfloat16, 16_384)
    encode = partial(theirs.encode, show_progress_bar=False)
    encode(some[:512])  # slow once, while cuBLAS chooses its kernels
    best = min((seconds(partial(encode, some[::2], batch_size=size)), size) for size in (32, 64, 128, 256, 512))[1]
    runs: dict[str, tuple[int, Callable[[], object]]] = {
        "sentence-transformers, batches of 32": (fewer, partial(encode, some, batch_size=32)),
        f"sentence-transformers, batches of {best}, its best": (fewer, partial(encode, some, batch_size=best)),
        "Encoder": (tokens, lambda: encoder.encode_documents(texts)),
        "Encoder, tokenizing alone": (tokens, lambda: encoder.count_tokens(texts)),
        "matrix products alone": (tokens, lambda: bare(tokens)),
    }
    rounds = [{name: seconds(run) / count for name, (count, run) in runs.items()} for _ in range(options.rounds + 1)][
        1:
    ]
    print(f"{len(texts):,} documents, {tokens:,} tokens; medians of {options.rounds} rounds")
    for name in runs:
        print(f"{name:52}{1 / statistics.median(each[name] for each in rounds):14,.0f} tokens/s")
    names = list(runs)
    for slow, fast, wanted in (
        (names[0], "Encoder", 4),
        (names[1], "Encoder", 1.5),
        ("matrix products alone", "Encoder", aim),
    ):
        ratios = sorted(each[slow] / each[fast] for each in rounds)
        middle = statistics.median(ratios)
        print(f"{slow} / {fast}: {middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}; target {wanted})")


def latency(encoder: Encoder, theirs: SentenceTransformer, texts: list[str], device: str) -> None:
    """Measure single queries: alone, during an ingest, and from 64 callers at once."""
    asked = queries(encoder, 200)
    prompt = encoder.prompt("")
    percentiles("sentence-transformers, alone", [seconds(partial(theirs.encode, [q], prompt=prompt)) for q in asked])
    percentiles("Encoder, alone", [seconds(partial(encoder.encode_queries, [query])) for query in asked])
    with patch.object(Graphs, "run", lambda *_: None):
        launched = [seconds(partial(encoder.encode_queries, [query])) for query in asked]
    percentiles("Encoder, alone, not replayed", launched)

    async def timed(query: str) -> float:
        begin = time.perf_counter()
        await encoder.aencode_queries([query])
        return time.perf_counter() - begin

    async def beside_ingest() -> list[float]:
        times: list[float] = []
        while len(times) < len(asked):
            ingest = asyncio.create_task(encoder.aencode_documents(texts))
            await asyncio.sleep(0.02)
            while not ingest.done() and len(times) < len(asked):
                times.append(await timed(asked[len(times)]))
            await ingest
        return times

    async def callers() -> list[float]:
        return [each for _ in range(20) for each in await asyncio.gather(*(timed(query) for query in asked[:64]))]

    percentiles("Encoder, during an ingest", asyncio.run(beside_ingest()))
    percentiles("Encoder, 64 callers at once", asyncio.run(callers()))
    print(f"on {device}")


def percentiles(name: str, times: list[float]) -> None:
    """Print p50 and p99."""
    p50, p99 = np.percentile(times, [50, 99]) * 1_000
    print(f"one query, {name:32} p50 {p50:8.2f} ms  p99 {p99:8.2f} ms  ({len(times)} queries)")


def where_time_goes(encoder: Encoder, texts: list[str]) -> None:
    """Print the kernels of some passes, by their time."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        encoder.encode_documents(texts)
    key = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    print(profiled.key_averages().table(sort_by=key, row_limit=20, max_name_column_width=60))


if __name__ == "__main__":
    main()
