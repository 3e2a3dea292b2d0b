"""HarrierTextEmbedder and HarrierDocumentEmbedder: an Encoder, local or behind a URL, or another Embedder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import asdict, replace
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, Self, TypeVar

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.utils import Secret
from haystack.utils.auth import SecretType
from tqdm import tqdm

from harrier_core import Embedder, SettingError, Task
from harrier_core.choosing import encoder_of, meant
from harrier_core.errors import positions_of_all

P = ParamSpec("P")
R = TypeVar("R")
Model = str | os.PathLike[str] | Embedder | None

_WINDOW = 1_024  # texts between two steps of the progress bar; the Encoder itself splits these into batches


def in_thread(method: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Return the async twin of a method, with its signature."""

    @wraps(method)
    async def twin(*args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(method, *args, **kwargs)

    return twin


class Configured:
    """The base of the components that a pipeline's YAML can contain: arguments are attributes with the same names."""

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments; Haystack reports those that it cannot write."""
        names = [*signature(type(self).__init__).parameters, "model"]
        given = {name: vars(self)[name] for name in names if name in vars(self)}
        return default_to_dict(self, **given.pop("settings", {}), **given)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return a new object with these arguments."""
        return default_from_dict(cls, data)


class Encoding(Configured):
    """The base of both embedders. `index_encoder` makes the vectors, and can be passed to an Index."""

    def __init__(self, model: Model = None, **settings: Any) -> None:
        """Take an Encoder's settings, which load nothing yet.

        model: a folder, a name on the hub, harrier-270m, harrier-0.6b or harrier-27b, or an Embedder; if neither it nor
        a url is given, HARRIER_MODEL from the environment. settings: others of an Encoder: task, device, dtype,
        revision, max_tokens, on_overflow, token_budget. A custom task may be {"instruction": "..."}, as in YAML.

        url: among the settings, the address of a server run by `harrier serve`: its model embeds, and `model` is its
        name there, if it must be a particular one. `api_key` is the server's key, by default HARRIER_API_KEY: a Secret,
        or a str, which is never written to YAML. HARRIER_URL counts if neither a model nor a url is given.
        """
        if isinstance(model, Embedder) and settings:
            raise SettingError(f"{next(iter(settings))} is a setting of {type(model).__name__}; configure it there")
        if isinstance(model, Embedder):
            self.model: str | Embedder = model
            self.index_encoder: Embedder = model
        else:
            named, url = meant(model, settings.get("url"))
            settings = settings if url is None else {**settings, "url": url}
            self.model = os.fspath(named or "")
            self.index_encoder = encoder_of(self.model, **_read(settings))
        self.settings = _written(settings)
        self._warm = False

    def __getstate__(self) -> dict[str, Any]:
        key = self.settings.get("api_key")
        left_out = {"api_key"} if key is not None and key.type is SecretType.TOKEN else set()
        return {**vars(self), "settings": {name: self.settings[name] for name in self.settings.keys() - left_out}}

    def warm_up(self) -> None:
        """Load the model, which would otherwise be loaded for the first text."""
        if not self._warm:
            self.index_encoder.encode_documents(["text"])
        self._warm = True

    warm_up_async = in_thread(warm_up)


def _read(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings in the form for an encoder."""
    given = {"url": None, "api_key": None, **settings}
    if isinstance(task := given.get("task"), dict):
        given["task"] = Task(**task)
    if isinstance(key := given["api_key"], Secret):
        given["api_key"] = key.resolve_value()
    return given


def _written(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings in the form for YAML."""
    task, key = settings.get("task"), settings.get("api_key")
    written = {**settings, "task": asdict(task)} if isinstance(task, Task) else dict(settings)
    return {**written, "api_key": Secret.from_token(key)} if isinstance(key, str) else written


@component
class HarrierTextEmbedder(Encoding):
    """Embeds a query after its task's instruction: HarrierTextEmbedder("harrier-0.6b", task="sts_query")."""

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Return the embedding of a query."""
        return {"embedding": self.index_encoder.encode_queries([text])[0].tolist()}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, Any]:
        """Return what `run` returns; queries that wait together share a forward pass."""
        return {"embedding": (await self.index_encoder.aencode_queries([text]))[0].tolist()}


@component
class HarrierDocumentEmbedder(Encoding):
    """Embeds each document as it is. A HarrierDocumentStore needs none: its Index embeds what is new or changed."""

    def __init__(
        self,
        model: Model = None,
        *,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        progress_bar: bool = True,
        **settings: Any,
    ) -> None:
        """Take an Encoder's settings, like a HarrierTextEmbedder.

        meta_fields_to_embed: metadata that are embedded before the content, separated by `embedding_separator`.
        """
        Encoding.__init__(self, model, **settings)  # Haystack replaces the class by another one, and super() fails
        self.meta_fields_to_embed = meta_fields_to_embed or []
        self.embedding_separator = embedding_separator
        self.progress_bar = progress_bar

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Return the documents with their embeddings."""
        texts, vectors = self._texts(documents), list[Any]()
        for begin in tqdm(range(0, len(texts), _WINDOW), "Calculating embeddings", disable=not self.progress_bar):
            with positions_of_all(begin.__add__):
                vectors.extend(self.index_encoder.encode_documents(texts[begin : begin + _WINDOW]))
        return _embedded(documents, vectors)

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """Return what `run` returns, without blocking the event loop and without a progress bar."""
        vectors = await self.index_encoder.aencode_documents(self._texts(documents))
        return await asyncio.to_thread(_embedded, documents, vectors)

    def _texts(self, documents: list[Document]) -> list[str]:
        if not isinstance(documents, list) or not all(isinstance(each, Document) for each in documents):
            raise TypeError("documents must be a list of Documents; a HarrierTextEmbedder embeds a query")
        return [self._text(each) for each in documents]

    def _text(self, document: Document) -> str:
        said = [str(document.meta[name]) for name in self.meta_fields_to_embed if document.meta.get(name) is not None]
        return self.embedding_separator.join([*said, document.content or ""])


def _embedded(documents: list[Document], vectors: Iterable[Any]) -> dict[str, Any]:
    return {
        "documents": [replace(each, embedding=made.tolist()) for each, made in zip(documents, vectors, strict=True)]
    }
