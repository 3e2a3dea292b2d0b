"""Tiny real models, built by code in about a second: genuine Qwen3 and Gemma 3 decoders with their companion files.

They are made with numpy and the tokenizers library alone, so building one loads neither torch nor transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tokenizers import Tokenizer

from harrier_core.architecture import read_architecture
from harrier_core.testing.sample import PROMPTS
from harrier_core.testing.tokenizers import gemma_tokenizer, qwen_tokenizer
from harrier_core.testing.words import word_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

Architecture = Literal["qwen3", "gemma3", "gemma3-sliding"]
ARCHITECTURES: tuple[Architecture, ...] = ("qwen3", "gemma3", "gemma3-sliding")

_MODULES = ("Transformer", "Pooling", "Normalize")

_SHARED: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "dtype": "bfloat16",
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 1_000_000.0,
    "tie_word_embeddings": True,
    "transformers_version": "4.57.6",
    "use_cache": True,
}
_QWEN3: dict[str, Any] = {
    "architectures": ["Qwen3Model"],
    "model_type": "qwen3",
    "hidden_act": "silu",
    "sliding_window": None,
    "use_sliding_window": False,
}
_GEMMA3: dict[str, Any] = {
    "architectures": ["Gemma3TextModel"],
    "model_type": "gemma3_text",
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "hidden_activation": "gelu_pytorch_tanh",
    "rope_local_base_freq": 10_000.0,
    "sliding_window": 16,
    "use_bidirectional_attention": False,
}

# Layers, query heads, and key-value heads: one of the latter in Gemma 3 270m, several in the others.
_SHAPES: dict[str, tuple[dict[str, Any], list[str], int, int]] = {
    "qwen3": (_QWEN3, ["full_attention"] * 3, 4, 2),
    "gemma3": (_GEMMA3, ["full_attention"] * 3, 4, 1),
    "gemma3-sliding": (_GEMMA3, ["sliding_attention", "sliding_attention", "full_attention"] * 2, 4, 2),
}


def build_model(
    folder: str | Path,
    architecture: Architecture = "qwen3",
    *,
    vectors: Literal["random", "words"] = "random",
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a tiny model into a folder and return the folder; the same arguments give the same model.

    vectors="random" has random weights: its numbers are as sensitive to every token as a real model's, but meaningless.
    vectors="words" compares texts by the words they share, so that results make sense to a reader. It is a stand-in: it
    knows no meaning and no second language, and an instruction hardly changes its vectors.

    config: overrides for config.json, such as the sizes of a real model for measuring speed.
    """
    folder = Path(folder)
    tokenizer, tokenizer_config = qwen_tokenizer() if architecture == "qwen3" else gemma_tokenizer()
    settings = {**_config(architecture, tokenizer, vectors), **(config or {})}
    weights = _random_weights(settings, seed) if vectors == "random" else word_weights(settings, tokenizer, seed)
    _write_companions(folder, settings, tokenizer_config)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_weights(folder / "model.safetensors", weights)
    return folder


def write_weights(file: str | Path, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Save tensors as bfloat16, the dtype of the released checkpoints.

    This is done by hand, because numpy has no bfloat16: a safetensors file is a length, a JSON header of that length,
    and the data.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, values in weights.items():
        begin, end = end, end + 2 * values.size
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8
    with Path(file).open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for values in weights.values():
            stream.write(_bfloat16(values))


def _config(architecture: Architecture, tokenizer: Tokenizer, vectors: str) -> dict[str, Any]:
    family, layers, heads, key_heads = _SHAPES[architecture]
    if vectors == "words":  # one averaging layer, wide enough to tell some thousand words apart
        sizes = {"hidden_size": 256, "head_dim": 64, "intermediate_size": 16}
        layers, heads, key_heads = ["full_attention"], 4, 4
    else:
        sizes = {"hidden_size": 64, "head_dim": 32, "intermediate_size": 128}
    config = {
        **_SHARED,
        **family,
        **sizes,
        "layer_types": layers,
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "vocab_size": tokenizer.get_vocab_size() + 11,  # released tables are longer than their vocabularies
    }
    if family is _GEMMA3:
        config["query_pre_attn_scalar"] = config["head_dim"]
    return config


def _random_weights(config: Mapping[str, Any], seed: int) -> dict[str, NDArray[np.float32]]:
    """Return projections that keep a signal's size, and norms near one (which Gemma stores minus one)."""
    random = np.random.default_rng(seed)
    centre = 0.0 if config["model_type"] == "gemma3_text" else 1.0
    weights = {}
    for name, shape in read_architecture(config).weight_shapes().items():
        values = random.standard_normal(shape, dtype=np.float32)
        weights[name] = centre + 0.2 * values if len(shape) == 1 else values * np.float32(shape[-1] ** -0.5)
    return weights


def _write_companions(folder: Path, config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> None:
    """Write the files that accompany weights and tokenizer in the released repositories."""
    pooling = {f"pooling_mode_{mode}": False for mode in ("cls_token", "mean_tokens", "max_tokens")}
    names = ("", "1_Pooling", "2_Normalize")
    files: dict[str, Any] = {
        "config.json": config,
        "tokenizer_config.json": {**tokenizer_config, "model_max_length": 2_048},
        "config_sentence_transformers.json": {
            "prompts": PROMPTS,
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        "1_Pooling/config.json": {
            "word_embedding_dimension": config["hidden_size"],
            **pooling,
            "pooling_mode_lasttoken": True,
            "include_prompt": True,
        },
        "modules.json": [
            {
                "idx": number,
                "name": str(number),
                "path": names[number],
                "type": f"sentence_transformers.models.{module}",
            }
            for number, module in enumerate(_MODULES)
        ],
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def _bfloat16(values: NDArray[np.float32]) -> bytes:
    """Return the upper half of each float32, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounded: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return rounded.tobytes()
