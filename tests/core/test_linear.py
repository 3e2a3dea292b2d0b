"""Matrix products: each layout equals plain multiplication."""

from __future__ import annotations

import pytest
import torch

from harrier_core.linear import _FEW_ROWS, Linear, PackedLinear

WEIGHT = torch.randn(96, 64, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(_FEW_ROWS + 5, 64, generator=torch.Generator().manual_seed(1))
PRODUCT = ROWS.double() @ WEIGHT.double().T


@pytest.mark.parametrize("rows", [1, 2, 10, 17, 33, 200, _FEW_ROWS, _FEW_ROWS + 1])
@pytest.mark.parametrize("layout", [Linear, PackedLinear])
@torch.inference_mode()
def test_exact(layout: type[Linear], rows: int) -> None:
    """Results are exact in float32 for any number of rows."""
    assert torch.allclose(layout(WEIGHT)(ROWS[:rows]).double(), PRODUCT[:rows], atol=1e-5)


@torch.inference_mode()
def test_the_dtype_of_the_rows() -> None:
    """float32 rows are multiplied in float32, whatever the dtype of the weights."""
    rounded = WEIGHT.bfloat16()
    assert torch.allclose(Linear(rounded)(ROWS).double(), ROWS.double() @ rounded.double().T, atol=1e-5)


@torch.inference_mode()
def test_few_kernels(capfd: pytest.CaptureFixture[str]) -> None:
    """Any number of rows uses a few kernels, because each keeps memory until the process ends."""
    linear = PackedLinear(torch.ones(56, 72))  # no other test has kernels of this shape
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON_CREATION):  # type: ignore[no-untyped-call]
        for rows in range(1, _FEW_ROWS + 1):
            linear(torch.ones(rows, 72))
    said = capfd.readouterr().out
    assert 40 < said.count("create:cache_miss,cpu,inner_product") < 50
