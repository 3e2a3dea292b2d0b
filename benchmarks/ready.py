"""Encoders that cost nothing, or a fixed time per text, so that only stores are compared."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from harrier_core import Embedder, EmbeddingSpace, Encoded, Record
from harrier_core.testing import PROSE

Vectors = NDArray[np.float32]


def space_of(dimensions: int) -> EmbeddingSpace:
    """Return a space for vectors that no model made."""
    return EmbeddingSpace("bench", None, "w", "t", dimensions, "last token", "l2", "{text}")


class Ready(Embedder):
    """An embedder with prepared vectors, which returns them at a fixed rate or at once."""

    name = "bench"
    max_tokens = 1_000_000

    def __init__(self, vectors: Vectors, texts: Iterable[str], rate: float | None = None) -> None:
        self._space = space_of(vectors.shape[1])
        self._vectors = vectors
        self._places = {text: place for place, text in enumerate(texts)}
        self._rate = rate
        self._thread = ThreadPoolExecutor(1)
        self.busy = 0.0

    @property
    def space(self) -> EmbeddingSpace:
        """Return the space of its vectors."""
        return self._space

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        """Estimate, which costs nothing either."""
        return [len(text) // 5 for text in texts]

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Look up the vectors on a thread, where a model would encode."""
        return self._thread.submit(self._look_up, list(texts))

    def submit_queries(self, texts: Iterable[str], *, task: object = None) -> Future[Encoded]:  # noqa: ARG002
        """Look up the vectors; each query is one of the texts."""
        return self._thread.submit(self._look_up, list(texts))

    def _look_up(self, texts: list[str]) -> Encoded:
        vectors = self._vectors[[self._places[text] for text in texts]]
        if self._rate and texts:
            threading.Event().wait(len(texts) / self._rate)
            self.busy += len(texts) / self._rate
        return Encoded(vectors, [0] * len(texts))


class Instant(Embedder):
    """An embedder that returns the same vector for any text."""

    name = "bench"
    max_tokens = 1_000_000

    def __init__(self, dimensions: int) -> None:
        self._space = space_of(dimensions)
        self._vector = np.full(dimensions, dimensions**-0.5, np.float32)

    @property
    def space(self) -> EmbeddingSpace:
        """Return the space of its vectors."""
        return self._space

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        """Count words, which is accurate enough."""
        return [len(text.split()) for text in texts]

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Return the vectors at once."""
        given = list(texts)
        done: Future[Encoded] = Future()
        done.set_result(Encoded(np.tile(self._vector, (len(given), 1)), [0] * len(given)))
        return done

    def submit_queries(self, texts: Iterable[str], *, task: object = None) -> Future[Encoded]:  # noqa: ARG002
        """Return the vectors at once."""
        return self.submit_documents(texts)


class Noise(Instant):
    """An embedder that returns noise, the same for equal texts."""

    name = "vectors of noise"

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Draw each vector, seeded by its text."""
        drawn = [np.random.default_rng([*text.encode()]).normal(size=self.dimensions) for text in texts]
        done: Future[Encoded] = Future()
        done.set_result(Encoded(np.array([row / np.linalg.norm(row) for row in drawn], np.float32), [0] * len(drawn)))
        return done


def rows(number: int, dimensions: int) -> tuple[list[Record], Vectors]:
    """Return records with some 560 characters of text, and low-rank vectors in topics of 200, similar to embeddings."""
    chance = np.random.default_rng(0)
    prose = " ".join(PROSE)
    texts = [f"{each} {prose[each % 400 : each % 400 + 550]}" for each in range(number)]
    records = [Record(f"record {each}", text, {"rare": each % 100 == 0, "n": each}) for each, text in enumerate(texts)]
    topics = chance.normal(size=(max(1, number // 200), 192))
    low = topics[chance.integers(len(topics), size=number)] + 0.7 * chance.normal(size=(number, 192))
    vectors = (low @ chance.normal(size=(192, dimensions))).astype(np.float32)
    return records, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
