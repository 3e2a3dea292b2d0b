"""The layout for the GPU's kernel of ragged batches, on a CPU: what is handed to it, not how it computes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from passes import LENGTHS, error, load, some_rows
from torch import Tensor

from harrier_core import attention
from harrier_core.attention import Ragged
from harrier_core.packing import Row
from harrier_core.testing import ARCHITECTURES


def by_its_documentation(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
    num_splits: int,
) -> Tensor:
    """varlen_attn, one text after the other, its last queries at the end of its keys."""
    assert num_splits == 1
    assert enable_gqa == (query.shape[1] > key.shape[1])
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    for bounds, all_, longest in ((cu_seq_q, len(query), max_q), (cu_seq_k, len(key), max_k)):
        assert bounds[-1].item() == all_
        assert bounds.diff().max().item() == longest
    left, right = window_size
    assert right == 0
    attended = []
    for text in range(len(cu_seq_q) - 1):
        asking = query[cu_seq_q[text] : cu_seq_q[text + 1]].transpose(0, 1)
        seen, told = (each[cu_seq_k[text] : cu_seq_k[text + 1]].transpose(0, 1) for each in (key, value))
        columns = torch.arange(seen.shape[1])
        rows = columns[-asking.shape[1] :, None]
        mask = (columns <= rows) & ((left < 0) | (columns >= rows - left))
        repeats = asking.shape[0] // seen.shape[0]
        seen, told = (each.repeat_interleave(repeats, 0) for each in (seen, told))
        attended.append(F.scaled_dot_product_attention(asking, seen, told, mask, scale=scale).transpose(0, 1))
    return torch.cat(attended)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_ragged_is_groups(architecture: Any, built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """All lengths in one call, behind several beginnings and none: the vectors are those of equal-length groups."""
    decoder, _ = load(built(architecture))
    beginnings: list[tuple[int, ...]] = [(), tuple(range(7, 27)), tuple(range(9, 50))]
    rows: list[Row] = [row for shared in beginnings for row in some_rows([*LENGTHS[:-1], 1, 1], shared)]
    random.Random(0).shuffle(rows)
    expected = decoder.launch(rows)()
    decoder._beginnings.clear()
    monkeypatch.setattr(attention, "varlen_attn", by_its_documentation)
    monkeypatch.setattr(attention, "_HAS", {"num_splits"})
    decoder._layout = Ragged
    assert error(decoder.launch(rows)(), expected) < 1e-6
    assert error(decoder.launch(rows[:1])(), expected[:1]) < 1e-6


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_where_it_is_not(device: str) -> None:
    """Only a CUDA device has that kernel."""
    assert not attention.can_be_ragged(torch.device(device), torch.bfloat16, 128)
