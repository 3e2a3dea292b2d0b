"""How fast the Encoder is on a CPU, against sentence-transformers and against bare matrix products, in one run.

The model has the shape of harrier-270m, fewer layers by default (no ratio here depends on their number), and random
weights, on which speed does not depend. Both sides compute in float32: left to itself, sentence-transformers takes
the checkpoint's bfloat16, which is several times slower on a CPU without bfloat16 units, and nobody should win by that.
Rounds are interleaved; a ratio is the median of the rounds' ratios. Both sides were warmed up by a whole round.

    make bench-encode
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from harrier_core import Encoder
from harrier_core.testing import AWKWARD, PROSE, build_model

HIDDEN, INNER, HEADS, KEY_HEADS, HEAD, VOCABULARY = 640, 2_048, 4, 1, 256, 262_144
SIZES = {
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEY_HEADS,
    "head_dim": HEAD,
    "query_pre_attn_scalar": HEAD,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 32_768,
}
PROJECTIONS = [((HEADS + 2 * KEY_HEADS) * HEAD, HIDDEN), (HIDDEN, HEADS * HEAD), (2 * INNER, HIDDEN), (HIDDEN, INNER)]


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = {**SIZES, "num_hidden_layers": options.layers, "layer_types": ["full_attention"] * options.layers}
    with tempfile.TemporaryDirectory() as folder:
        build_model(folder, "gemma3", config=config)
        theirs = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.float32})
        with Encoder(folder, device="cpu", dtype="float32") as ours:
            documents, queries = corpus(ours, options.texts)
            compare(ours, theirs, documents, queries, options)


def corpus(encoder: Encoder, texts: int) -> tuple[list[str], list[str]]:
    """Documents of many scripts and code, log-normal from 16 to 512 tokens; and 64 short queries."""
    chance = random.Random(0)
    words = [word for text in [*PROSE, *AWKWARD] for word in text.split()]
    documents: list[str] = []
    while len(documents) < texts:
        wanted = min(512, max(16, int(chance.lognormvariate(4.6, 0.6))))
        start = chance.randrange(len(words))
        document = words[start : start + 4]
        while encoder.count_tokens([" ".join(document)])[0] < wanted:
            start = chance.randrange(len(words))
            document += words[start : start + 4]
        documents.append(" ".join(document))
    queries: dict[str, None] = {}  # all different: what runs once for equal texts is not what is measured here
    while len(queries) < 64:
        start = chance.randrange(len(words))
        queries[" ".join(words[start : start + 6])] = None
    return documents, list(queries)


def compare(
    ours: Encoder, theirs: SentenceTransformer, documents: list[str], queries: list[str], options: argparse.Namespace
) -> None:
    """Run all contestants round by round and print what came of it."""
    counts = ours.count_tokens(documents)
    prompt = ours.tasks["web_search_query"]
    one = queries[-1:]
    contestants: dict[str, Callable[[], object]] = {
        "documents, sentence-transformers, batches of 32": partial(theirs.encode, documents),  # its default
        **{
            f"documents, sentence-transformers, batches of {size}": partial(theirs.encode, documents, batch_size=size)
            for size in (1, 4, 8, 16)
        },
        "documents, Encoder": lambda: ours.encode_documents(documents),
        "documents, matrix products alone": lambda: products(sum(counts), options.layers),
        "64 queries, sentence-transformers": lambda: theirs.encode(queries, prompt=prompt),
        "64 queries, Encoder without reuse": lambda: ours.encode_documents([prompt + query for query in queries]),
        "64 queries, Encoder": lambda: ours.encode_queries(queries),
        "one query, sentence-transformers": lambda: theirs.encode(one, prompt=prompt),
        "one query, Encoder": lambda: ours.encode_queries(one),
    }
    rounds = [{name: seconds(run) for name, run in contestants.items()} for _ in range(options.rounds + 1)][1:]
    print(
        f"{options.layers} layers of harrier-270m's shape, float32, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, medians of {options.rounds} rounds"
    )
    print(f"{len(documents)} documents, {sum(counts)} tokens, {min(counts)} to {max(counts)}")
    [instruction], asked = ours.count_tokens([prompt]), ours.count_tokens(queries)
    print(f"{len(queries)} queries of {statistics.mean(asked):.1f} tokens behind an instruction of {instruction}")
    error = np.abs(theirs.encode(documents, batch_size=1) - ours.encode_documents(documents)).max()
    print(f"largest difference to sentence-transformers' text by text: {error:.1e}")
    for name in contestants:
        print(f"{name:52}{statistics.median(each[name] for each in rounds):9.3f} s")
    default = "documents, sentence-transformers, batches of 32"
    best = min((name for name in contestants if "batches" in name), key=lambda name: rounds_median(rounds, name))
    for label, slow, fast, aim in (
        ("documents, against batches of 32", default, "documents, Encoder", 1.8),
        (f"documents, against the best ({best.rsplit(' ', 1)[1]})", best, "documents, Encoder", 1.4),
        ("documents, share of matrix products", "documents, matrix products alone", "documents, Encoder", 0.85),
        ("64 queries, against sentence-transformers", "64 queries, sentence-transformers", "64 queries, Encoder", 3.5),
        ("64 queries, against no reuse", "64 queries, Encoder without reuse", "64 queries, Encoder", 3.0),
        ("one query, against sentence-transformers", "one query, sentence-transformers", "one query, Encoder", 2.5),
    ):
        ratios = sorted(each[slow] / each[fast] for each in rounds)
        print(f"{label:52}{statistics.median(ratios):9.2f} x  ({ratios[0]:.2f} to {ratios[-1]:.2f}; aim {aim})")


def rounds_median(rounds: list[dict[str, float]], name: str) -> float:
    """The median time of one contestant."""
    return statistics.median(each[name] for each in rounds)


def products(tokens: int, layers: int) -> None:
    """The matrix products that this many tokens need, as large as they do best, and nothing else."""
    with torch.inference_mode():
        for begin in range(0, tokens, 1_024):
            rows = min(1_024, tokens - begin)
            for _ in range(layers):
                for weight in WEIGHTS:
                    torch.mm(INPUT[:rows, : weight.shape[1]], weight.T)


WEIGHTS = [torch.randn(shape) for shape in PROJECTIONS]
INPUT = torch.randn(1_024, INNER)


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one run."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
