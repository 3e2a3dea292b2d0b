"""A decoder's shapes and other properties, read from its config.json. Pure.

It knows Qwen3 and Gemma 3. Any setting in a config that it does not know is an error: nothing is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harrier_core.errors import ModelDamaged, ModelUnsupported

# Settings that change the result, and the only values for which it is computed.
_FIXED: Mapping[str, tuple[Any, ...]] = {
    "model_type": ("qwen3", "gemma3_text"),
    "attention_bias": (None, False),
    "attn_logit_softcapping": (None,),
    "use_bidirectional_attention": (None, False),
    "hidden_act": (None, "silu"),
    "hidden_activation": (None, "gelu_pytorch_tanh"),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """The attention settings of one layer."""

    window: int | None  # how many tokens it sees, the token itself included; None: all before it
    rope_base: float
    rope_stretch: float  # positions are divided by it


@dataclass(frozen=True, slots=True)
class Architecture:
    """The properties that distinguish one decoder from another.

    Gemma 3 scales its embeddings, also norms what each branch adds, and stores its norm weights minus one.
    """

    gemma: bool
    vocabulary: int
    hidden: int
    inner: int
    heads: int
    key_heads: int
    head: int
    epsilon: float
    attention_scale: float
    layers: tuple[Layer, ...]

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor of such a decoder, by its name in a checkpoint."""
        queries, keys = self.heads * self.head, self.key_heads * self.head
        layer: dict[str, tuple[int, ...]] = {
            "self_attn.q_proj.weight": (queries, self.hidden),
            "self_attn.k_proj.weight": (keys, self.hidden),
            "self_attn.v_proj.weight": (keys, self.hidden),
            "self_attn.o_proj.weight": (self.hidden, queries),
            "self_attn.q_norm.weight": (self.head,),
            "self_attn.k_norm.weight": (self.head,),
            "mlp.gate_proj.weight": (self.inner, self.hidden),
            "mlp.up_proj.weight": (self.inner, self.hidden),
            "mlp.down_proj.weight": (self.hidden, self.inner),
            "input_layernorm.weight": (self.hidden,),
            "post_attention_layernorm.weight": (self.hidden,),
        }
        if self.gemma:
            layer["pre_feedforward_layernorm.weight"] = (self.hidden,)
            layer["post_feedforward_layernorm.weight"] = (self.hidden,)
        layers = {
            f"layers.{number}.{name}": shape for number in range(len(self.layers)) for name, shape in layer.items()
        }
        return {"embed_tokens.weight": (self.vocabulary, self.hidden), **layers, "norm.weight": (self.hidden,)}


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """Return the architecture of a config.json, as written by transformers 4 or 5."""
    for key, known in _FIXED.items():
        if config.get(key) not in known:
            raise ModelUnsupported(f"its config.json says {key}={config.get(key)!r}")
    gemma = config["model_type"] == "gemma3_text"
    try:
        head = int(config["head_dim"])
        if len(config["layer_types"]) != config["num_hidden_layers"]:
            raise ModelUnsupported("its config.json lists more or fewer layer types than there are layers")
        return Architecture(
            gemma=gemma,
            vocabulary=int(config["vocab_size"]),
            hidden=int(config["hidden_size"]),
            inner=int(config["intermediate_size"]),
            heads=int(config["num_attention_heads"]),
            key_heads=int(config["num_key_value_heads"]),
            head=head,
            epsilon=float(config["rms_norm_eps"]),
            attention_scale=float(config["query_pre_attn_scalar"] if gemma else head) ** -0.5,
            layers=tuple(_layer(config, kind) for kind in config["layer_types"]),
        )
    except KeyError as error:
        raise ModelUnsupported(f"its config.json lacks {error.args[0]}") from None
    except (TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        raise ModelDamaged(f"its config.json has a value of an unexpected type: {error}") from None


def _layer(config: Mapping[str, Any], kind: str) -> Layer:
    if kind not in ("full_attention", "sliding_attention"):
        raise ModelUnsupported(f"its config.json has layers of {kind!r}")
    base, scaling = _rope(config, kind)
    method = scaling.get("rope_type", scaling.get("type", "default"))
    if method not in ("default", "linear"):
        raise ModelUnsupported(f"its config.json scales rotary positions by {method!r}")
    stretch = float(scaling["factor"]) if method == "linear" else 1.0
    return Layer(int(config["sliding_window"]) if kind == "sliding_attention" else None, base, stretch)


def _rope(config: Mapping[str, Any], kind: str) -> tuple[float, Mapping[str, Any]]:
    """Return the base of a layer's rotary positions, and their scaling."""
    if "rope_parameters" in config:  # transformers 5: one set for all layers, or one for each kind
        parameters = config["rope_parameters"].get(kind, config["rope_parameters"])
        return float(parameters["rope_theta"]), parameters
    if config["model_type"] == "gemma3_text" and kind == "sliding_attention":
        return float(config["rope_local_base_freq"]), {}  # Gemma scales only the others
    return float(config["rope_theta"]), config.get("rope_scaling") or {}
