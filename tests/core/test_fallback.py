"""The forward pass through transformers: vectors independent of the batch, from complete weights."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from passes import error, some_rows
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from harrier_core import ModelDamaged, ModelUnsupported
from harrier_core.device import choose
from harrier_core.fallback import Fallback

Tensors = dict[str, torch.Tensor]


def load(folder: Path, dtype: str = "float32") -> Fallback:
    return Fallback(folder, choose("qwen3", "cpu", dtype))


@pytest.fixture(scope="module")
def fallback(built: Callable[..., Path]) -> Fallback:
    return load(built())


def test_the_last_hidden_state_of_the_last_token(fallback: Fallback, built: Callable[..., Path]) -> None:
    """It equals the state from transformers' own class for a single text."""
    rows = some_rows([1, 5, 33])
    model = AutoModel.from_pretrained(built(), dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = torch.stack([model(torch.tensor([row.ids])).last_hidden_state[0, -1] for row in rows])
    found = fallback.launch(rows)()
    assert (found.dtype, found.shape) == (torch.float32, expected.shape)
    assert error(found, expected) < 1e-5


def test_a_text_is_independent_of_its_neighbours(fallback: Fallback) -> None:
    """Rows keep their order, whatever their lengths and shared prefixes."""
    rows = [*some_rows([7, 2, 7, 40, 1, 2]), *some_rows([3, 7], shared=(5, 6, 7), seed=1)]
    random.Random(0).shuffle(rows)
    together = fallback.launch(rows)()
    alone = torch.cat([fallback.launch([row])() for row in rows])
    assert error(together, alone) < 1e-5


def test_a_shared_prefix_is_included(fallback: Fallback) -> None:
    """A row consists of its prefix and the rest."""
    [shared], [whole] = some_rows([3], shared=(5, 6, 7)), some_rows([6])
    joined = type(whole)(shared.ids)
    assert error(fallback.launch([shared])(), fallback.launch([joined])()) < 1e-6
    assert error(fallback.launch([shared])(), fallback.launch([type(whole)(shared.rest)])()) > 1e-3


def test_a_precise_pass(built: Callable[..., Path]) -> None:
    """It computes in float32, and the next pass is unaffected."""
    folder = built()
    half, rows = load(folder, "bfloat16"), some_rows([5, 9])
    exact = load(folder).launch(rows)()
    before = half.launch(rows)()
    assert error(half.launch(rows, precise=True)(), exact) < 1e-5
    assert error(before, exact) > 1e-4  # or the test would not notice
    assert torch.equal(half.launch(rows)(), before)


def rewrite(folder: Path, change: Callable[[Tensors], object]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def resize(tensors: Tensors) -> None:
    tensors["norm.weight"] = torch.ones(3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.pop("norm.weight"), r"norm\.weight is missing; fetch the model again"),
        (resize, r"norm\.weight has another shape; fetch the model again"),
        (lambda tensors: [tensors.pop(name) for name in [*tensors][:3]], r" is missing \(and 2 more\); fetch"),
    ],
)
def test_weights_that_do_not_fit(folder: Path, change: Callable[[Tensors], object], reason: str) -> None:
    """They are refused, because transformers would fill the gaps with random numbers."""
    rewrite(folder, change)
    with pytest.raises(ModelDamaged, match=rf"the weights of .* do not fit its config\.json: .*{reason}"):
        load(folder)


def test_weights_of_another_architecture(folder: Path) -> None:
    """They are refused, because transformers would ignore them."""
    rewrite(folder, lambda tensors: tensors.update(odd=torch.ones(1)))
    with pytest.raises(ModelUnsupported, match="does not describe, 1 in all, such as odd"):
        load(folder)


def test_a_language_model_head_is_ignored(folder: Path) -> None:
    """It is not an unexpected tensor, and changes nothing."""
    rows = some_rows([4])
    expected = load(folder).launch(rows)()
    rewrite(folder, lambda tensors: tensors.update({"lm_head.weight": torch.ones(4, 64)}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(load(folder).launch(rows)(), expected)


def test_an_unreadable_file(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no safetensors at all")
    with pytest.raises(ModelDamaged, match=r"the weights of .* cannot be loaded: .*; fetch the model again"):
        load(folder)


def test_an_unknown_config(folder: Path) -> None:
    """transformers' reason is passed on in one line."""
    (folder / "config.json").write_text('{"model_type": "no_such_architecture"}', encoding="utf-8")
    with pytest.raises(ModelUnsupported, match=r"transformers \S+ cannot read config\.json of .*") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
