"""HarrierEmbeddingClient: an Embedder as Agent Framework's embedding client, which needs a role for every request."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from agent_framework import BaseEmbeddingClient, Embedding, EmbeddingGenerationOptions, GeneratedEmbeddings

from harrier_core import Embedder, SettingError, Task
from harrier_core.choosing import Secret, encoder_of

if TYPE_CHECKING:
    from harrier_core.types import Vectors

C = TypeVar("C")
R = TypeVar("R")
Role = Literal["query", "document"]

_ROLES: dict[str, Role] = {"upsert": "document", "search": "query"}  # by the method of a vector collection

# The role in which the calling vector collection embeds. A context variable: each thread and each task has its own.
_of_collection: ContextVar[Role | None] = ContextVar("_of_collection", default=None)


class HarrierEmbeddingOptions(EmbeddingGenerationOptions, total=False):
    """The options of one request: its role, and the task that queries are embedded for."""

    role: Role
    task: str | Task


class HarrierEmbeddingClient(BaseEmbeddingClient[str, list[float], HarrierEmbeddingOptions]):
    """An embedding client: a query is embedded after its task's instruction, a document as it is.

    Agent Framework does not say what it embeds, so a request without a role is an error. Set the role

    * in a request: `options={"role": "query"}` or `{"role": "document"}`;
    * once, by `with_roles(collection)`, for a vector collection that has the client as its `embedding_generator`;
    * by `role=`, for a component that only ever embeds one of the two, such as
      `AzureAISearchContextProvider(embedding_function=)`.

    A VectorStoreHistoryProvider embeds messages and the queries of its search tool with the same options. Use it
    without that tool, with `embedding_options={"dimensions": ..., "role": "document"}`.

    Making a client loads nothing; clients and Encoders with equal settings share one loaded model.
    """

    OTEL_PROVIDER_NAME: ClassVar[str] = "harrier"

    def __init__(
        self,
        model: str | os.PathLike[str] | Embedder | None = None,
        *,
        url: str | None = None,
        api_key: str | Secret | None = None,
        role: Role | None = None,
        additional_properties: dict[str, Any] | None = None,
    ) -> None:
        """Make a client for a model or an Embedder.

        model: a folder, a name on the hub, or an Embedder, such as an Encoder with its own settings. An Embedder is
        omitted from `to_dict`; pass it to `from_dict` as the dependency `model`.
        url: the address of a server run by `harrier serve`: its model embeds, and `model`, if given, is its name there.
        api_key: the server's key, a str or a SecretString, by default HARRIER_API_KEY. `to_dict` omits it.
        role: that of requests without one. Those of a vector collection always have one; see `with_roles`.
        """
        super().__init__(additional_properties=additional_properties)
        self.model = model if isinstance(model, Embedder | None) else os.fspath(model)
        self.url = url
        self.role = None if role is None else _checked(role)
        self._embedder = _embedder_of(self.model, url, api_key)

    @property
    def index_encoder(self) -> Embedder:
        """The embedder that makes the vectors, to pass to an Index."""
        return self._embedder

    async def get_embeddings(
        self, values: Sequence[str], *, options: HarrierEmbeddingOptions | None = None
    ) -> GeneratedEmbeddings[list[float], HarrierEmbeddingOptions]:
        """Return the embeddings of texts, all in the request's role, without blocking the event loop."""
        given: Mapping[str, Any] = options or {}
        role = self._role(given)
        if given:
            await asyncio.to_thread(self._refuse_others, given, role)
        if role == "query":
            vectors = await self._embedder.aencode_queries(values, task=given.get("task"))
        else:
            vectors = await self._embedder.aencode_documents(values)
        return GeneratedEmbeddings(await asyncio.to_thread(self._embeddings, vectors), options=options)

    def _role(self, given: Mapping[str, Any]) -> Role:
        role = given.get("role") or _of_collection.get()
        # A vector collection embeds both through one client, and sends the dimensions of its field: no single role fits
        # it.
        if role is None and given.get("dimensions") is None:
            role = self.role
        if role is None:
            raise SettingError(
                "this request does not say whether it embeds queries or documents; pass options={'role': 'query'} or "
                "{'role': 'document'}, and give a vector collection to with_roles()"
            )
        return _checked(role)

    def _refuse_others(self, given: Mapping[str, Any], role: Role) -> None:
        """Refuse options that this client does not support, before the model runs. It may read the model's config."""
        if unknown := sorted(set(given) - {"role", "task", "model", "dimensions"}):
            raise SettingError(f"options must be role, task, model or dimensions, got {', '.join(unknown)}")
        if role == "document" and given.get("task") is not None:
            raise SettingError("a document has no task, because it carries no instruction; omit task")
        name = self._embedder.name
        if given.get("model") not in (None, name):
            raise SettingError(f"model must be {name!r}, got {given['model']!r}; create another client for it")
        dimensions = given.get("dimensions")
        if dimensions is not None and dimensions != self._embedder.dimensions:
            raise SettingError(
                f"dimensions must be {self._embedder.dimensions} with {name}, got {dimensions!r}; declare the vector "
                f"field with dimensions={self._embedder.dimensions}"
            )

    def _embeddings(self, vectors: Vectors) -> list[Embedding[list[float]]]:
        return [Embedding(vector.tolist(), model=self._embedder.name) for vector in vectors]


def _embedder_of(model: str | Embedder | None, url: str | None, api_key: str | Secret | None) -> Embedder:
    if isinstance(model, Embedder):
        if url is not None or api_key is not None:
            raise SettingError(f"url and api_key are settings of {type(model).__name__}; configure it there")
        return model
    if not (model or url):
        raise SettingError("no model is given; pass model=, such as 'harrier-0.6b', or url= for the model of a server")
    return encoder_of(model, url=url, api_key=api_key)


def with_roles(collection: C) -> C:
    """Make a vector collection embed what it upserts as documents, and what it searches for as queries.

    It is changed in place and returned. Tools and context providers made from it use the right roles as well. A role in
    `embeddings_options` takes precedence: {"role": "document"} searches for what resembles a document.
    """
    methods = {name: getattr(collection, name, None) for name in _ROLES}
    if isinstance(collection, type) or not any(map(callable, methods.values())):
        named = collection.__name__ if isinstance(collection, type) else type(collection).__name__
        raise SettingError(f"collection must be a vector collection, got {named}; create one, and pass it")
    for name, method in methods.items():
        if method is not None:  # some collections do not search
            setattr(collection, name, _in_role(_ROLES[name], method))
    return collection


def _in_role(role: Role, method: Callable[..., Awaitable[R]]) -> Callable[..., Awaitable[R]]:
    @wraps(method)
    async def call(*args: Any, **kwargs: Any) -> R:
        token = _of_collection.set(role)
        try:
            return await method(*args, **kwargs)
        finally:
            _of_collection.reset(token)

    return call


def _checked(role: Any) -> Role:
    if role not in ("query", "document"):
        raise SettingError(f"role must be 'query' or 'document', got {role!r}")
    checked: Role = role
    return checked
