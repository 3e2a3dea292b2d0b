"""Settings of HuggingFaceEmbeddings as those of HarrierEmbeddings: accepted if unambiguous, else refused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypedDict

from langchain_core.stores import ByteStore
from pydantic import SecretStr

from harrier_core import Embedder, SettingError, Task
from harrier_core.choosing import LOCAL, meant
from harrier_core.foreign import unknown_keyword


class Settings(TypedDict, total=False):
    """The keywords of HarrierEmbeddings."""

    model_name: str | os.PathLike[str]  # HuggingFaceEmbeddings' name
    url: str | None
    api_key: str | SecretStr | None
    task: str | Task | None
    device: str | None
    dtype: str | None
    revision: str | None
    max_tokens: int | None
    on_overflow: Literal["error", "truncate"]
    token_budget: int | None
    on_blank: Literal["error", "last"]
    show_progress: bool
    cache: ByteStore | None
    embedder: Embedder | None


# The dicts that are passed to a SentenceTransformer and to its `encode`, with those of their keywords that are settings
# here.
_PASSED_ON = {
    "model_kwargs": {"device": "device", "dtype": "dtype", "torch_dtype": "dtype", "revision": "revision"},
    "encode_kwargs": {"show_progress_bar": "show_progress"},
    "query_encode_kwargs": {"prompt_name": "task"},
}

# Settings that are always in effect, so that giving them changes nothing.
_HOLDS: dict[str, object] = {
    "convert_to_numpy": True,
    "embed_instruction": "",
    "multi_process": False,
    "normalize_embeddings": True,
    "trust_remote_code": False,
}
_NONE = object()


def settled(given: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Return the settings that these keywords stand for.

    Raise a SettingError for an unknown one, with the kit's name for it, and for a setting that is given twice.
    """
    settings: dict[str, Any] = {}
    names: dict[str, str] = {}
    for name, said, value in _settings(given, list(known)):
        if name in settings and settings[name] != value:
            raise SettingError(f"{names[name]} and {said} are one setting, and differ; give one of them")
        settings[name], names[name] = value, said
    return settings


def located(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with the chosen model or server; for a server, none of the environment's others count.

    If an Embedder was given, it is the choice.
    """
    if isinstance(key := settings.get("api_key"), str):
        settings = {**settings, "api_key": SecretStr(key)}  # otherwise pydantic would quote it in errors
    if settings.get("embedder") is not None:
        return settings
    model, url = meant(settings.get("model"), settings.get("url"))
    if url is None:
        named = {} if model is None else {"model": model}
        return {**settings, **named, **dict.fromkeys(settings.keys() & {"url"})}  # an empty one means none
    return {**dict.fromkeys(LOCAL), "on_overflow": "error", **settings, "model": model or "", "url": url}


def _settings(given: Mapping[str, Any], known: list[str]) -> Iterator[tuple[str, str, object]]:
    """Yield each setting: its name, the caller's name for it, and its value."""
    for name, value in given.items():
        if name in known:
            yield name, name, value
        elif name == "model_name":
            yield "model", name, value
        elif name in _PASSED_ON:
            yield from _passed_on(name, value)
        elif not _holds(name, value):
            raise unknown_keyword("HarrierEmbeddings", name, known)


def _passed_on(given_in: str, options: object) -> Iterator[tuple[str, str, object]]:
    if not isinstance(options, Mapping):
        raise SettingError(f"{given_in} must be a dict, got {type(options).__name__}")
    taken = _PASSED_ON[given_in]
    for name, value in options.items():
        if name in taken:
            yield taken[name], f"{name!r} in {given_in}", value
        elif name == given_in:  # SentenceTransformer has its own model_kwargs
            yield from _passed_on(given_in, value)
        elif not _holds(name, value):
            raise unknown_keyword(f"{given_in} of HarrierEmbeddings", name, taken)


def _holds(name: str, value: object) -> bool:
    return _HOLDS.get(name, _NONE) == value
