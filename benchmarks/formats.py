"""Measure the cost of number formats on trained weights: the cosine of each vector to the same one in float32.

This also shows why 8-bit formats are not offered: it rounds the weights of sentence-transformers' model to 8 bits, by
row and in groups of 32, and the inputs of its products as well. It then measures searches of documents in one dtype by
queries in another, and the time and memory of the first query in a fresh process.

    make bench-formats MODEL=folder
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from workload import documents

from harrier_core import Encoder
from harrier_core.testing import AWKWARD, PROSE
from harrier_core.types import Vectors

FLOAT, HALF = "float32", "bfloat16"
QUANTILES = {"least": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5}
STEPS, GROUP = 127, 32


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder with trained weights")
    parser.add_argument("--device", help="for both sides; chosen by the Encoder by default")
    parser.add_argument("--tokens", type=int, default=6_000, help="number of texts in the search")
    options = parser.parse_args()
    with (
        Encoder(options.model, device="cpu", dtype=FLOAT) as exact,
        Encoder(options.model, device=options.device, dtype=HALF) as half,
    ):
        texts = [text.strip() for text in [*PROSE, *AWKWARD] if text.strip()]
        print(f"{len(texts)} texts, {half.placement}")
        formats(options.model, exact, half, texts)
        mixing(exact, half, documents(exact, options.tokens))
    first_query(options.model)
    long_texts(options.model)


def formats(model: str, exact: Encoder, half: Encoder, texts: list[str]) -> None:
    """Print the cosines of each format to float32."""
    own = {"documents": exact.encode_documents(texts), "queries": exact.encode_queries(texts)}
    prompts = {"documents": "", "queries": exact.prompt("")}

    def theirs(role: str, dtype: torch.dtype, alter: Callable[[torch.nn.Module], None] | None = None) -> Vectors:
        device = half.placement.device if dtype == torch.bfloat16 else "cpu"
        reference = SentenceTransformer(model, device=device, model_kwargs={"dtype": dtype})
        if alter:
            alter(reference)
        found: Vectors = reference.encode(texts, prompt=prompts[role]).astype(np.float32)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        return found

    print(f"\n{'':68}" + "".join(f"{name:>10}" for name in QUANTILES))
    for role, expected in own.items():
        beside = theirs(role, torch.float32)
        print(f"{role}, float32: largest difference to sentence-transformers {np.abs(beside - expected).max():.0e}")
        encode = half.encode_documents if role == "documents" else half.encode_queries
        for name, vectors in (
            ("bfloat16, Encoder", encode(texts)),
            ("bfloat16, sentence-transformers", theirs(role, torch.bfloat16)),
            ("8-bit weights, a scale per row", theirs(role, torch.float32, whole_weights(None))),
            ("8-bit weights, a scale per 32 values", theirs(role, torch.float32, whole_weights(GROUP))),
            ("8-bit weights and inputs, a scale per 32 values", theirs(role, torch.float32, whole_products)),
        ):
            kept = np.quantile((vectors * expected).sum(axis=1), list(QUANTILES.values()))
            print(f"{role + ', ' + name:68}" + "".join(f"{each:10.5f}" for each in kept))


def whole_weights(group: int | None) -> Callable[[torch.nn.Module], None]:
    """Return a function that rounds the weights of all projections."""

    @torch.inference_mode()
    def alter(model: torch.nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.copy_(whole(module.weight, group))

    return alter


def whole_products(model: torch.nn.Module) -> None:
    """Round the weights of all projections, and their inputs."""
    whole_weights(GROUP)(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, given: (whole(given[0], GROUP),))


def whole(numbers: Tensor, group: int | None) -> Tensor:
    """Return the values after rounding to 8-bit integers, with a scale for each row or group."""
    grouped = numbers.reshape(-1, group or numbers.shape[-1])
    scales = (grouped.abs().amax(dim=-1, keepdim=True) / STEPS).clamp(min=1e-12)
    rounded: Tensor = (grouped / scales).round() * scales
    return rounded.reshape(numbers.shape)


def mixing(exact: Encoder, half: Encoder, texts: list[str]) -> None:
    """Print the share of the ten nearest documents that stays when queries or documents are in bfloat16."""
    asked = [*PROSE]
    found = {FLOAT: exact, HALF: half}
    stored = {name: encoder.encode_documents(texts) for name, encoder in found.items()}
    sought = {name: encoder.encode_queries(asked) for name, encoder in found.items()}
    nearest = {(q, d): np.argsort(-(sought[q] @ stored[d].T), axis=1)[:, :10] for q in found for d in found}
    print(f"\nshare that stays of the ten nearest of {len(texts)} documents to {len(asked)} queries in float32:")
    for (q, d), rows in nearest.items():
        same = [len({*row} & {*right}) / 10 for row, right in zip(rows, nearest[FLOAT, FLOAT], strict=True)]
        if (q, d) != (FLOAT, FLOAT):
            print(f"  queries in {q}, documents in {d}: {np.mean(same):.3f}")


def first_query(model: str) -> None:
    """Print the time of the first query by stage, in fresh processes, and its memory next to the file size."""
    weights = sum(file.stat().st_size for file in Path(model).glob("*.safetensors"))
    begin = time.perf_counter()
    for file in Path(model).glob("*.safetensors"):
        with file.open("rb", buffering=0) as stream:
            while stream.read(1 << 24):
                pass
    print(f"\nreading {weights / 1e6:,.0f} MB of weights from the page cache: {time.perf_counter() - begin:.2f} s")
    for name, program in (("with float32", FLOAT), ("with bfloat16", HALF)):
        for _ in range(2):  # the first process may read files from disk
            told = subprocess.run(
                [sys.executable, "-c", _FIRST, model, program], capture_output=True, check=True, text=True
            )
        print(f"the first query of a process, {name}: {told.stdout.strip()}")


def long_texts(model: str) -> None:
    """Print the time and memory of long texts, each in its own warmed-up process."""
    print("\nlong texts, float32: tokens, seconds, tokens a second, peak memory beyond that of a short text")
    for tokens in (512, 8_192, 32_760):
        command = [sys.executable, "-c", _LONG, model, str(tokens)]
        told = subprocess.run(command, capture_output=True, check=True, text=True)
        print(f"  {told.stdout.strip()}")
    command = [sys.executable, "-c", _TOKENIZER, model]
    told = subprocess.run(command, capture_output=True, check=True, text=True)
    print(f"the tokenizer, one thread: {told.stdout.strip()} tokens a second")


_LONG = """
import re, sys, time
from pathlib import Path
from harrier_core import Encoder
from harrier_core.testing import PROSE

