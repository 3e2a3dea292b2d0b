"""The forward pass compared with transformers, including each layer type, and shared prefixes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from passes import LENGTHS, error, load, some_rows

from harrier_core import Encoder, ModelWarning
from harrier_core.decoder import _KEPT_BEGINNINGS, Decoder
from harrier_core.fallback import Fallback
from harrier_core.testing import ARCHITECTURES, build_model


@pytest.fixture(scope="module", params=ARCHITECTURES)
def pair(request: pytest.FixtureRequest, built: Callable[..., Path]) -> tuple[Decoder, Fallback]:
    return load(built(request.param))


def test_every_length_at_once(pair: tuple[Decoder, Fallback]) -> None:
    """Mixed lengths in one pass give the same states as transformers on single texts."""
    decoder, oracle = pair
    lengths = random.Random(1).sample([*LENGTHS, *LENGTHS], 2 * len(LENGTHS))
    rows = some_rows(lengths)
    assert error(decoder.launch(rows)(), oracle.launch(rows)()) < 1e-5


@pytest.mark.parametrize("beginning", [1, 15, 16, 17, 30, 100])
def test_shared_prefixes(pair: tuple[Decoder, Fallback], beginning: int) -> None:
    """Rows after a precomputed prefix are right, inside and outside an attention window."""
    decoder, oracle = pair
    shared = tuple(range(7, 7 + beginning))
    rows = some_rows([length for length in LENGTHS if length + beginning <= 512] * 2, shared)
    assert error(decoder.launch(rows)(), oracle.launch(rows)()) < 1e-5
    assert error(decoder.launch(rows[:1])(), oracle.launch(rows[:1])()) < 1e-5


def test_many_prefixes_in_one_pass(pair: tuple[Decoder, Fallback]) -> None:
    """A pass may mix rows with and without prefixes, with more prefixes than are cached."""
    decoder, oracle = pair
    beginnings = [tuple(range(number, number + 5 + number % 3)) for number in range(2 * _KEPT_BEGINNINGS)]
    rows = [row for shared in [(), *beginnings] for row in some_rows([3, 8, 3], shared, seed=len(shared))]
    random.Random(0).shuffle(rows)
    expected = oracle.launch(rows)()
    assert error(decoder.launch(rows)(), expected) < 1e-5
    assert error(decoder.launch(rows)(), expected) < 1e-5
    assert len(decoder._beginnings) == _KEPT_BEGINNINGS


@pytest.mark.slow
def test_long_texts(tmp_path: Path, edit: Callable[..., None]) -> None:
    """Texts of 8,192 tokens exceed every window and precomputed rotary table."""
    folder = build_model(tmp_path, "gemma3-sliding")
    edit(folder / "config.json", max_position_embeddings=8_192)
    decoder, oracle = load(folder)
    rows = some_rows([3, 8_192])
    assert error(decoder.launch(rows)(), oracle.launch(rows)()) < 1e-5


def test_scaled_positions(tmp_path: Path, edit: Callable[..., None]) -> None:
    """Linear scaling in the global layers of Gemma 3 27b is right."""
    folder = build_model(tmp_path, "gemma3-sliding")
    plain = load(folder)[0].launch(some_rows([200]))()
    edit(folder / "config.json", rope_scaling={"rope_type": "linear", "factor": 8.0})
    decoder, oracle = load(folder)
    rows = some_rows([200])
    assert error(decoder.launch(rows)(), oracle.launch(rows)()) < 1e-5
    assert error(decoder.launch(rows)(), plain) > 1e-3  # or the test would not notice


def test_an_unknown_architecture_falls_back(folder: Path, edit: Callable[..., None]) -> None:
    """It runs on transformers with a warning that has the reason, and the vectors are right."""
    with Encoder(folder) as encoder:
        expected = encoder.encode_documents(["a text"])
    edit(folder / "config.json", rope_scaling={"rope_type": "dynamic", "factor": 1.0})
    match = "on plain transformers.*scales rotary positions by 'dynamic'"
    with Encoder(folder) as encoder, pytest.warns(ModelWarning, match=match):
        vectors: Any = encoder.encode_documents(["a text"])
    assert abs(vectors - expected).max() < 1e-5


def test_weights_of_a_language_model(folder: Path) -> None:
    """Names may begin with "model.", and a head is allowed."""
    with Encoder(folder) as encoder:
        expected = encoder.encode_documents(["a text"])
    path = folder / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    renamed = json.dumps({name if name == "__metadata__" else f"model.{name}": at for name, at in header.items()})
    renamed += " " * (-len(renamed) % 8)
    path.write_bytes(len(renamed).to_bytes(8, "little") + renamed.encode() + content[8 + length :])
    with Encoder(folder) as encoder:
        assert abs(encoder.encode_documents(["a text"]) - expected).max() == 0
