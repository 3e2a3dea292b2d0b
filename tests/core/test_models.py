"""Models are described by their files alone, and incomplete folders are refused with the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from harrier_core import (
    BadVectors,
    DeviceError,
    Encoder,
    HarrierError,
    ModelDamaged,
    ModelNotFound,
    ModelUnsafe,
    ModelUnsupported,
    SettingError,
)
from harrier_core.models import open_model, weight_files
from harrier_core.testing import build_model, write_weights
from harrier_core.testing.models import _random_weights

Edit = Callable[..., None]
Tensors = dict[str, NDArray[np.float32]]


def encode(folder: Path, text: str = "a text", **settings: Any) -> NDArray[np.float32]:
    with Encoder(str(folder), **settings) as encoder:
        return encoder.encode_documents([text])


def rewrite(folder: Path, change: Callable[[Tensors], None]) -> None:
    """Write the changed weights of a tiny model."""
    weights = _random_weights(json.loads((folder / "config.json").read_text()), seed=0)
    change(weights)
    write_weights(folder / "model.safetensors", weights)


# -- reading


def test_everything_comes_from_the_files(folder: Path, edit: Edit) -> None:
    """Shapes, limits and prompts follow changes of the files."""
    encoder = Encoder(str(folder))
    assert (encoder.dimensions, encoder.max_tokens) == (64, 512)
    assert list(encoder.tasks) == ["web_search_query", "sts_query", "bitext_query"]
    edit(folder / "config.json", max_position_embeddings=300)
    edit(folder / "config_sentence_transformers.json", prompts={"law": "Instruct: Find statutes\nQuery:"})
    encoder = Encoder(str(folder), task="law")
    assert encoder.max_tokens == 300
    assert encoder.prompt("theft") == "Instruct: Find statutes\nQuery:theft"


@pytest.mark.parametrize(
    ("file", "key"), [("tokenizer_config.json", "model_max_length"), ("sentence_bert_config.json", "max_seq_length")]
)
def test_the_lowest_limit_counts(folder: Path, edit: Edit, file: str, key: str) -> None:
    """The lowest of several limits in the files applies, as in sentence-transformers."""
    path = folder / file
    if not path.exists():
        path.write_text("{}")
    edit(path, **{key: 77})
    assert Encoder(str(folder)).max_tokens == 77
    assert SentenceTransformer(str(folder)).max_seq_length == 77


def test_a_folder_of_transformers_alone(folder: Path) -> None:
    """Without companion files, a checkpoint has no named tasks and the same vectors."""
    expected = encode(folder)
    for file in ("modules.json", "config_sentence_transformers.json", "1_Pooling/config.json"):
        (folder / file).unlink()
    assert np.array_equal(encode(folder), expected)
    assert dict(Encoder(str(folder)).tasks) == {}


def test_newer_companion_files(folder: Path, tmp_path: Path) -> None:
    """Companion files in sentence-transformers' newer form are read the same."""
    saved = tmp_path / "saved"
    SentenceTransformer(str(folder), device="cpu").save(str(saved))
    assert np.abs(encode(saved) - encode(folder)).max() < 1e-6
    ours, theirs = Encoder(str(saved)), Encoder(str(folder))
    assert ours.tasks == theirs.tasks
    assert ours.max_tokens == theirs.max_tokens


def test_a_sharded_checkpoint(folder: Path) -> None:
    """Sharded weights give the same vectors in the same space."""
    expected, space = encode(folder), Encoder(str(folder)).space
    weights = _random_weights(json.loads((folder / "config.json").read_text()), seed=0)
    (folder / "model.safetensors").unlink()
    shards: dict[str, Tensors] = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
    for number, (name, values) in enumerate(weights.items()):
        list(shards.values())[number % 2][name] = values
    for file, tensors in shards.items():
        write_weights(folder / file, tensors)
    index = {name: file for file, tensors in shards.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    assert np.array_equal(encode(folder), expected)
    assert Encoder(str(folder)).space == space
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelDamaged, match=r"lacks model-00002-of-00002\.safetensors; fetch the model again"):
        encode(folder)


def test_a_language_model_head_is_ignored(folder: Path) -> None:
    """A checkpoint may contain a head, which embeddings do not use."""
    expected = encode(folder)
    rewrite(folder, lambda weights: weights.update({"lm_head.weight": weights["embed_tokens.weight"]}))
    assert np.array_equal(encode(folder), expected)


