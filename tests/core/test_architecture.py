"""What config.json says of a decoder; and what it says that we do not compute is refused, never passed over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from harrier_core import ModelUnsupported
from harrier_core.architecture import Layer, read_architecture


def config_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return content


def test_layers(built: Callable[..., Path]) -> None:
    """Windows and rotary bases are each layer's own."""
    sliding, full = Layer(16, 10_000.0, 1.0), Layer(None, 1_000_000.0, 1.0)
    assert read_architecture(config_of(built("gemma3-sliding"))).layers == (sliding, sliding, full) * 2
    assert read_architecture(config_of(built("gemma3"))).layers == (full,) * 3
    assert read_architecture(config_of(built())).layers == (full,) * 3


def test_scaled_positions(built: Callable[..., Path]) -> None:
    """As Gemma 3 27b has them: its global layers are stretched, its local ones are not."""
    config = {**config_of(built("gemma3-sliding")), "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    assert {layer.rope_stretch for layer in read_architecture(config).layers if layer.window is None} == {8.0}
    assert {layer.rope_stretch for layer in read_architecture(config).layers if layer.window} == {1.0}


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3", "gemma3-sliding"])
def test_as_either_transformers_writes_it(built: Callable[..., Path], architecture: str, tmp_path: Path) -> None:
    """transformers 5 saves rotary positions in another form than 4 does; whichever runs here writes the same model."""
    AutoConfig.from_pretrained(built(architecture)).save_pretrained(tmp_path)
    assert read_architecture(config_of(tmp_path)) == read_architecture(config_of(built(architecture)))


@pytest.mark.parametrize(
    ("architecture", "changes", "reason"),
    [
        ("qwen3", {"model_type": "llama"}, "model_type='llama'"),
        ("qwen3", {"attention_bias": True}, "attention_bias=True"),
        ("qwen3", {"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ("qwen3", {"layer_types": ["chunked_attention"] * 3}, "layers of 'chunked_attention'"),
        ("qwen3", {"rope_scaling": {"rope_type": "yarn", "factor": 4}}, "scales rotary positions by 'yarn'"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, r"attn_logit_softcapping=50\.0"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        ("gemma3", {"hidden_activation": "gelu"}, "hidden_activation='gelu'"),
    ],
)
def test_what_is_not_computed(built: Callable[..., Path], architecture: str, changes: Any, reason: str) -> None:
    """Each of these would change the vectors."""
    with pytest.raises(ModelUnsupported, match=reason):
        read_architecture({**config_of(built(architecture)), **changes})


def test_a_config_that_leaves_something_out(built: Callable[..., Path]) -> None:
    """Older configs may; nothing is assumed."""
    config = config_of(built())
    del config["layer_types"]
    with pytest.raises(ModelUnsupported, match="does not say layer_types"):
        read_architecture(config)
