"""The workloads of benchmarks: models of the released shapes with random weights, and texts of many scripts."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harrier_core import Encoder, Task
from harrier_core.testing import AWKWARD, PROSE, build_model

GEMMA_270M: dict[str, Any] = {
    "hidden_size": 640,
    "intermediate_size": 2_048,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "vocab_size": 262_144,
    "max_position_embeddings": 32_768,
    "num_hidden_layers": 18,
}
QWEN_06B: dict[str, Any] = {
    "hidden_size": 1_024,
    "intermediate_size": 3_072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151_936,
    "max_position_embeddings": 32_768,
    "num_hidden_layers": 28,
}

# Not the default sentence, which has 18 tokens with the tiny models' tokenizer: this one has about 20, like the default
# with a released model's tokenizer.
TASK = Task("Given a web search query, retrieve the relevant passages which answer this query")


def build(folder: Path, shape: dict[str, Any]) -> str:
    """Build a model of this shape in a folder; in Gemma 3 every sixth layer is global, and the window is 512."""
    layers = shape["num_hidden_layers"]
    kinds = ["sliding_attention" if (layer + 1) % 6 else "full_attention" for layer in range(layers)]
    gemma = "query_pre_attn_scalar" in shape
    extra = {"sliding_window": 512, "layer_types": kinds} if gemma else {"layer_types": ["full_attention"] * layers}
    build_model(folder, "gemma3-sliding" if gemma else "qwen3", config={**shape, **extra})
    tokenizer = folder / "tokenizer_config.json"  # the config of a tiny model has a tiny limit
    settings = json.loads(tokenizer.read_text(encoding="utf-8"))
    settings["model_max_length"] = shape["max_position_embeddings"]
    tokenizer.write_text(json.dumps(settings), encoding="utf-8")
    return str(folder)


def documents(encoder: Encoder, tokens: float) -> list[str]:
    """Return texts of 16 to 512 tokens, log-normal with a median of 95, up to a total number of tokens."""
    chance = random.Random(0)
    words = [word for text in [*PROSE, *AWKWARD] for word in text.split()]
    alone = encoder.count_tokens(words)
    inside = encoder.count_tokens([" ".join(words)])[0] / sum(alone)  # a word has fewer tokens within a text
    lengths = {word: count * inside for word, count in zip(words, alone, strict=True)}
    texts: list[str] = []
    while tokens > 0:
        wanted = min(512.0, max(16.0, chance.lognormvariate(4.55, 0.6)))
        tokens -= wanted
        text: list[str] = []
        while wanted > 0:
            start = chance.randrange(len(words))
            for word in words[start : start + 4]:
                text.append(word)
                wanted -= lengths[word]
                if wanted <= 0:
                    break
        texts.append(" ".join(text))
    return texts


def queries(encoder: Encoder, number: int) -> list[str]:
    """Return short queries of nine and a half tokens on average, all different: equal texts would run once."""
    chance = random.Random(1)
    words = sorted({word for text in PROSE for word in text.split()})
    found: dict[str, None] = {}
    while len(found) < number:
        text = " ".join(chance.choices(words, k=chance.randint(3, 7)))
        if 7 <= own_tokens(encoder, text) <= 12:
            found[text] = None
    return list(found)


def own_tokens(encoder: Encoder, text: str) -> int:
    """Return the number of tokens, without those that every text begins and ends with."""
    one, both = encoder.count_tokens(["a", "a a"])
    return encoder.count_tokens([text])[0] - 2 * one + both


def products(shape: dict[str, Any], device: str, dtype: torch.dtype, rows: int) -> Callable[[int], None]:
    """Return a run of all matrix products of a pass, in blocks of `rows`, and nothing else: the lower bound."""
    hidden, inner, head = shape["hidden_size"], shape["intermediate_size"], shape["head_dim"]
    asked, kept = shape["num_attention_heads"] * head, shape["num_key_value_heads"] * head
    sizes = [(asked + 2 * kept, hidden), (hidden, asked), (2 * inner, hidden), (hidden, inner)]
    weights = [torch.randn(size, device=device, dtype=dtype) for size in sizes]
    inputs = torch.randn(rows, max(inner, asked), device=device, dtype=dtype)

    @torch.inference_mode()
    def run(tokens: int) -> None:
        for begin in range(0, tokens, rows):
            own = inputs[: min(rows, tokens - begin)]
            for _ in range(shape["num_hidden_layers"]):
                for weight in weights:
                    torch.mm(own[:, : weight.shape[1]], weight.T)
        if device != "cpu":
            torch.cuda.synchronize()

    return run


def seconds(run: Callable[[], object]) -> float:
    """Return the wall-clock time of one run."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin
