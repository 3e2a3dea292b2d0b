"""Encoders that cost nothing, or exactly so much: what is compared is a store."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from harrier_core import EmbeddingSpace, Record
from harrier_core.testing import PROSE

Vectors = NDArray[np.float32]


def space_of(dimensions: int) -> EmbeddingSpace:
    """A space of vectors that nobody made."""
    return EmbeddingSpace("bench", None, "w", "t", dimensions, "last token", "l2", "{text}")


class Ready:
    """An encoder whose vectors are there already, at so many texts a second or at once."""

    def __init__(self, vectors: Vectors, texts: Iterable[str], rate: float | None = None) -> None:
        self.space = space_of(vectors.shape[1])
        self._vectors = vectors
        self._places = {text: place for place, text in enumerate(texts)}
        self._rate = rate
        self._thread = ThreadPoolExecutor(1)
        self.busy = 0.0

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """A guess, which costs nothing either."""
        return [len(text) // 5 for text in texts]

    def submit_documents(self, texts: Sequence[str]) -> Future[Vectors]:
        """On a thread, as a model would."""
        return self._thread.submit(self._look_up, texts)

    def _look_up(self, texts: Sequence[str]) -> Vectors:
        vectors = self._vectors[[self._places[text] for text in texts]]
        if self._rate and len(texts):
            threading.Event().wait(len(texts) / self._rate)
            self.busy += len(texts) / self._rate
        return vectors

    def encode_queries(self, texts: Iterable[str], *, task: object = None) -> Vectors:  # noqa: ARG002
        """Not timed here."""
        return self._look_up(list(texts))

    async def aencode_queries(self, texts: Iterable[str], *, task: object = None) -> Vectors:  # noqa: ARG002
        """Not timed here."""
        return self._look_up(list(texts))


class Instant:
    """An encoder of any text, whose vectors are all the same."""

    def __init__(self, dimensions: int) -> None:
        self.space = space_of(dimensions)
        self._vector = np.full(dimensions, dimensions**-0.5, np.float32)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Words will do."""
        return [len(text.split()) for text in texts]

    def submit_documents(self, texts: Sequence[str]) -> Future[Vectors]:
        """At once."""
        done: Future[Vectors] = Future()
        done.set_result(np.tile(self._vector, (len(texts), 1)))
        return done


def rows(number: int, dimensions: int) -> tuple[list[Record], Vectors]:
    """Records with some 560 characters of text, and vectors in topics of 200, of low rank, as embeddings are."""
    chance = np.random.default_rng(0)
    prose = " ".join(PROSE)
    texts = [f"{each} {prose[each % 400 : each % 400 + 550]}" for each in range(number)]
    records = [Record(f"record {each}", text, {"rare": each % 100 == 0, "n": each}) for each, text in enumerate(texts)]
    topics = chance.normal(size=(max(1, number // 200), 192))
    low = topics[chance.integers(len(topics), size=number)] + 0.7 * chance.normal(size=(number, 192))
    vectors = (low @ chance.normal(size=(192, dimensions))).astype(np.float32)
    return records, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
