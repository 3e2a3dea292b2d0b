"""The methods of an embedding that LlamaIndex calls: texts in windows, each reported to listeners."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
from llama_index.core.base.embeddings.base import Embedding, mean_agg
from llama_index.core.bridge.pydantic import Field
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # it does, by an import
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.utils import get_tqdm_iterable
from llama_index.embeddings.harrier.roles import Roles

from harrier_core import NotText, Problem, SettingError
from harrier_core.errors import positions_of_all

Aggregate = Callable[..., Embedding]

BATCH = 4_096

dispatcher = get_dispatcher(__name__)


class Windows(Roles):
    """The public methods. The base's would look into the cache by the bare text, whatever its role, model or task."""

    embed_batch_size: int = Field(
        default=BATCH,
        gt=0,
        description="Texts per call. The Encoder forms its own batches of them, sorted by length.",
    )
    rate_limiter: Any | None = Field(default=None, exclude=True, description="Called before each request, if set.")

    def to_payload(self) -> dict[str, Any]:
        """Return its description for listeners; older releases of LlamaIndex have no name for it."""
        return {
            "class_name": self.class_name(),
            "model_name": self.model_name,
            "embed_batch_size": self.embed_batch_size,
        }

    def get_query_embedding(self, query: str) -> Embedding:
        """Return the embedding of a query, after the task's instruction."""
        return self._embed(self._get_query_embeddings, [query])[0]

    async def aget_query_embedding(self, query: str) -> Embedding:
        """Return what `get_query_embedding` returns, without blocking the event loop."""
        return (await self._aembed(self._aget_query_embeddings, [query]))[0]

    def get_query_embedding_batch(self, queries: Iterable[str], show_progress: bool = False) -> list[Embedding]:
        """Return the embeddings of many queries, each after the task's instruction."""
        return self._embed(self._get_query_embeddings, queries, show_progress)

    async def aget_query_embedding_batch(self, queries: Iterable[str], show_progress: bool = False) -> list[Embedding]:
        """Return what `get_query_embedding_batch` returns, without blocking the event loop."""
        return await self._aembed(self._aget_query_embeddings, queries, show_progress)

    def get_agg_embedding_from_queries(self, queries: Iterable[str], agg_fn: Aggregate | None = None) -> Embedding:
        """Return one embedding, of unit length, for several queries, each after the task's instruction."""
        return _aggregated(self.get_query_embedding_batch(queries), agg_fn)

    async def aget_agg_embedding_from_queries(
        self, queries: Iterable[str], agg_fn: Aggregate | None = None
    ) -> Embedding:
        """Return what `get_agg_embedding_from_queries` returns, without blocking the event loop."""
        return _aggregated(await self.aget_query_embedding_batch(queries), agg_fn)

    def get_text_embedding(self, text: str) -> Embedding:
        """Return the embedding of a document, as it is."""
        return self._embed(self._get_text_embeddings, [text])[0]

    async def aget_text_embedding(self, text: str) -> Embedding:
        """Return what `get_text_embedding` returns, without blocking the event loop."""
        return (await self._aembed(self._aget_text_embeddings, [text]))[0]

    def get_text_embedding_batch(
        self,
        texts: Iterable[str],
        show_progress: bool = False,
        **kwargs: Any,
    ) -> list[Embedding]:
        """Return the embeddings of documents, from any iterable."""
        return self._embed(self._get_text_embeddings, texts, show_progress)

    async def aget_text_embedding_batch(
        self,
        texts: Iterable[str],
        show_progress: bool = False,
        **kwargs: Any,
    ) -> list[Embedding]:
        """Return what `get_text_embedding_batch` returns, without blocking the event loop.

        Windows run one after another, whatever `num_workers` says: one model encodes them all, and fills its passes
        itself.
        """
        return await self._aembed(self._aget_text_embeddings, texts, show_progress)

    def _embed(
        self, embed: Callable[[list[str]], list[Embedding]], texts: Iterable[str], show_progress: bool = False
    ) -> list[Embedding]:
        found: list[Embedding] = []
        for window in windows_of(texts, self.embed_batch_size, show_progress=show_progress):
            with told(self.callback_manager, self.to_payload(), window) as made, positions_of_all(len(found).__add__):
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
        for window in windows_of(texts, self.embed_batch_size, show_progress=show_progress):
            with told(self.callback_manager, self.to_payload(), window) as made, positions_of_all(len(found).__add__):
                if self.rate_limiter is not None:
                    await self.rate_limiter.async_acquire()
                made.extend(await embed(window))
            found += made
        return found


def windows_of(texts: Iterable[str], size: int, *, show_progress: bool) -> Iterator[list[str]]:
    """Yield the texts, `size` at a time."""
    if isinstance(texts, str):
        raise NotText([Problem(0, NotText, "is missing: texts must be a list of strings; put a single text in a list")])
    rest = iter(get_tqdm_iterable(texts, show_progress, "Generating embeddings"))
    while window := list(islice(rest, size)):
        yield window


@contextmanager
def told(listeners: CallbackManager, payload: dict[str, Any], texts: list[str]) -> Iterator[list[Embedding]]:
    """Report these texts to listeners and, at the end, the embeddings in the list that is yielded."""
    made: list[Embedding] = []
    dispatcher.event(EmbeddingStartEvent(model_dict=payload))
    with listeners.event(CBEventType.EMBEDDING, payload={EventPayload.SERIALIZED: payload}) as event:
        yield made
        event.on_end(payload={EventPayload.CHUNKS: texts, EventPayload.EMBEDDINGS: made})
    # Validating every number again would delay everyone for longer than many a query takes.
    dispatcher.event(EmbeddingEndEvent.model_construct(chunks=texts, embeddings=made))


def _aggregated(embeddings: list[Embedding], agg_fn: Aggregate | None) -> Embedding:
    """Return one embedding of several, at unit length: a mean is shorter, which matters for dot products."""
    if not embeddings:
        raise SettingError("there is no query to aggregate; give at least one")
    whole = np.asarray((agg_fn or mean_agg)(embeddings), dtype=np.float64)
    unit: Embedding = (whole / max(float(np.linalg.norm(whole)), 1e-12)).tolist()
    return unit
