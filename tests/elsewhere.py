"""An Embedder that is not an Encoder, known only by its protocol."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future

from harrier_core import Embedder, EmbeddingSpace, Encoded, Encoder, Task


class Elsewhere(Embedder):
    """Delegate to an Encoder, as if on another machine, under a name that is not on the hub."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @property
    def name(self) -> str:
        return "/no/such/folder/here"

    @property
    def space(self) -> EmbeddingSpace:
        return self._encoder.space

    @property
    def max_tokens(self) -> int:
        return self._encoder.max_tokens

    def submit_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Future[Encoded]:
        return self._encoder.submit_queries(texts, task=task)

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        return self._encoder.submit_documents(texts)

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        return self._encoder.count_tokens(texts)
