"""Forward passes of a decoder and of its reference, for tests of the layers in between."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from harrier_core import attention
from harrier_core.architecture import read_architecture
from harrier_core.attention import Ragged, Varlen
from harrier_core.checkpoint import Checkpoint
from harrier_core.decoder import Decoder
from harrier_core.device import choose
from harrier_core.fallback import Fallback
from harrier_core.token_rows import Row

LENGTHS = [1, 2, 15, 16, 17, 31, 32, 33, 34, 63, 64, 65, 66, 95, 96, 97, 98, 255, 480]


def load(folder: Path, dtype: str = "float32") -> tuple[Decoder, Fallback]:
    """Return the kit's forward pass and its reference."""
    placement = choose("qwen3", "cpu", dtype)
    architecture = read_architecture(json.loads((folder / "config.json").read_text()))
    checkpoint = Checkpoint([folder / "model.safetensors"], architecture.weight_shapes())
    return Decoder(architecture, checkpoint, placement), Fallback(folder, placement)


def some_rows(lengths: list[int], shared: tuple[int, ...] = (), seed: int = 0) -> list[Row]:
    chance = random.Random(seed)
    return [Row([chance.randrange(1_000) for _ in range(length)], shared) for length in lengths]


def error(ours: Tensor, theirs: Tensor) -> float:
    unit = torch.nn.functional.normalize
    return float((unit(ours, dim=1) - unit(theirs, dim=1)).abs().max())


def make_ragged(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, parameters: tuple[str, ...] = ("num_splits", "enable_gqa")
) -> None:
    """Make a decoder on a CPU lay out its passes as for a GPU kernel with these parameters."""
    kernel = Varlen(_by_its_documentation, frozenset(parameters))
    monkeypatch.setattr(attention, "varlen", lambda: kernel)
    decoder._layout = Ragged


def _by_its_documentation(
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
    enable_gqa: bool = False,
    num_splits: int | None = None,
) -> Tensor:
    """Compute varlen_attn one text at a time, with queries aligned to the end of the keys."""
    assert num_splits in (None, 1)
    assert enable_gqa == (query.shape[1] > key.shape[1])
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    for bounds, all_, longest in ((cu_seq_q, len(query), max_q), (cu_seq_k, len(key), max_k)):
        assert bounds[-1].item() == all_
        assert bounds.diff().max().item() <= longest
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
