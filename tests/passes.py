"""Passes of a decoder and of its oracle, for the tests of what is in between."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from torch import Tensor

from harrier_core.architecture import read_architecture
from harrier_core.checkpoint import Checkpoint
from harrier_core.decoder import Decoder
from harrier_core.device import place
from harrier_core.fallback import Fallback
from harrier_core.packing import Row

LENGTHS = [1, 2, 15, 16, 17, 31, 32, 33, 34, 63, 64, 65, 66, 95, 96, 97, 98, 255, 480]


def load(folder: Path) -> tuple[Decoder, Fallback]:
    """Our forward pass and its oracle."""
    placement = place("qwen3", "cpu")
    architecture = read_architecture(json.loads((folder / "config.json").read_text()))
    checkpoint = Checkpoint([folder / "model.safetensors"], architecture.weight_shapes())
    return Decoder(architecture, checkpoint, placement), Fallback(folder, placement)


def some_rows(lengths: list[int], shared: tuple[int, ...] = (), seed: int = 0) -> list[Row]:
    chance = random.Random(seed)
    return [Row([chance.randrange(1_000) for _ in range(length)], shared) for length in lengths]


def error(ours: Tensor, theirs: Tensor) -> float:
    unit = torch.nn.functional.normalize
    return float((unit(ours, dim=1) - unit(theirs, dim=1)).abs().max())
