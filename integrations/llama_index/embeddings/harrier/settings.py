"""Settings of a HarrierEmbedding as users give them: by position or name, in the environment, by others' names."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypedDict

from llama_index.core.bridge.pydantic import Field, SecretStr
from llama_index.core.callbacks import CallbackManager

from harrier_core import Embedder, SettingError, Task
from harrier_core.choosing import LOCAL, meant, no_model
from harrier_core.foreign import unknown_keyword

# The fields that belong to the Encoder: all that a vector depends on, and where it is made.
OF_ENCODER = ("revision", "device", "dtype", "max_tokens", "on_overflow", "task", "token_budget")

# Keywords of HuggingFaceEmbedding, with the values that ask for what is always the case. None asks for nothing.
_AS_IT_IS: Mapping[str, tuple[object, ...]] = {
    "backend": ("torch",),
    "cache_folder": (),
    "max_length": (),
    "model_kwargs": ({},),
    "normalize": (True,),
    "parallel_process": (False,),
    "pooling": ("last",),
    "query_instruction": (),
    "show_progress_bar": (False,),
    "target_devices": (),
    "text_instruction": ("",),
    "tokenizer_name": (),
    "trust_remote_code": (False,),
}
_PROGRESS = "pass show_progress=True to VectorStoreIndex, or to get_text_embedding_batch"
# Settings whose name in LlamaIndex differs from that of an Encoder.
_OWN = {
    "show_progress_bar": _PROGRESS,
    "show_progress": _PROGRESS,
    "cache": "use embeddings_cache, a key-value store of LlamaIndex",
    "encoder": "use HarrierEmbedding.from_encoder(encoder)",
}


class Settings(TypedDict, total=False):
    """The keywords of a HarrierEmbedding."""

    model: str | os.PathLike[str]
    url: str | None
    api_key: str | SecretStr | None
    revision: str | None
    device: str | None
    dtype: str | None
    max_tokens: int | None
    on_overflow: Literal["error", "truncate"]
    on_blank: Literal["error", "last"]
    task: str | Task | None
    token_budget: int | None
    embed_batch_size: int
    num_workers: int | None
    callback_manager: CallbackManager | None
    embeddings_cache: Any
    rate_limiter: Any
    embedder: Any


def setting(variable: str, default: str | None, description: str) -> Any:
    """Return a field whose default is taken from the environment, and that cannot be changed."""
    return Field(default_factory=lambda: os.environ.get(variable, default), frozen=True, description=description)


def settled(known: Collection[str], name: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that were given, under their own names.

    Raise SettingError for a keyword that is not a field, unless its value asks for what is always the case.
    """
    fields = {key: value for key, value in given.items() if key in known}
    for key, value in given.items():
        if key != "model" and key not in known and not _as_it_is(key, value):
            raise _unknown(key, known)
    if (other := given.get("model")) is not None:
        if name is not None:
            raise SettingError("model_name and model are one setting; give one of them")
        name = other
    if isinstance(key_of_server := fields.get("api_key"), str):
        fields["api_key"] = SecretStr(key_of_server)  # otherwise pydantic would quote it in errors
    embedder = fields.get("embedder")
    if isinstance(embedder, Embedder):
        return {**_of(embedder), **fields, "model_name": embedder.name if name is None else name}
    return {**fields, **_located(name, fields)}


def _as_it_is(key: str, value: object) -> bool:
    return key in _AS_IT_IS and (value is None or value in _AS_IT_IS[key])


def _unknown(key: str, known: Collection[str]) -> SettingError:
    if key in _OWN:
        return SettingError(f"HarrierEmbedding got an unknown keyword, {key!r}: {_OWN[key]}")
    return unknown_keyword("HarrierEmbedding", key, known)


def _of(embedder: Embedder) -> dict[str, Any]:
    """Return the settings that the embedder decides, so that the environment does not."""
    return {**dict.fromkeys(OF_ENCODER), "on_overflow": embedder.on_overflow}


def _located(name: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chosen model or server; for a server, none of the environment's other settings count."""
    model, url = meant(name, given.get("url"))
    if url is None:
        if model is None:
            raise no_model("model_name")
        return {"model_name": model, "url": None}
    absent = {key: None for key in LOCAL if key not in given}
    return {**absent, "on_overflow": given.get("on_overflow") or "error", "model_name": model or "", "url": url}
