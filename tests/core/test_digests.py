"""Digests are equal for equal models, however their files are split, and differ if a value changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from harrier_core import ModelDamaged
from harrier_core.digests import tokenizer_digest, weights_digest
from harrier_core.testing import write_weights


@pytest.fixture
def tensors() -> dict[str, NDArray[np.float32]]:
    """Return one tensor that is sampled, and one that is read completely."""
    random = np.random.default_rng(0)
    return {"large": random.standard_normal((64, 1024), dtype=np.float32), "small": np.ones(7, dtype=np.float32)}


def digest(folder: Path, *files: dict[str, NDArray[np.float32]]) -> str:
    for number, tensors in enumerate(files):
        write_weights(folder / f"{number}.safetensors", tensors)
    return weights_digest([folder / f"{number}.safetensors" for number in range(len(files))], {})


def test_sharding_does_not_matter(tensors: dict[str, NDArray[np.float32]], tmp_path: Path) -> None:
    """A checkpoint has the same digest after it is sharded again."""
    whole = digest(tmp_path, tensors)
    small, large = {"small": tensors["small"]}, {"large": tensors["large"]}
    assert whole == digest(tmp_path, large, small) == digest(tmp_path, small, large)
    assert whole == digest(tmp_path, {**small, **large})


def test_any_change_shows(tensors: dict[str, NDArray[np.float32]], tmp_path: Path) -> None:
    """A change of values, names or shapes changes the digest."""
    large, small = tensors["large"], tensors["small"]
    others = [
        {**tensors, "large": large * 1.01},
        {**tensors, "large": large.reshape(1024, 64)},
        {**tensors, "small": small * np.array([1, 1, 1, 1, 1, 1, 2], dtype=np.float32)},
        {"large": large, "tiny": small},
        {"large": large},
    ]
    digests = [digest(tmp_path, each) for each in [tensors, *others]]
    assert len(set(digests)) == len(digests)


def test_it_reads_samples_only(tmp_path: Path) -> None:
    """A sparse file of 64 GiB is not read completely."""
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2**15, 2**20], "data_offsets": [0, 2**36]}}).encode()
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2**36)
    assert len(weights_digest([path], {})) == 32


@pytest.mark.parametrize("damage", ["empty", "header", "cut", "longer", "text", "offsets"])
def test_a_damaged_file(tensors: dict[str, NDArray[np.float32]], tmp_path: Path, damage: str) -> None:
    """The error names a file that is not a complete safetensors file."""
    write_weights(tmp_path / "model.safetensors", tensors)
    content = (tmp_path / "model.safetensors").read_bytes()
    damaged = {
        "empty": b"",
        "header": content[:100],
        "cut": content[:-1],
        "longer": content + b"x",
        "text": b"<!DOCTYPE html>" * 100,
        "offsets": content.replace(b"data_offsets", b"data_0ffsets"),
    }
    (tmp_path / "model.safetensors").write_bytes(damaged[damage])
    with pytest.raises(
        ModelDamaged, match=r"model\.safetensors is not a complete safetensors file: .*; fetch the model"
    ):
        weights_digest([tmp_path / "model.safetensors"], {})


def test_tokenizers(built: Callable[..., Path], tmp_path: Path) -> None:
    """Padding, truncation and JSON layout do not change the digest; a merge does."""
    original = built() / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(original))
    tokenizer.enable_truncation(7)
    tokenizer.enable_padding()
    tokenizer.save(str(tmp_path / "same.json"), pretty=False)
    assert tokenizer_digest(original, ([], [])) == tokenizer_digest(tmp_path / "same.json", ([], []))
    content = json.loads(original.read_text(encoding="utf-8"))
    content["model"]["merges"].pop()
    (tmp_path / "other.json").write_text(json.dumps(content))
    assert tokenizer_digest(original, ([], [])) != tokenizer_digest(tmp_path / "other.json", ([], []))
