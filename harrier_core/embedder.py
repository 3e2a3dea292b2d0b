"""What makes vectors, whatever it is: a model of this process, a cache before one, or a server."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harrier_core.errors import EncoderClosed, raise_problems, too_long
from harrier_core.tracing import span

if TYPE_CHECKING:
    from harrier_core.space import EmbeddingSpace
    from harrier_core.tasks import Task
    from harrier_core.types import Vectors


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """The vectors of some texts, and what they cost."""

    vectors: Vectors  # (texts, dimensions), of unit length
    tokens: Sequence[int]  # of each text, its prompt and end included; 0 of one that was not encoded but found
    truncated: Sequence[int] = ()  # the positions of texts that were cut

    def __len__(self) -> int:
        return len(self.vectors)


class Embedder(ABC):
    """Texts to vectors of one embedding space, each in its role. Any number of threads and tasks may use it at once."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The model, as the user called it."""

    @property
    @abstractmethod
    def space(self) -> EmbeddingSpace:
        """What the vectors may be compared with."""

    @property
    @abstractmethod
    def max_tokens(self) -> int:
        """The most tokens that a text may have with its prompt."""

    @abstractmethod
    def submit_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Future[Encoded]:
        """Begin to encode queries, each behind the task's instruction; the future can be cancelled."""

    @abstractmethod
    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Begin to encode documents, each as it is; the future can be cancelled.

        What is wrong with the texts is raised here, or by the future.
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
        """What a text with more than `max_tokens` is: an error, or a text to cut."""
        return "error"

    @property
    def settings(self) -> Mapping[str, Any] | None:
        """The arguments that make an equal Encoder, or None where no Encoder can stand in for this embedder."""
        return None

    @property
    def uncached(self) -> Embedder:
        """What makes the vectors, for whoever doubts those that are stored."""
        return self

    def encode_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Vectors:
        """Return unit vectors of queries, float32 (texts, dimensions), each encoded behind the task's instruction."""
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
        """The model in traces: its name, unless finding that out takes long."""
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
    """An Embedder around another one: what is not overridden is the other's."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._embedder!r})"

    @property
    def name(self) -> str:
        """The model, as the user called it."""
        return self._embedder.name

    @property
    def space(self) -> EmbeddingSpace:
        """What the vectors may be compared with."""
        return self._embedder.space

    @property
    def max_tokens(self) -> int:
        """The most tokens that a text may have with its prompt."""
        return self._embedder.max_tokens

    @property
    def on_overflow(self) -> Literal["error", "truncate"]:
        """What a text with more tokens is."""
        return self._embedder.on_overflow

    @property
    def uncached(self) -> Embedder:
        """What makes the vectors, for whoever doubts those that are stored."""
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
    """Loading and tokenizing run on a thread; if the caller is cancelled meanwhile, so is what comes of them."""
    submitting = asyncio.ensure_future(asyncio.to_thread(submit))
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
    """Return what was submitted to an encoder, or to another kind of user of a model."""
    try:
        return future.result()
    except CancelledError:
        raise closed(kind) from None
    except BaseException:  # Ctrl-C must not leave the rest of the work to the end of the process
        future.cancel()
        raise


def closed(kind: str = "encoder") -> EncoderClosed:
    """Return the error of whoever uses what was closed."""
    return EncoderClosed(f"this {kind} is closed; make another one with the same settings, which costs nothing")


def refuse_too_long(embedder: Embedder, texts: Sequence[str]) -> None:
    """Raise TextTooLong if texts have more tokens as documents than the embedder takes, unless it cuts them."""
    if embedder.on_overflow == "truncate" or not texts:
        return
    most = embedder.max_tokens
    room = most - embedder.count_tokens(["a"])[0]
    long = [at for at, text in enumerate(texts) if len(text.encode()) > room]  # a token is a byte at least
    counts = zip(long, embedder.count_tokens([texts[at] for at in long]), strict=True)
    raise_problems([too_long(at, tokens, most) for at, tokens in counts if tokens > most])
