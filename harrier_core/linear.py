"""Multiplication by a weight matrix, in the layout that is fastest for the format and the number of rows."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from harrier_core.errors import DeviceError

# Up to here the packed copy wins: twice as fast for a query's ten rows, as fast at 256, and 8 % slower at 1,024.
_FEW_ROWS = 256

# A packed copy of more than this is too much memory for the gain; harrier-0.6b has 1.8 GB of float32 projections.
MOST_PACKED_BYTES = 4_000_000_000

# Eight bits for activations, which have outliers, and seven for weights: on CPUs without VNNI a pair of products of
# eight bits each overflows the sixteen that they are added up in.
_ACTIVATION_STEPS = 127
_WEIGHT_STEPS = 63
_INT8 = "linear_with_input_q_dq_qweight_dq_output_fp32"


class Linear:
    """A matrix as it is stored, multiplied in the format of what it is multiplied with."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight  # (out, in)

    def __call__(self, rows: Tensor) -> Tensor:
        """(rows, in) to (rows, out)."""
        return F.linear(rows, self._weight.to(rows.dtype))


class PackedLinear(Linear):
    """Beside it a copy in oneDNN's own layout, for few rows: MKL lays the matrix out anew at every call."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight)

    def __call__(self, rows: Tensor) -> Tensor:
        """(rows, in) to (rows, out)."""
        if len(rows) > _FEW_ROWS:
            return super().__call__(rows)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, None, "none", [], "")
        return product


class QuantizedLinear:
    """Whole numbers: weights with a scale a row, activations with a scale a token, so that no text sees its neighbours.

    The kernel knows one scale for all activations. They come to it divided by their own, and it gets a scale of 1.
    """

    def __init__(self, weight: Tensor) -> None:
        scales = (weight.abs().amax(dim=1).double() / _WEIGHT_STEPS).clamp(min=1e-12)  # (out,)
        zeros = torch.zeros(len(weight), dtype=torch.long)
        # For as long as torch has them, these kernels are the fastest for few rows: its new ones take four times as
        # long for ten, more than float32 does. Without them int8 is refused.
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor, torch.quantize_per_channel", UserWarning)
        whole = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self._packed = torch.ops.quantized.linear_prepack(whole, None)

    def __call__(self, rows: Tensor) -> Tensor:
        """(rows, in) to (rows, out)."""
        largest = torch.linalg.vector_norm(rows, torch.inf, dim=1, keepdim=True)  # (rows, 1)
        scales = largest.mul_(1 / _ACTIVATION_STEPS).clamp_(min=1e-12)
        product: Tensor = getattr(torch.ops.quantized, _INT8)(rows / scales, 1.0, _ACTIVATION_STEPS + 1, self._packed)
        return product.mul_(scales)


def can_pack() -> bool:
    """Whether this torch has oneDNN and its operators for prepacked weights."""
    return bool(torch.backends.mkldnn.is_available()) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def refuse_without_int8() -> None:
    """Raise where torch has no kernel for whole numbers with a scale a row."""
    gone = not hasattr(torch, "quantize_per_channel") or not hasattr(torch.ops.quantized, _INT8)
    if gone or torch.backends.quantized.engine not in ("x86", "fbgemm"):
        raise DeviceError(
            f"dtype='int8' needs torch's FBGEMM kernels for x86 CPUs, which torch {torch.__version__} does not have "
            "here; use dtype='float32'"
        )
