"""Embedding spaces: comparison, explanation and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from harrier_core import EmbeddingSpace, Encoder, ModelDamaged, SpaceError, Task
from harrier_core.testing import build_model

SPACE = EmbeddingSpace(
    model="microsoft/harrier-oss-v1-0.6b",
    revision="f9b9dc8",
    weights="aaaa",
    tokenizer="bbbb",
    dimensions=1024,
    pooling="last token",
    normalization="l2",
    document_template="{text}",
    task="web_search_query",
)
WORDS = st.text(st.characters(exclude_categories=["Cs"]))
SPACES = st.builds(
    EmbeddingSpace,
    model=WORDS,
    revision=st.none() | WORDS,
    weights=WORDS,
    tokenizer=WORDS,
    dimensions=st.integers(1, 10_000),
    pooling=WORDS,
    normalization=WORDS,
    document_template=WORDS,
    task=st.none() | WORDS,
    dtype=st.none() | WORDS,
)


@given(SPACES)
def test_json_round_trip(space: EmbeddingSpace) -> None:
    """Every field survives, including those that are not compared."""
    back = EmbeddingSpace.from_json(space.to_json())
    assert back == space
    assert repr(back) == repr(space)


@given(SPACES, SPACES)
def test_equal_means_no_differences(one: EmbeddingSpace, other: EmbeddingSpace) -> None:
    """Equality, explanation and hash agree."""
    assert (one == other) == (one.differences(other) == [])
    assert one != other or hash(one) == hash(other)


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"weights": "cccc"}, "the weights differ (aaaa and cccc)"),
        ({"tokenizer": "cccc"}, "the tokenizers differ (bbbb and cccc)"),
        ({"dimensions": 640}, "the vectors have 1024 and 640 dimensions"),
        ({"pooling": "mean"}, "the pooling differs (last token and mean)"),
        ({"normalization": "none"}, "the normalization differs (l2 and none)"),
        (
            {"document_template": "passage: {text}"},
            "documents are written differently ('{text}' and 'passage: {text}')",
        ),
    ],
)
def test_differences_in_words(changes: dict[str, Any], phrase: str) -> None:
    """Each difference is named with both values."""
    other = replace(SPACE, **changes)
    assert other != SPACE
    assert SPACE.differences(other) == [phrase]
    assert SPACE.explain(other) == f"vectors of {SPACE} and of {other} may not be compared: {phrase}"


def test_names_do_not_matter() -> None:
    """A copy in a folder, or another default task, has the same space."""
    copy = replace(SPACE, model="/models/copy", revision=None, task="sts_query")
    assert copy == SPACE
    assert SPACE.explain(copy) == "vectors of microsoft/harrier-oss-v1-0.6b@f9b9dc8 and of /models/copy may be compared"


def test_unknown_keys_are_ignored() -> None:
    """A new format number is refused."""
    stored = {**json.loads(SPACE.to_json()), "quantized_by": "somebody"}
    assert EmbeddingSpace.from_json(json.dumps(stored)) == SPACE
    with pytest.raises(SpaceError, match="not an embedding space of format 1: found 2; update harrier-kit"):
        EmbeddingSpace.from_json(json.dumps({**stored, "format": 2}))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        (None, "is not JSON"),
        ("[]", "found None"),
        ("{}", "found None"),
        ('{"format": 1, "model": "m"}', "revision, weights, tokenizer, dimensions"),
        (SPACE.to_json().replace("1024", '"1024"'), "dimensions is a str"),
        (SPACE.to_json().replace('"l2"', "null"), "normalization is a NoneType"),
    ],
)
def test_invalid_json(text: Any, reason: str) -> None:
    """Damaged JSON is distinguished from a difference."""
    with pytest.raises(SpaceError, match=reason):
        EmbeddingSpace.from_json(text)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"rope_theta": 100.0}),
        ("config.json", {"rms_norm_eps": 0.1}),
        ("config.json", {"layer_types": ["sliding_attention"] * 3, "sliding_window": 2}),
        ("tokenizer_config.json", {"add_bos_token": True, "bos_token": "<|im_start|>"}),
    ],
)
@pytest.mark.filterwarnings("ignore::harrier_core.ModelWarning")
def test_other_causes_of_different_vectors(
    built: Callable[..., Path], folder: Path, edit: Callable[..., None], file: str, changes: dict[str, Any]
) -> None:
    """Other settings or token ids with equal weights are another space."""
    edit(folder / file, **changes)
    with Encoder(folder) as changed, Encoder(built()) as original:
        assert changed.space != original.space
        assert abs(changed.encode_documents(["a text"]) - original.encode_documents(["a text"])).max() > 1e-3


def test_bookkeeping_does_not_matter(built: Callable[..., Path], folder: Path, edit: Callable[..., None]) -> None:
    """Version numbers and unused settings in a config are ignored."""
    edit(folder / "config.json", transformers_version="5.0.0", architectures=None, use_cache=False)
    assert Encoder(folder).space == Encoder(built()).space


def test_a_copy_that_sentence_transformers_saved(built: Callable[..., Path], tmp_path: Path) -> None:
    """Its files differ, but the vectors and the space are the same."""
    SentenceTransformer(str(built()), device="cpu", model_kwargs={"dtype": "bfloat16"}).save(str(tmp_path))
    assert Encoder(tmp_path).space.explain(Encoder(built()).space).endswith("may be compared")


def test_a_folder_that_changes(folder: Path, tmp_path: Path) -> None:
    """A changed folder raises an error, and a new Encoder uses the new files only."""
    with Encoder(folder) as old:
        before, space = old.encode_documents(["a"]), old.space
        build_model(tmp_path / "next", seed=1)
        (tmp_path / "next" / "model.safetensors").replace(folder / "model.safetensors")
        with pytest.raises(
            ModelDamaged, match="have changed since the model was opened; close the Encoders of the old files"
        ):
            _ = old.space
        with Encoder(folder) as new:
            assert new.space != space
            assert abs(new.encode_documents(["a"]) - before).max() > 1e-3
        assert abs(old.encode_documents(["a"]) - before).max() == 0


def test_the_space_of_an_encoder(built: Callable[..., Path], tmp_path: Path) -> None:
    """Copies of the files are equal, other weights differ, and the task is informational."""
    folder = str(built())
    space = Encoder(folder).space
    assert space == Encoder(str(build_model(tmp_path / "copy")), task=Task("Find birds")).space
    assert space.task == "web_search_query"
    assert Encoder(folder, task=Task("Find birds")).space.task == "Find birds"
    assert (space.model, space.revision, space.dimensions) == (folder, None, 64)
    other = Encoder(str(build_model(tmp_path / "other", seed=1))).space
    assert [phrase[:19] for phrase in space.differences(other)] == ["the weights differ "]
    assert EmbeddingSpace.from_json(space.to_json()) == space
