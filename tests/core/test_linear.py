"""Products with a matrix: each layout gives what plain multiplication gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harrier_core import DeviceError, Encoder, ModelWarning
from harrier_core.linear import _FEW_ROWS, Linear, PackedLinear, QuantizedLinear
from harrier_core.testing import PROSE

WEIGHT = torch.randn(96, 64, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(_FEW_ROWS + 5, 64, generator=torch.Generator().manual_seed(1))
PRODUCT = ROWS.double() @ WEIGHT.double().T


@pytest.mark.parametrize("rows", [1, 2, 10, _FEW_ROWS, _FEW_ROWS + 1])
@pytest.mark.parametrize("layout", [Linear, PackedLinear])
@torch.inference_mode()
def test_exact(layout: type[Linear], rows: int) -> None:
    """To float32's last bits, at any number of rows."""
    assert torch.allclose(layout(WEIGHT)(ROWS[:rows]).double(), PRODUCT[:rows], atol=1e-5)


@torch.inference_mode()
def test_in_the_format_of_the_rows() -> None:
    """Rows in float32 are multiplied in float32, with weights that are stored in less."""
    rounded = WEIGHT.bfloat16()
    assert torch.allclose(Linear(rounded)(ROWS).double(), ROWS.double() @ rounded.double().T, atol=1e-5)


@torch.inference_mode()
def test_whole_numbers() -> None:
    """Within two per cent, rows of any size, and zeros are zeros."""
    product = QuantizedLinear(WEIGHT)(ROWS)
    assert 1e-4 < (product - PRODUCT).norm() / PRODUCT.norm() < 0.02
    assert torch.allclose(QuantizedLinear(WEIGHT)(ROWS * 1e6), product * 1e6, rtol=1e-4)
    assert not QuantizedLinear(WEIGHT)(torch.zeros(1, 64)).any()
    assert not QuantizedLinear(torch.zeros(96, 64))(ROWS).any()


@torch.inference_mode()
def test_whole_numbers_do_not_overflow() -> None:
    """The largest that there are, all of one sign: a CPU without VNNI adds up pairs in sixteen bits."""
    weight, rows = torch.full((96, 64), 3.0), torch.full((4, 64), 2.0)
    assert torch.allclose(QuantizedLinear(weight)(rows), rows @ weight.T, rtol=1e-4)
    assert torch.allclose(QuantizedLinear(-weight)(rows), -rows @ weight.T, rtol=1e-4)


@torch.inference_mode()
def test_a_row_does_not_see_its_neighbours() -> None:
    """One scale for all of them would be that of the largest."""
    quantized = QuantizedLinear(WEIGHT)
    huge = torch.cat([ROWS[:1], ROWS[1:2] * 1e6])
    assert torch.equal(quantized(huge)[:1], quantized(ROWS[:1]))


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3"])
def test_int8_vectors(architecture: Any, built: Callable[..., Path]) -> None:
    """Near those of float32, the same alone and in company, and told apart by their space."""
    with Encoder(built(architecture)) as exact, Encoder(built(architecture), dtype="int8") as quantized:
        expected = exact.encode_documents(PROSE)
        with pytest.warns(ModelWarning, match="may be noise"):  # of trained weights
            found = quantized.encode_documents(PROSE)
        assert 0.99 < (expected * found).sum(axis=1).min() < 0.99999
        alone = np.concatenate([quantized.encode_documents([text]) for text in PROSE])
        assert np.abs(alone - found).max() < 1e-5
        assert quantized.space.dtype == "int8"
        assert exact.space == quantized.space


def test_int8_is_for_cpus(built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a kind that torch has the kernels for."""
    monkeypatch.setattr("torch.backends.quantized.engine", "qnnpack")
    with (
        Encoder(built(), dtype="int8") as encoder,
        pytest.raises(DeviceError, match="int8.*needs torch's FBGEMM kernels"),
        pytest.warns(ModelWarning, match="may be noise"),
    ):
        encoder.encode_documents(["a text"])
