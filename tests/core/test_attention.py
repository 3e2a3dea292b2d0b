"""The layout for the GPU kernel of ragged batches, tested on a CPU."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from passes import LENGTHS, error, load, make_ragged, some_rows

from harrier_core import attention
from harrier_core.testing import ARCHITECTURES
from harrier_core.token_rows import Row


@pytest.mark.parametrize("parameters", [("num_splits", "enable_gqa"), ()], ids=["torch-2.13", "torch-2.11"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_ragged_batches_equal_groups(
    architecture: Any, parameters: tuple[str, ...], built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One ragged call gives the same vectors as calls by length, with and without shared prefixes."""
    decoder, _ = load(built(architecture))
    beginnings: list[tuple[int, ...]] = [(), tuple(range(7, 27)), tuple(range(9, 50))]
    rows: list[Row] = [row for shared in beginnings for row in some_rows([*LENGTHS[:-1], 1, 1], shared)]
    random.Random(0).shuffle(rows)
    expected = decoder.launch(rows)()
    decoder._beginnings.clear()
    make_ragged(decoder, monkeypatch, parameters)
    assert error(decoder.launch(rows)(), expected) < 1e-6
    assert error(decoder.launch(rows[:1])(), expected[:1]) < 1e-6


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_devices_without_the_kernel(device: str) -> None:
    """Only CUDA devices have the kernel."""
    assert not attention.can_be_ragged(torch.device(device), torch.bfloat16, 128)