def peak():
    return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024

wanted = int(sys.argv[2])
encoder = Encoder(sys.argv[1], device="cpu", dtype="float32", on_overflow="truncate", max_tokens=wanted)
encoder.encode_documents(["a text"])
before, text = peak(), " ".join(PROSE) + " "
text *= wanted // encoder.count_tokens([text])[0] + 2
begin = time.perf_counter()
encoder.encode_documents([text])
took = time.perf_counter() - begin
print(f"{wanted:6,} {took:8.1f} s {wanted / took:8,.0f} {peak() - before:8,.0f} MiB")
"""

_TOKENIZER = """
import os, sys, time
os.environ["TOKENIZERS_PARALLELISM"] = "false"
from harrier_core import Encoder
from harrier_core.testing import PROSE
encoder = Encoder(sys.argv[1])
encoder.count_tokens(["a"])
texts = [f"{number} {text}" for number in range(200) for text in PROSE]
begin = time.process_time()
tokens = sum(encoder.count_tokens(texts))
print(f"{tokens / (time.process_time() - begin):,.0f}")
"""

_FIRST = """
import re, sys, time
from pathlib import Path
begin = time.perf_counter()
import torch
torch_there = time.perf_counter()
from harrier_core import Encoder
encoder = Encoder(sys.argv[1], dtype=sys.argv[2])
encoder.count_tokens(["a text"])
counted = time.perf_counter()
encoder.encode_queries(["a query"])
first = time.perf_counter()
encoder.encode_queries(["another query"])
second = time.perf_counter()
peak = int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024
print(f"{first - begin:.2f} s: import torch {torch_there - begin:.2f}, the tokenizer {counted - torch_there:.2f}, "
      f"weights and pass {first - counted:.2f}; the second query {second - first:.3f} s; "
      f"peak memory {peak:,.0f} MiB")
"""

if __name__ == "__main__":
    main()
