"""Settings of a HarrierEmbedding: arguments, environment, and names of other classes."""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elsewhere import Elsewhere
from llama_index.core.callbacks import CallbackManager
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.embeddings.harrier import HarrierEmbedding

from harrier_core import CachedEncoder, Encoder, Index, Record, SettingError, Task
from harrier_core.testing import MemoryStore

ENVIRONMENT: dict[str, tuple[str, Any]] = {
    "revision": ("main", "main"),
    "device": ("cpu", "cpu"),
    "dtype": ("float32", "float32"),
    "max_tokens": ("64", 64),
    "on_overflow": ("truncate", "truncate"),
    "on_blank": ("last", "last"),
    "task": ("sts_query", "sts_query"),
    "token_budget": ("512", 512),
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a value for each setting, and the name of a missing model."""
    monkeypatch.setenv("HARRIER_MODEL", "harrier-0.6b")
    for name, (value, _) in ENVIRONMENT.items():
        monkeypatch.setenv(f"HARRIER_{name.upper()}", value)


def settings_of(embedding: HarrierEmbedding) -> dict[str, Any]:
    return {name: getattr(embedding, name) for name in ENVIRONMENT}


# -- which model


def test_the_model_by_any_name() -> None:
    """It may be positional, `model_name`, `model`, or a Path."""
    made: list[HarrierEmbedding] = [
        HarrierEmbedding("harrier-270m"),
        HarrierEmbedding(model_name="harrier-270m"),
        HarrierEmbedding(model="harrier-270m"),
        HarrierEmbedding(Path("harrier-270m")),
    ]
    assert {each.model_name for each in made} == {"harrier-270m"}
    assert all(each == made[0] for each in made)


def test_one_model_only() -> None:
    """Two models are an error, and so is no model."""
    with pytest.raises(SettingError, match="model_name and model are one setting; give one of them"):
        HarrierEmbedding("harrier-270m", model="harrier-0.6b")
    with pytest.raises(SettingError, match=r"no model is given; pass model_name, .*, or set HARRIER_MODEL"):
        HarrierEmbedding()


# -- the environment


@pytest.mark.usefixtures("environment")
def test_settings_from_the_environment() -> None:
    """Arguments override it, including None."""
    embedding = HarrierEmbedding()
    assert embedding.model_name == "harrier-0.6b"
    assert settings_of(embedding) == {name: value for name, (_, value) in ENVIRONMENT.items()}
    own: dict[str, Any] = {
        **dict.fromkeys(ENVIRONMENT),
        "max_tokens": 9,
        "on_overflow": "error",
        "on_blank": "error",
        "task": Task("Find birds"),
    }
    other = HarrierEmbedding("harrier-270m", **own)
    assert (other.model_name, settings_of(other)) == ("harrier-270m", own)


def test_copies_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of copy and pickle ignores it."""
    embedding = HarrierEmbedding("harrier-270m")
    pickled, stored, told = pickle.dumps(embedding), embedding.to_dict(), embedding.to_json()
    for name, (value, _) in ENVIRONMENT.items():
        monkeypatch.setenv(f"HARRIER_{name.upper()}", value)
    for back in (pickle.loads(pickled), HarrierEmbedding.from_dict(stored), HarrierEmbedding.from_json(told)):
        assert back == embedding
    assert HarrierEmbedding("harrier-270m") != embedding


@pytest.mark.usefixtures("environment")
def test_a_given_embedder_ignores_the_environment(encoder: Encoder) -> None:
    """Its settings are fixed, whether it is an Encoder or not."""
    assert HarrierEmbedding.from_encoder(encoder).encoder.settings == encoder.settings
    assert HarrierEmbedding.from_encoder(encoder).on_blank == "error"
    other = Elsewhere(encoder)
    for made in (HarrierEmbedding.from_encoder(other), HarrierEmbedding(embedder=other)):
        assert (made.model_name, made.on_overflow, made.max_tokens) == (other.name, other.on_overflow, None)
        assert made.get_text_embedding("bread") == encoder.encode_documents(["bread"])[0].tolist()


# -- other classes' words


@pytest.mark.parametrize(
    "given",
    [
        {"normalize": True, "pooling": "last", "backend": "torch"},
        {"trust_remote_code": False, "parallel_process": False, "show_progress_bar": False},
        {"text_instruction": "", "query_instruction": None, "max_length": None, "cache_folder": None},
        {"model_kwargs": {}, "target_devices": None, "tokenizer_name": None},
    ],
)
def test_settings_without_effect(given: dict[str, Any]) -> None:
    """They are accepted, so that programs need no change."""
    assert HarrierEmbedding("harrier-270m", **given) == HarrierEmbedding("harrier-270m")


REFUSED: dict[str, tuple[Any, str]] = {
    "max_length": (512, "use max_tokens, and on_overflow='truncate'"),
    "query_instruction": ("Find birds", "use task"),
    "text_instruction": ("passage: ", "a document is encoded unchanged"),
    "pooling": ("mean", "own files"),
    "normalize": (False, "always have unit length"),
    "backend": ("onnx", "run on torch"),
    "parallel_process": (True, "one copy of a model"),
    "target_devices": (["cpu"], "one copy of a model"),
    "trust_remote_code": (True, "code from a model's repository is never run"),
    "dimensions": (128, "no Matryoshka"),
    "truncate_dim": (128, "no Matryoshka"),
    "cache_folder": ("/tmp/models", "HF_HOME"),
    "model_kwargs": ({"dtype": "float32"}, "use device, dtype and revision"),
    "show_progress_bar": (True, "show_progress=True"),
    "cache": (None, "use embeddings_cache"),
    "encoder": (None, "from_encoder"),
    "batch_size": (8, "token_budget"),
    "embed_batchsize": (8, "did you mean embed_batch_size"),
    "speed": (None, "it takes .*model_name"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_settings(name: str) -> None:
    """The one-line error has the kit's name."""
    value, advice = REFUSED[name]
    given: dict[str, Any] = {name: value}
    with pytest.raises(SettingError, match=f"^HarrierEmbedding got an unknown keyword, '{name}': .*{advice}") as caught:
        HarrierEmbedding("harrier-270m", **given)
    assert "\n" not in str(caught.value)


def test_settings_of_llama_index() -> None:
    """Settings of every LlamaIndex embedding are accepted."""
    manager = CallbackManager([])
    embedding = HarrierEmbedding("harrier-270m", embed_batch_size=8, num_workers=2, callback_manager=manager)
    assert (embedding.embed_batch_size, embedding.num_workers) == (8, 2)
    assert embedding.callback_manager is manager
    assert HarrierEmbedding("harrier-270m", callback_manager=None).callback_manager is not None


# -- schema and repr


def test_schema_and_signature() -> None:
    """Builders use the schema, and editors the signature."""
    schema = HarrierEmbedding.model_json_schema()
    fields = {*ENVIRONMENT, "model_name", "embed_batch_size", "num_workers", "embeddings_cache"}
    assert fields <= set(schema["properties"])
    assert json.loads(json.dumps(schema)) == schema
    assert fields <= set(inspect.signature(HarrierEmbedding).parameters)


def test_repr() -> None:
    """It shows non-default settings."""
    assert repr(HarrierEmbedding("harrier-270m")) == "HarrierEmbedding(model_name='harrier-270m')"
    embedding = HarrierEmbedding("harrier-270m", task="sts_query", max_tokens=9, embeddings_cache=SimpleKVStore())
    assert repr(embedding) == "HarrierEmbedding(model_name='harrier-270m', max_tokens=9, task='sts_query')"


# -- in an Index


def test_as_an_encoder_of_an_index(words: str, built: Callable[..., Path]) -> None:
    """Its cache is used, and no second model is loaded."""
    values = SimpleKVStore()
    embedding = HarrierEmbedding(words, embeddings_cache=values)
    index = Index(MemoryStore(), embedding)
    assert index.encoder is embedding.index_encoder
    assert isinstance(index.encoder, CachedEncoder)
    index.ingest([Record("bread", "Bread rises because of yeast."), Record("sea", "Rivers carry sand to the sea.")])
    assert index.search("why does bread rise", k=1)[0].record_id == "bread"
    assert values.get_all("harrier_vectors")
    plain = HarrierEmbedding(str(built()))
    assert plain.index_encoder is plain.encoder
