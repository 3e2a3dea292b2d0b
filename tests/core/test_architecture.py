"""Decoder settings from config.json; unsupported ones are refused, never ignored."""

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
    """Attention windows and rotary bases are set per layer."""
    sliding, full = Layer(16, 10_000.0, 1.0), Layer(None, 1_000_000.0, 1.0)
    assert read_architecture(config_of(built("gemma3-sliding"))).layers == (sliding, sliding, full) * 2
    assert read_architecture(config_of(built("gemma3"))).layers == (full,) * 3
    assert read_architecture(config_of(built())).layers == (full,) * 3


def test_scaled_positions(built: Callable[..., Path]) -> None:
    """Global layers of Gemma 3 27b have scaled positions, and local ones do not."""
    config = {**config_of(built("gemma3-sliding")), "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    assert {layer.rope_stretch for layer in read_architecture(config).layers if layer.window is None} == {8.0}
    assert {layer.rope_stretch for layer in read_architecture(config).layers if layer.window} == {1.0}


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3", "gemma3-sliding"])
def test_configs_of_transformers_4_and_5(built: Callable[..., Path], architecture: str, tmp_path: Path) -> None:
    """Both releases write rotary positions differently, and both are read."""
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
def test_unsupported_settings(built: Callable[..., Path], architecture: str, changes: Any, reason: str) -> None:
    """Each unsupported setting would change the vectors, and is refused."""
    with pytest.raises(ModelUnsupported, match=reason):
        read_architecture({**config_of(built(architecture)), **changes})


def test_an_incomplete_config(built: Callable[..., Path]) -> None:
    """Older configs may lack settings; nothing is assumed."""
    config = config_of(built())
    del config["layer_types"]
    with pytest.raises(ModelUnsupported, match="lacks layer_types"):
        read_architecture(config)
