"""Vectors that were made before an ingest, in the place of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

import numpy as np

from harrier_core import HarrierError, WrongSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harrier_core.index import TextEncoder

    Vectors = NDArray[np.float32]

# One text in so many, and one at least, is encoded again. Two devices or number formats of one model, int8 included,
# agree to this cosine; another model, or an instruction before a document, does not.
_SAMPLED, _SIMILAR = 100, 0.99


class GivenVectors:
    """What an Index asks of its encoder, answered with the vectors that came with the texts, if they are its own."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._vectors: dict[str, Sequence[float]] = {}

    def add(self, text: str, vector: Sequence[float] | None) -> None:
        """The vector of a text that will be asked for, if it has one."""
        if vector is not None:
            self._vectors[text] = vector

    def __getattr__(self, name: str) -> Any:
        """All else is the encoder's."""
        return getattr(self._encoder, name)

    def submit_documents(self, texts: Sequence[str]) -> Future[Vectors]:
        """The vectors that were given; if one of them is missing, all are encoded."""
        given = [self._vectors[text] for text in texts if text in self._vectors]
        if len(given) < len(texts) or not given:
            return self._encoder.submit_documents(texts)
        try:
            sample = self._encoder.submit_documents(texts[::_SAMPLED]).result()
        except (HarrierError, CancelledError):  # of the sample; the ingest wants to know of all texts
            return self._encoder.submit_documents(texts)
        done: Future[Vectors] = Future()
        done.set_result(_checked(given, sample))
        return done


def _checked(given: list[Sequence[float]], sample: Vectors) -> Vectors:
    """Vectors of unit length that agree with the sample, or an error."""
    dimensions = sample.shape[1]
    if other := next((len(vector) for vector in given if len(vector) != dimensions), None):
        raise _wrong(f"have {other} dimensions, and its own {dimensions}")
    vectors = np.stack([np.asarray(vector, dtype=np.float32) for vector in given])
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.allclose(lengths, 1, atol=1e-3):  # NaN included
        raise _wrong("are not of unit length")
    least = float((vectors[::_SAMPLED] * sample).sum(axis=1).min())
    if least < _SIMILAR:
        raise _wrong(f"have a cosine of {least:.3f} to its own for the same text")
    return vectors


def _wrong(how: str) -> WrongSpace:
    return WrongSpace(
        f"embeddings that came with the nodes are not of this index's encoder: they {how}; use the store's "
        "embed_model, or leave the embeddings out"
    )
