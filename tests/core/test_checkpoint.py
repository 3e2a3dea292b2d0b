"""Tensors of a checkpoint are read by name, once all are known to exist and fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from harrier_core import ModelDamaged, ModelUnsupported
from harrier_core.checkpoint import Checkpoint

SHAPES = {"embed.weight": (4, 2), "norm.weight": (2,)}


def tensors() -> dict[str, torch.Tensor]:
    """Return valid tensors of different dtypes."""
    return {"embed.weight": torch.arange(8.0).reshape(4, 2), "norm.weight": torch.ones(2, dtype=torch.bfloat16)}


def saved(folder: Path, *files: dict[str, torch.Tensor]) -> list[Path]:
    paths = [folder / f"model-{number}.safetensors" for number, _ in enumerate(files)]
    for path, content in zip(paths, files, strict=True):
        save_file(content, path)
    return paths


@pytest.mark.parametrize("prefix", ["", "model."])
def test_tensors_are_read_as_they_are_stored(tmp_path: Path, prefix: str) -> None:
    """Dtypes are kept, for an encoder's or a language model's file."""
    expected = tensors()
    checkpoint = Checkpoint(saved(tmp_path, {prefix + name: each for name, each in expected.items()}), SHAPES)
    for name, tensor in expected.items():
        read = checkpoint.tensor(name)
        assert read.dtype == tensor.dtype
        assert torch.equal(read, tensor)


def test_several_files(tmp_path: Path) -> None:
    """Each tensor is read from the file that contains it."""
    expected = tensors()
    files = saved(tmp_path, *({name: tensor} for name, tensor in expected.items()))
    checkpoint = Checkpoint(files, SHAPES)
    assert all(torch.equal(checkpoint.tensor(name), tensor) for name, tensor in expected.items())
    with pytest.raises(ModelDamaged, match=r"norm\.weight is missing; fetch the model again"):
        Checkpoint(files[:1], SHAPES)


def test_a_language_model_head_is_ignored(tmp_path: Path) -> None:
    """It does not count as an unexpected tensor."""
    path = saved(tmp_path, {**tensors(), "lm_head.weight": torch.ones(4, 2)})
    assert Checkpoint(path, SHAPES).tensor("norm.weight").shape == (2,)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"norm.weight": None}, r"norm\.weight is missing; fetch"),
        ({"norm.weight": None, "embed.weight": None}, r"embed\.weight is missing \(and 1 more\); fetch"),
        ({"norm.weight": torch.ones(3)}, r"norm\.weight has shape \[3\] where \[2\] is needed; fetch"),
        ({"norm.weight": torch.ones(2, 1)}, r"norm\.weight has shape \[2, 1\] where \[2\] is needed; fetch"),
        ({"embed.weight": torch.ones(2, 4)}, r"embed\.weight has shape \[2, 4\] where \[4, 2\] is needed; fetch"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    """They are reported before anything is read, with the folder and the remedy."""
    changed = {name: each for name, each in {**tensors(), **changes}.items() if each is not None}
    files = saved(tmp_path, changed or {"lm_head.weight": torch.ones(1)})
    with pytest.raises(ModelDamaged, match=rf"the weights of .*{tmp_path.name} do not fit its config\.json: {reason}"):
        Checkpoint(files, SHAPES)


def test_unexpected_tensors(tmp_path: Path) -> None:
    """The error is not that of a damaged download."""
    files = saved(tmp_path, {**tensors(), "extra.weight": torch.ones(1)})
    with pytest.raises(ModelUnsupported, match=r"does not describe, 1 in all, such as extra\.weight; .* another archi"):
        Checkpoint(files, SHAPES)


@pytest.mark.parametrize("content", [b"", b"no safetensors at all", b"\xff" * 64])
def test_an_unreadable_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelDamaged, match=r"model\.safetensors cannot be loaded: .*; fetch the model again"):
        Checkpoint([path], SHAPES)
    path.unlink()
    with pytest.raises(ModelDamaged, match=r"model\.safetensors cannot be loaded: .*; fetch the model again"):
        Checkpoint([path], SHAPES)
