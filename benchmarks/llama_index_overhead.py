"""Measure the overhead of LlamaIndex: VectorStoreIndex.from_documents over HarrierEmbedding, against the bare Encoder.

Both encode the same texts of mixed length on the same model, with SimpleVectorStore, in interleaved rounds of one run.
If llama-index-embeddings-huggingface is installed, HuggingFaceEmbedding is measured with its defaults as well.

    python benchmarks/llama_index_overhead.py
"""

from __future__ import annotations

import argparse
import importlib
import logging
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import TextNode
from llama_index.embeddings.harrier import HarrierEmbedding
from workload import GEMMA_270M, build, documents, seconds

from harrier_core import Encoder

# Wide enough that encoding takes most of the time, as in practice, and small enough that a round takes seconds.
SHAPE: dict[str, Any] = {
    **GEMMA_270M,
    "hidden_size": 256,
    "intermediate_size": 1_024,
    "head_dim": 64,
    "query_pre_attn_scalar": 64,
    "num_hidden_layers": 2,
    "vocab_size": 4_096,
}

BARE = "Encoder.encode_documents"
OURS, THEIRS = "from_documents, HarrierEmbedding", "from_documents, HuggingFaceEmbedding"


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = build(Path(folder), SHAPE)
        encoder = Encoder(model, device="cpu", dtype="float32")
        texts = documents(encoder, 140.0 * options.texts)[: options.texts]
        print(f"{len(texts):,} texts, {sum(encoder.count_tokens(texts)):,} tokens, {options.rounds} rounds")
        contestants: dict[str, Callable[[], object]] = {
            BARE: partial(encoder.encode_documents, texts),
            OURS: partial(index, texts, HarrierEmbedding.from_encoder(encoder)),
        }
        if (theirs := huggingface(model)) is not None:
            contestants[THEIRS] = partial(index, texts, theirs)
        rounds = [{name: seconds(run) for name, run in contestants.items()} for _ in range(options.rounds + 1)][1:]
    table(rounds)


def index(texts: list[str], embed_model: BaseEmbedding) -> VectorStoreIndex:
    """Build an index in memory from texts. Each text is a node, because parsers are not measured."""
    return VectorStoreIndex([TextNode(text=text) for text in texts], embed_model=embed_model)


def huggingface(model: str) -> BaseEmbedding | None:
    """Return the usual class with its defaults, if it is installed."""
    try:
        module = importlib.import_module("llama_index.embeddings.huggingface")
    except ImportError as error:
        print(f"NOT COMPARED with HuggingFaceEmbedding: {error}; pip install llama-index-embeddings-huggingface")
        return None
    logging.disable(logging.WARNING)  # it warns about prompts at each load
    theirs: BaseEmbedding = module.HuggingFaceEmbedding(model, device="cpu", model_kwargs={"dtype": "float32"})
    return theirs


def table(rounds: list[dict[str, float]]) -> None:
    """Print times, and ratios with their targets."""
    for name in rounds[0]:
        times = sorted(each[name] for each in rounds)
        print(f"{name:40}{statistics.median(times):8.2f} s  ({times[0]:.2f} to {times[-1]:.2f})")
    for slow, fast, aim in ((OURS, BARE, "at most 1.15"), (THEIRS, OURS, "")):
        if slow in rounds[0]:
            ratios = sorted(each[slow] / each[fast] for each in rounds)
            print(f"{slow} / {fast}: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) {aim}")


if __name__ == "__main__":
    main()