# -- refusals


@pytest.mark.parametrize(
    "name", ["no-such-model", "a/b/c", "/no/such/folder", "./missing", "", "~nobody/x/y", "x" * 5_000]
)
def test_no_such_model(name: str) -> None:
    """A name that is neither a folder nor on the hub raises an error with the short names."""
    message = f"{name!r} is not a folder, not a name on the hub (owner/name), and not one of harrier-270m, harrier-0.6b"
    with pytest.raises(ModelNotFound, match=re.escape(message)):
        _ = Encoder(name).dimensions


def test_a_revision_of_a_folder(folder: Path) -> None:
    """A revision of a folder is refused, instead of being silently ignored."""
    with pytest.raises(SettingError, match="revision='main' is for a model on the hub, but .* is a folder; omit it"):
        _ = Encoder(str(folder), revision="main").dimensions


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_missing_file(folder: Path, file: str) -> None:
    """The error names it."""
    (folder / file).unlink()
    with pytest.raises(ModelDamaged, match=f"lacks {re.escape(file)}; fetch the model again"):
        encode(folder)


@pytest.mark.parametrize(
    "file",
    [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "config_sentence_transformers.json",
        "modules.json",
        "1_Pooling/config.json",
    ],
)
@pytest.mark.parametrize("content", [b"", b'{"half": ', b"\xff\xfe", b'"text"', b"<!DOCTYPE html>"])
def test_a_damaged_file(folder: Path, file: str, content: bytes) -> None:
    """The error names it, whatever the damage."""
    (folder / file).write_bytes(content)
    with pytest.raises(ModelDamaged, match=re.escape(file)):
        encode(folder)


@pytest.mark.parametrize("key", ["hidden_size", "model_type", "max_position_embeddings", "vocab_size"])
def test_a_config_without_a_needed_key(folder: Path, edit: Edit, key: str) -> None:
    """The error names the key; no default is assumed."""
    edit(folder / "config.json", **{key: None})
    with pytest.raises(ModelDamaged, match=rf"{key} in .*config\.json is None, which this kit cannot use"):
        encode(folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer_config.json", {"model_max_length": "abc"}),
        ("tokenizer_config.json", {"model_max_length": -1}),
        ("modules.json", [1]),
        ("1_Pooling/config.json", {"pooling_mode": 5}),
        ("config.json", {"num_hidden_layers": "3"}),
        ("config.json", {"layer_types": 5}),
        ("config.json", {"intermediate_size": None}),
        ("config.json", {"head_dim": 0}),
        ("config.json", {"rope_theta": None}),
        ("config.json", {"rms_norm_eps": []}),
        ("config.json", {"num_key_value_heads": 0}),
    ],
)
def test_values_of_another_type(folder: Path, file: str, content: Any) -> None:
    """Any value in a file raises the kit's own error."""
    path = folder / file
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, **content} if isinstance(content, dict) else content))
    with pytest.raises((ModelDamaged, ModelUnsupported)):
        encode(folder)


def test_invalid_prompts(folder: Path, edit: Edit) -> None:
    """Prompts must be a dict of strings."""
    edit(folder / "config_sentence_transformers.json", prompts={"web_search_query": 1})
    with pytest.raises(ModelDamaged, match="'prompts' in .* is not a mapping from names to strings"):
        encode(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": 128}, r"pools 64 dimensions, but its config\.json makes 128"),
        (
            {"intermediate_size": 100},
            r"layers\.0\.mlp\.down_proj\.weight has shape \[64, 128\] where \[64, 100\] is needed \(and 8 more\)",
        ),
        ({"vocab_size": 2_500}, r"embed_tokens\.weight has shape .* where \[2500, 64\] is needed; fetch"),
        ({"num_hidden_layers": 4, "layer_types": ["full_attention"] * 4}, r"layers\.3\..* is missing \(and 10 more\)"),
        ({"model_type": "gemma3_text"}, r"layers\.0\..* is missing \(and 5 more\)"),
    ],
)
def test_weights_that_do_not_fit_the_config(folder: Path, edit: Edit, changes: dict[str, Any], reason: str) -> None:
    """They are refused, because transformers would fill gaps with random numbers."""
    edit(folder / "config.json", **changes)
    with pytest.raises(ModelDamaged, match=reason):
        encode(folder)


