"""HarrierEmbedding: an Encoder as LlamaIndex calls it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding, mean_agg
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr, field_validator
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # it does, by an import
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.utils import get_tqdm_iterable
from llama_index.embeddings.harrier.cache import KeyValues

from harrier_core import CachedEncoder, Encoder, NotText, Problem, SettingError, Task
from harrier_core.blanks import BlanksLast, EncodesBothRoles
from harrier_core.errors import positions_of_all
from harrier_core.tasks import DEFAULT_TASK

if TYPE_CHECKING:
    from numpy.typing import NDArray

Aggregate = Callable[..., Embedding]

dispatcher = get_dispatcher(__name__)

# What of the fields is the Encoder's: all that a vector depends on, and where it is made.
_SETTINGS = ("revision", "device", "dtype", "max_tokens", "on_overflow", "task", "token_budget")


class HarrierEmbedding(BaseEmbedding):
    """Harrier embedding models: a query is embedded behind its instruction, a text as it is.

    Making one loads nothing, and all of equal settings share one loaded model. Pickled, copied or sent to another
    process it is its settings only. What a vector depends on is a field that cannot be changed afterwards; an argument
    that nobody knows is refused.

    ```python
    from llama_index.core import Settings
    from llama_index.embeddings.harrier import HarrierEmbedding

    Settings.embed_model = HarrierEmbedding(model_name="harrier-0.6b")
    ```
    """

    model_config = ConfigDict(extra="forbid", validate_default=True)

    model_name: str = Field(frozen=True, description="A folder, a name on the hub, or harrier-270m, -0.6b or -27b.")
    revision: str | None = Field(default=None, frozen=True, description="Which revision of a model on the hub.")
    device: str | None = Field(default=None, frozen=True, description="Chosen for this machine unless given.")
    dtype: str | None = Field(default=None, frozen=True, description="The number format; chosen unless given.")
    max_tokens: int | None = Field(default=None, frozen=True, description="A limit below the model's own.")
    on_overflow: Literal["error", "truncate"] = Field(
        default="error", frozen=True, description="What a longer text is: an error, or a text to cut."
    )
    on_blank: Literal["error", "last"] = Field(
        default="error",
        frozen=True,
        description="What a blank text is: an error, or a text that is found last. A blank query is an error.",
    )
    task: str | Task = Field(
        default=DEFAULT_TASK, frozen=True, description="What queries are for: a task that the model names, or a Task."
    )
    token_budget: int | None = Field(default=None, frozen=True, description="Tokens in one forward pass.")
    embed_batch_size: int = Field(
        default=4_096,
        gt=0,
        description="Texts handed over at once; of these the Encoder itself makes batches, sorted by their lengths.",
    )
    embeddings_cache: Any | None = Field(
        default=None,
        frozen=True,
        description="A BaseKVStore of vectors made before, each under all that it depends on: anybody may share it.",
    )

    rate_limiter: Any | None = Field(default=None, exclude=True, description="Asked before each call, if there is one.")

    _encoder: Encoder = PrivateAttr()
    _source: EncodesBothRoles = PrivateAttr()

    @field_validator("model_name", mode="before")
    @classmethod
    def _path(cls, value: object) -> object:
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    @field_validator("device", "dtype", mode="before")
    @classmethod
    def _name(cls, value: object) -> str | None:
        """A torch.device and a torch.dtype are welcome."""
        return None if value is None else str(value).removeprefix("torch.")

    def model_post_init(self, context: Any, /) -> None:
        """Make the Encoder, which refuses what cannot be and loads nothing."""
        super().model_post_init(context)
        self._encoder = Encoder(self.model_name, **{name: getattr(self, name) for name in _SETTINGS})
        values = self.embeddings_cache
        self._encode_by(self._encoder if values is None else CachedEncoder(self._encoder, KeyValues(values)))

    def _encode_by(self, encoder: Encoder | CachedEncoder) -> None:
        self._source = encoder if self.on_blank == "error" else BlanksLast(encoder)

    @classmethod
    def from_encoder(cls, encoder: Encoder | CachedEncoder, **options: Any) -> Self:
        """With the settings, and so the loaded model, of an Encoder, and with the cache of a CachedEncoder."""
        cached = encoder if isinstance(encoder, CachedEncoder) else None
        settings = encoder.encoder.__getstate__() if isinstance(encoder, CachedEncoder) else encoder.__getstate__()
        made = cls(model_name=settings.pop("model"), **settings, **options)
        if cached is not None and made.embeddings_cache is None:
            made._encode_by(cached)
        return made

    @classmethod
    def class_name(cls) -> str:
        """The name under which it is stored."""
        return "HarrierEmbedding"

    def to_payload(self) -> dict[str, Any]:
        """What those who listen are told of it; older releases of LlamaIndex have no word for it."""
        return {
            "class_name": self.class_name(),
            "model_name": self.model_name,
            "embed_batch_size": self.embed_batch_size,
        }

    @property
    def encoder(self) -> Encoder:
        """The Encoder underneath: `prompt`, `space`, `stats`, `close`."""
        return self._encoder

    def __eq__(self, other: object) -> bool:
        """Equal settings; who listens and whether the model is loaded does not matter."""
        return isinstance(other, HarrierEmbedding) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # as of every pydantic model that can be changed

    # -- LlamaIndex's names for what an Encoder does

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._get_query_embeddings([query])[0]

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return (await self._aget_query_embeddings([query]))[0]

    def _get_query_embeddings(self, queries: list[str]) -> list[Embedding]:
        return _lists(self._source.encode_queries(queries))

    async def _aget_query_embeddings(self, queries: list[str]) -> list[Embedding]:
        return await asyncio.to_thread(_lists, await self._source.aencode_queries(queries))

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return _lists(self._source.encode_documents(texts))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await asyncio.to_thread(_lists, await self._source.aencode_documents(texts))

    # -- the public methods. The base's look into the cache under the bare text, whatever its role, model or task.

    def get_query_embedding(self, query: str) -> Embedding:
        """The embedding of a query, behind the task's instruction."""
        return self._embed(self._get_query_embeddings, [query])[0]

    async def aget_query_embedding(self, query: str) -> Embedding:
        """What `get_query_embedding` returns, without holding up the event loop."""
        return (await self._aembed(self._aget_query_embeddings, [query]))[0]

    def get_query_embedding_batch(self, queries: Iterable[str], show_progress: bool = False) -> list[Embedding]:
        """The embeddings of many queries, each behind the task's instruction."""
        return self._embed(self._get_query_embeddings, queries, show_progress)

    async def aget_query_embedding_batch(self, queries: Iterable[str], show_progress: bool = False) -> list[Embedding]:
        """What `get_query_embedding_batch` returns, without holding up the event loop."""
        return await self._aembed(self._aget_query_embeddings, queries, show_progress)

    def get_agg_embedding_from_queries(self, queries: Iterable[str], agg_fn: Aggregate | None = None) -> Embedding:
        """One embedding, of unit length, for several queries, each behind the task's instruction."""
        return _aggregated(self.get_query_embedding_batch(queries), agg_fn)

    async def aget_agg_embedding_from_queries(
        self, queries: Iterable[str], agg_fn: Aggregate | None = None
    ) -> Embedding:
        """What `get_agg_embedding_from_queries` returns, without holding up the event loop."""
        return _aggregated(await self.aget_query_embedding_batch(queries), agg_fn)

    def get_text_embedding(self, text: str) -> Embedding:
        """The embedding of a document, as it is."""
        return self._embed(self._get_text_embeddings, [text])[0]

    async def aget_text_embedding(self, text: str) -> Embedding:
        """What `get_text_embedding` returns, without holding up the event loop."""
        return (await self._aembed(self._aget_text_embeddings, [text]))[0]

    def get_text_embedding_batch(
        self,
        texts: Iterable[str],
        show_progress: bool = False,
        **kwargs: Any,
    ) -> list[Embedding]:
        """The embeddings of documents, from any iterable."""
        return self._embed(self._get_text_embeddings, texts, show_progress)

    async def aget_text_embedding_batch(
        self,
        texts: Iterable[str],
        show_progress: bool = False,
        **kwargs: Any,
    ) -> list[Embedding]:
        """What `get_text_embedding_batch` returns, without holding up the event loop.

        One window after another, whatever `num_workers` says: one model encodes them all, and fills its passes itself.
        """
        return await self._aembed(self._aget_text_embeddings, texts, show_progress)

    # -- windows, and whoever listens

    def _embed(
        self, embed: Callable[[list[str]], list[Embedding]], texts: Iterable[str], show_progress: bool = False
    ) -> list[Embedding]:
        found: list[Embedding] = []
        for window in self._windows(texts, show_progress):
            with self._told(window) as made, positions_of_all(len(found).__add__):
                if self.rate_limiter is not None:
                    self.rate_limiter.acquire()
                made.extend(embed(window))
            found += made
        return found

    async def _aembed(
        self,
        embed: Callable[[list[str]], Awaitable[list[Embedding]]],
        texts: Iterable[str],
        show_progress: bool = False,
    ) -> list[Embedding]:
        found: list[Embedding] = []
        for window in self._windows(texts, show_progress):
            with self._told(window) as made, positions_of_all(len(found).__add__):
                if self.rate_limiter is not None:
                    await self.rate_limiter.async_acquire()
                made.extend(await embed(window))
            found += made
        return found

    def _windows(self, texts: Iterable[str], show_progress: bool) -> Iterator[list[str]]:
        if isinstance(texts, str):
            raise NotText(
                [Problem(0, NotText, "is missing: a list of texts belongs here; put a single text in a list")]
            )
        rest = iter(get_tqdm_iterable(texts, show_progress, "Generating embeddings"))
        while window := list(islice(rest, self.embed_batch_size)):
            yield window

    @contextmanager
    def _told(self, texts: list[str]) -> Iterator[list[Embedding]]:
        """Tell whoever listens of these texts and, at the end, of the embeddings in the list that is yielded."""
        payload, made = self.to_payload(), list[Embedding]()
        dispatcher.event(EmbeddingStartEvent(model_dict=payload))
        with self.callback_manager.event(CBEventType.EMBEDDING, payload={EventPayload.SERIALIZED: payload}) as event:
            yield made
            event.on_end(payload={EventPayload.CHUNKS: texts, EventPayload.EMBEDDINGS: made})
        # To validate every number again would hold up everybody for longer than many a query takes.
        dispatcher.event(EmbeddingEndEvent.model_construct(chunks=texts, embeddings=made))


def _lists(vectors: NDArray[np.float32]) -> list[Embedding]:
    """Python's floats, row by row: one `tolist` for all would keep every other thread waiting."""
    return [vector.tolist() for vector in vectors]


def _aggregated(embeddings: list[Embedding], agg_fn: Aggregate | None) -> Embedding:
    """One embedding of several, at unit length: a mean is shorter, and stores that compare by dot product see that."""
    if not embeddings:
        raise SettingError("there is no query to aggregate; give one at least")
    whole = np.asarray((agg_fn or mean_agg)(embeddings), dtype=np.float64)
    unit: Embedding = (whole / max(float(np.linalg.norm(whole)), 1e-12)).tolist()
    return unit
