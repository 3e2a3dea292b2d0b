"""Multiplication by a weight matrix, in the layout that is fastest for the dtype and the number of rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

# Up to here the packed copy wins: twice as fast for a query's ten rows, on a par at 256, and 8 % slower at 1,024.
_FEW_ROWS = 256

# oneDNN compiles a kernel for each number of rows, and keeps up to 2 MB for each until the process ends. So rows
# are padded to one of eight sizes between a power of two and the next, at most an eighth more: 48 sizes instead of 256.
_SIZES = 8

# A packed copy larger than this takes too much memory for the gain; harrier-0.6b has 1.8 GB of float32 projections.
MOST_PACKED_BYTES = 4_000_000_000


class Linear:
    """A matrix as it is stored, multiplied in the dtype of the other factor."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight  # (out, in)

    def __call__(self, rows: Tensor) -> Tensor:
        """Multiply: (rows, in) to (rows, out)."""
        return F.linear(rows, self._weight.to(rows.dtype))


class PackedLinear(Linear):
    """A matrix with a second copy in oneDNN's own layout, for few rows: MKL repacks the matrix at every call."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight)

    def __call__(self, rows: Tensor) -> Tensor:
        """Multiply: (rows, in) to (rows, out)."""
        if len(rows) > _FEW_ROWS:
            return super().__call__(rows)
        padding = _padded(len(rows)) - len(rows)
        padded = F.pad(rows, (0, 0, 0, padding)) if padding else rows
        product: Tensor = torch.ops.mkldnn._linear_pointwise(padded, self._packed, None, "none", [], "")
        return product[: len(rows)]


def _padded(rows: int) -> int:
    """Return the next of the sizes for which there are kernels."""
    step = max(1, (1 << (rows - 1).bit_length()) // (2 * _SIZES))
    return -(-rows // step) * step


def can_pack() -> bool:
    """Return whether this torch has oneDNN and its operators for prepacked weights."""
    return bool(torch.backends.mkldnn.is_available()) and hasattr(torch.ops.mkldnn, "_linear_pointwise")