def test_weights_of_another_architecture(folder: Path, edit: Edit) -> None:
    """They are refused with another error than a damaged download."""
    edit(folder / "config.json", num_hidden_layers=2, layer_types=["full_attention"] * 2)
    with pytest.raises(ModelUnsupported, match=r"does not describe, 11 in all, such as layers\.2\.input_layernorm"):
        encode(folder)


@pytest.mark.parametrize("keep", [0, 7, 200, -1])
def test_damaged_weights(folder: Path, keep: int) -> None:
    """An incomplete download is found by encoding and by computing the space."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelDamaged, match="weights of .* cannot be loaded"):
        encode(folder)
    with pytest.raises(ModelDamaged, match=r"model\.safetensors is not a complete safetensors file"):
        _ = Encoder(str(folder)).space


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_pickled_weights_are_refused(folder: Path, file: str) -> None:
    """They are never unpickled."""
    (folder / "model.safetensors").rename(folder / file)
    trace = folder / "trace"
    (folder / file).write_bytes(b"cpathlib\nPath.touch\n" + f"(S'{trace}'\ntR.".encode())
    with pytest.raises(ModelUnsafe, match="has only pickled weights, which can run arbitrary code"):
        encode(folder)
    assert not trace.exists()


def test_remote_code_is_not_run(folder: Path, edit: Edit) -> None:
    """A folder with its own modelling code gets transformers' class, or an error."""
    trace = folder / "trace"
    (folder / "modeling.py").write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\nclass Model: pass\n")
    expected = encode(build_model(folder / "untouched"))
    edit(folder / "config.json", auto_map={"AutoModel": "modeling.Model", "AutoConfig": "modeling.Model"})
    assert np.array_equal(encode(folder), expected)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True}, "pools by mean_tokens"),
        ("1_Pooling/config.json", {"pooling_mode": ["cls", "lasttoken"]}, "pools by cls and lasttoken"),
        ("modules.json", [{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}], "puts a Dense module"),
    ],
)
def test_a_model_of_another_kind(folder: Path, file: str, content: object, reason: str) -> None:
    """Models that sentence-transformers would compute differently are refused."""
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(ModelUnsupported, match=reason):
        encode(folder)


def test_float16_on_gemma(built: Callable[..., Path]) -> None:
    """The Encoder checks the architecture before it loads."""
    with pytest.raises(DeviceError, match="float16 overflows in gemma3_text"):
        encode(built("gemma3"), dtype="float16")


def test_an_unknown_architecture(folder: Path, edit: Edit) -> None:
    """transformers' reason and version are passed on."""
    edit(folder / "config.json", model_type="no_such_architecture")
    with pytest.raises(ModelUnsupported, match=r"transformers .* cannot read config\.json of .*no_such_architecture"):
        encode(folder)


# -- invalid vectors


def spoil(value: float) -> Callable[[Tensors], None]:
    def change(weights: Tensors) -> None:
        weights["norm.weight"][:] = value

    return change


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "values that are not finite"), (0.0, "no length")])
def test_invalid_vectors_are_never_returned(folder: Path, value: float, kind: str) -> None:
    """NaN and zero vectors raise an error with the remedy."""
    rewrite(folder, spoil(value))
    with pytest.raises(BadVectors, match=f"text 0 has {kind} .*in float32.*fetch the model again"):
        encode(folder)


def test_invalid_vectors_are_located(folder: Path) -> None:
    """The error has the positions of the text, including duplicates."""
    [[bad_id, _]] = _ids(folder, "x")
    rewrite(folder, lambda weights: weights["embed_tokens.weight"].__setitem__(bad_id, np.nan))
    with Encoder(str(folder)) as encoder:
        with pytest.raises(BadVectors, match="vector for text 1 has .*2 of this call's 4 texts") as caught:
            encoder.encode_documents(["good", "x", "fine", "x"])
        assert caught.value.positions == (1, 3)
        assert np.isfinite(encoder.encode_documents(["good", "fine"])).all()


def _ids(folder: Path, text: str) -> list[list[int]]:
    from harrier_core.tokens import Tokens

    return Tokens(open_model(str(folder))).tokenize([text], "", 100).rows


def test_every_refusal_is_a_harrier_error(folder: Path) -> None:
    """One except clause catches all, and weight_files returns real files."""
    assert [path.name for path in weight_files(open_model(str(folder)))] == ["model.safetensors"]
    assert all(issubclass(kind, HarrierError) for kind in (ModelDamaged, ModelNotFound, ModelUnsafe, BadVectors))
