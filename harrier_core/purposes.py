"""The purpose of a model, according to its files: to make vectors, or to score a query and a text.

Neither is accepted in place of the other: the decoder is the same for both, and would return meaningless numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harrier_core.errors import ModelDamaged, ModelUnsupported
from harrier_core.model_files import of_kind, read_json, read_object

Check = Callable[[Path, Mapping[str, Any]], None]  # takes a model's folder and its config.json

# The modules of sentence-transformers that this kit implements: the decoder, its last token, the unit length.
_OF_EMBEDDING = {"Transformer", "Pooling", "Normalize"}
# The same for a reranker: the decoder, and the difference of two logits.
_OF_RERANKER = {"Transformer", "LogitScore"}


def check_embedding(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a model that makes no vectors, or makes them in another way than this kit would."""
    modules = _modules(folder)
    if "LogitScore" in modules:
        raise ModelUnsupported(f"{folder} is a reranker (modules.json has LogitScore); pass it to QwenReranker")
    kind = _architecture(config)
    if kind.endswith("ForSequenceClassification"):
        raise ModelUnsupported(f"{folder} is a classifier ({kind}); as a reranker, pass it to CrossEncoderReranker")
    if kind.endswith("ForCausalLM") and not modules:
        raise ModelUnsupported(
            f"{folder} is a language model ({kind}), and no modules.json says how to pool its tokens into a vector; a "
            "reranker goes to QwenReranker, and a fine-tuned embedding model needs the modules.json of its original"
        )
    _refuse_unknown(folder, modules, _OF_EMBEDDING)
    _check_pooling(folder, modules.get("Pooling", "1_Pooling"), int(config["hidden_size"]))


def check_reranker(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a model without a language-model head whose "yes" and "no" were trained to score relevance."""
    modules = _modules(folder)
    if "Pooling" in modules:
        raise ModelUnsupported(
            f"{folder} is an embedding model (modules.json has Pooling), without a head that says yes or no; give it "
            "to Encoder, and a Qwen3-Reranker to QwenReranker"
        )
    kind = _architecture(config)
    if kind.endswith("ForSequenceClassification"):
        raise ModelUnsupported(
            f"{folder} is a classifier ({kind}), without a head that says yes or no; pass it to CrossEncoderReranker"
        )
    if kind != "Qwen3ForCausalLM":
        raise ModelUnsupported(
            f"{folder} lacks a language-model head: its config.json says architectures={config.get('architectures')!r} "
            "where a Qwen3-Reranker has ['Qwen3ForCausalLM']"
        )
    _refuse_unknown(folder, modules, _OF_RERANKER)


def _modules(folder: Path) -> dict[str, str]:
    """Return the modules that sentence-transformers would assemble, with the folder of each."""
    path = folder / "modules.json"
    modules: list[Any] = of_kind(read_json(folder, "modules.json") or [], list, path)
    if not all(isinstance(module, dict) for module in modules):
        raise ModelDamaged(f"{path} is not a list of modules; fetch the model again")
    return {str(module.get("type")).rsplit(".", 1)[-1]: str(module.get("path")) for module in modules}


def _architecture(config: Mapping[str, Any]) -> str:
    """Return the transformers class that a checkpoint was saved from, or an empty string."""
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


def _refuse_unknown(folder: Path, modules: Mapping[str, str], known: set[str]) -> None:
    if unknown := next((kind for kind in modules if kind not in known), None):
        raise ModelUnsupported(f"{folder} puts a {unknown} module after its decoder, which this kit does not support")


def _check_pooling(folder: Path, pooling: str, dimensions: int) -> None:
    config = read_object(folder, f"{pooling}/config.json", required=False)
    modes = _pooling_modes(config)
    if modes and modes != ["lasttoken"]:
        raise ModelUnsupported(f"{folder} pools by {' and '.join(modes)}, but this kit pools by the last token")
    pooled = config.get("embedding_dimension", config.get("word_embedding_dimension", dimensions))
    if pooled != dimensions:
        raise ModelDamaged(f"{folder} pools {pooled} dimensions, but its config.json makes {dimensions}")


def _pooling_modes(config: Mapping[str, Any]) -> list[str]:
    """Return the pooling modes from either of the two forms that sentence-transformers has written."""
    named = config.get("pooling_mode")
    if named:
        return list(map(str, named)) if isinstance(named, list) else [str(named)]
    switches = {key: value for key, value in config.items() if key.startswith("pooling_mode_")}
    return [key.removeprefix("pooling_mode_").removesuffix("_token") for key, on in switches.items() if on]
