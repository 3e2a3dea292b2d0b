"""The tiny models are real, reproducible and light, and word models retrieve as a reader expects."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, Gemma3TextModel, Qwen3Model

from harrier_core import Encoder
from harrier_core.architecture import read_architecture
from harrier_core.digests import tokenizer_digest, weights_digest
from harrier_core.testing import ARCHITECTURES, PROSE, Architecture, build_model

BUILD = """
import sys
from harrier_core.testing import build_model
for vectors in ("random", "words"):
    build_model(f"{sys.argv[1]}/{vectors}", sys.argv[2], vectors=vectors)
print([name for name in ("torch", "transformers") if name in sys.modules])
"""


def tokenizer_of(folder: Path) -> str:
    return tokenizer_digest(folder / "tokenizer.json", ([], []))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_same_in_every_process(architecture: Architecture, built: Callable[..., Path], tmp_path: Path) -> None:
    """Another process and hash seed writes the same files, without torch or transformers."""
    command = [sys.executable, "-c", BUILD, str(tmp_path), architecture]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": "7"}).stdout
    assert output == "[]\n"
    for vectors in ("random", "words"):
        here, there = built(architecture, vectors=vectors), tmp_path / vectors
        files = sorted(path.relative_to(here) for path in here.rglob("*") if path.is_file())
        assert files == sorted(path.relative_to(there) for path in there.rglob("*") if path.is_file())
        assert weights_digest([here / "model.safetensors"], {}) == weights_digest([there / "model.safetensors"], {})
        assert tokenizer_digest(here / "tokenizer.json", ([], [])) == tokenizer_digest(
            there / "tokenizer.json", ([], [])
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_transformers_finds_all_weights(architecture: Architecture, built: Callable[..., Path]) -> None:
    """No weight is missing or superfluous, and all are bfloat16."""
    folder = built(architecture)
    model, report = AutoModel.from_pretrained(folder, dtype="auto", output_loading_info=True)
    assert isinstance(model, Qwen3Model if architecture == "qwen3" else Gemma3TextModel)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.bfloat16
    config = json.loads((folder / "config.json").read_text())
    assert {name: tuple(weight.shape) for name, weight in model.named_parameters()} == read_architecture(
        config
    ).weight_shapes()


def test_another_seed_is_another_model(built: Callable[..., Path], tmp_path: Path) -> None:
    """Only the weights differ."""
    other = build_model(tmp_path, seed=1)
    assert weights_digest([built() / "model.safetensors"], {}) != weights_digest([other / "model.safetensors"], {})
    assert tokenizer_digest(built() / "tokenizer.json", ([], [])) == tokenizer_digest(
        other / "tokenizer.json", ([], [])
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("how do vaccines work", "Vaccines train"),
        ("what does a harrier hunt", "The harrier"),
        ("why does bread rise", "Bread rises"),
        ("when does a contract end", "The contract ends"),
        ("what makes a database search fast", "An index"),
        ("woraus bauen wellen strände", "Der Fluss"),
        ("疫苗", "疫苗让免疫系统"),
        ("вакцина", "Вакцина"),
    ],
)
def test_words_find_their_passage(
    architecture: Architecture, query: str, answer: str, built: Callable[..., Path]
) -> None:
    """A query's best match shares its words, with any instruction."""
    with Encoder(str(built(architecture, vectors="words"))) as encoder:
        documents = encoder.encode_documents(PROSE)
        for task in encoder.tasks:
            [scores] = encoder.encode_queries([query], task=task) @ documents.T
            assert PROSE[int(np.argmax(scores))].startswith(answer)
