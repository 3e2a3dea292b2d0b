"""Anything that makes vectors: a model in this process, a cache in front of one, or a server."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harrier_core.errors import EncoderClosed, raise_problems, too_long
from harrier_core.threads import in_thread
from harrier_core.tracing import span

if TYPE_CHECKING:
    from harrier_core.space import EmbeddingSpace
    from harrier_core.tasks import Task
    from harrier_core.types import Vectors


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """The vectors of some texts, and the tokens they took."""

    vectors: Vectors  # (texts, dimensions), of unit length
    tokens: Sequence[int]  # one count per text, prompt and end included; 0 if found in a cache
    truncated: Sequence[int] = ()  # the positions of texts that were cut

    def __len__(self) -> int:
        return len(self.vectors)


class Embedder(ABC):
    """Turns texts into vectors of one embedding space, by role. Any number of threads and tasks may use it at once."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The model's name, as given by the user."""

    @property
    @abstractmethod
    def space(self) -> EmbeddingSpace:
        """The embedding space: which other vectors these may be compared with."""

    @property
    @abstractmethod
    def max_tokens(self) -> int:
        """The highest number of tokens that a text may have, its prompt included."""

    @abstractmethod
    def submit_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Future[Encoded]:
        """Begin to encode queries, each after the task's instruction; the future can be cancelled."""

    @abstractmethod
    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Begin to encode documents, each as it is; the future can be cancelled.

        Errors about the texts are raised here, or by the future.
        """

    @abstractmethod
    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        """Return how many tokens each text has as a document, end token included, however long it is."""

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return self.space.dimensions

    @property
    def on_overflow(self) -> Literal["error", "truncate"]:
        """What to do with a text of more than `max_tokens`: "error" or "truncate" it."""
        return "error"

    @property
    def settings(self) -> Mapping[str, Any] | None:
        """The arguments that make an equal Encoder, or None if no Encoder can stand in for this embedder."""
        return None

    @property
    def uncached(self) -> Embedder:
        """The embedder that makes the vectors, for callers who need fresh ones rather than stored ones."""
        return self

    def encode_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Vectors:
        """Return unit vectors of queries, float32 (texts, dimensions), each encoded after the task's instruction."""
        return self._wait("query", lambda: self.submit_queries(texts, task=task))

    def encode_documents(self, texts: Iterable[str]) -> Vectors:
        """Return unit vectors of documents, float32 (texts, dimensions), each encoded as it is."""
        return self._wait("document", lambda: self.submit_documents(texts))

    async def aencode_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Vectors:
        """Return what `encode_queries` does, without holding up the event loop."""
        return await self._await("query", lambda: self.submit_queries(texts, task=task))

    async def aencode_documents(self, texts: Iterable[str]) -> Vectors:
        """Return what `encode_documents` does, without holding up the event loop."""
        return await self._await("document", lambda: self.submit_documents(texts))

    @property
    def _traced_as(self) -> str:
        """The model's name in traces, unless finding it out takes long."""
        return self.name

    def _wait(self, role: str, submit: Callable[[], Future[Encoded]]) -> Vectors:
        with span(role, self._traced_as) as tell:
            encoded = wait_for(submit())
            tell(len(encoded))
        return encoded.vectors

    async def _await(self, role: str, submit: Callable[[], Future[Encoded]]) -> Vectors:
        with span(role, self._traced_as) as tell:
            encoded = await _submitted(submit)
            tell(len(encoded))
        return encoded.vectors


class Around(Embedder):
    """An Embedder that wraps another one: whatever is not overridden is passed on to it."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._embedder!r})"

    @property
    def name(self) -> str:
        """The model's name, as given by the user."""
        return self._embedder.name

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space: which other vectors these may be compared with."""
        return self._embedder.space

    @property
    def max_tokens(self) -> int:
        """The highest number of tokens that a text may have, its prompt included."""
        return self._embedder.max_tokens

    @property
    def on_overflow(self) -> Literal["error", "truncate"]:
        """What to do with a text of more than `max_tokens`: "error" or "truncate" it."""
        return self._embedder.on_overflow

    @property
    def uncached(self) -> Embedder:
        """The embedder that makes the vectors, for callers who need fresh ones rather than stored ones."""
        return self._embedder.uncached

    @property
    def _traced_as(self) -> str:
        return self._embedder._traced_as

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        """Return how many tokens each text has as a document, end token included."""
        return self._embedder.count_tokens(texts)

    def submit_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Future[Encoded]:
        """Begin to encode queries; the future can be cancelled."""
        return self._embedder.submit_queries(texts, task=task)


async def _submitted(submit: Callable[[], Future[Encoded]]) -> Encoded:
    """Submit on a thread, which loads and tokenizes. If the caller is cancelled meanwhile, so is the future."""
    submitting = asyncio.ensure_future(in_thread(submit))
    try:
        future = await asyncio.shield(submitting)
    except asyncio.CancelledError:
        submitting.add_done_callback(_cancel_submitted)
        raise
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise closed() from None


def _cancel_submitted(submitting: asyncio.Future[Future[Encoded]]) -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()


def wait_for(future: Future[Encoded], kind: str = "encoder") -> Encoded:
    """Return the result of a submission to an encoder, or to another kind of user of a model."""
    try:
        return future.result()
    except CancelledError:
        raise closed(kind) from None
    except BaseException:  # Ctrl-C must not leave the rest of the work running until the process ends
        future.cancel()
        raise


def closed(kind: str = "encoder") -> EncoderClosed:
    """Return the error for using something that is closed."""
    return EncoderClosed(f"this {kind} is closed; create a new one with the same settings, which costs nothing")


def refuse_too_long(embedder: Embedder, texts: Sequence[str]) -> None:
    """Raise TextTooLong if texts have more tokens as documents than the embedder takes, unless it truncates them."""
    if embedder.on_overflow == "truncate" or not texts:
        return
    most = embedder.max_tokens
    room = most - embedder.count_tokens(["a"])[0]
    long = [at for at, text in enumerate(texts) if len(text.encode()) > room]  # a token is at least a byte
    counts = zip(long, embedder.count_tokens([texts[at] for at in long]), strict=True)
    raise_problems([too_long(at, tokens, most) for at, tokens in counts if tokens > most])
