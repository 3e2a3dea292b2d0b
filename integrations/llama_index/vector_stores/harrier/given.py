"""Vectors that were made before an ingest, as an Embedder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING

import numpy as np

from harrier_core import Embedder, Encoded, HarrierError, InputError, WrongSpace
from harrier_core.embedder import Around

if TYPE_CHECKING:
    from harrier_core.types import Vectors

# One text in so many, and one at least, is encoded again. Two devices or number formats of one model, int8 included,
# agree to this cosine; another model, or an instruction before a document, does not.
_SAMPLED, _SIMILAR = 100, 0.99
# Above it nobody asks whether another text fits still better, and by how much it would have to.
_SAME, _BETTER = 0.9995, 0.001


class OfOwnTexts(Exception):  # no error: whoever adds nodes does it again
    """The vectors are of the nodes' own texts, without the metadata that LlamaIndex embeds with them as a rule."""


class GivenVectors(Around):
    """Answer an Index with the vectors that came with the texts, if they are what its own embedder makes."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(embedder)
        self._vectors: dict[str, Sequence[float]] = {}
        self._own: dict[str, str] = {}

    def add(self, text: str, vector: Sequence[float] | None, own: str | None = None) -> None:
        """Take the vector of a text that will be asked for, if it has one; it may turn out to be that of `own`."""
        if vector is not None:
            self._vectors[text] = vector
            if own is not None and own != text and own.strip():
                self._own[text] = own

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Return the vectors that were given; if one of them is missing, begin to encode all."""
        asked = list(texts)
        given = [self._vectors[text] for text in asked if text in self._vectors]
        if len(given) < len(asked) or not given:
            return self._embedder.submit_documents(asked)
        sampled = asked[::_SAMPLED]
        try:
            sample = self._embedder.submit_documents(sampled).result().vectors
        except (HarrierError, CancelledError):  # of the sample; the ingest wants to know of all texts
            return self._embedder.submit_documents(asked)
        vectors = _sound(given, sample.shape[1])
        self._refuse_others(sampled, vectors[::_SAMPLED], sample)
        done: Future[Encoded] = Future()
        done.set_result(Encoded(vectors, [0] * len(asked)))
        return done

    def _refuse_others(self, texts: Sequence[str], given: Vectors, sample: Vectors) -> None:
        """Raise unless the vectors are of these texts; they may be of the nodes' own, or of another encoder."""
        cosine = _least(given, sample)
        if cosine >= _SAME:
            return
        own = self._cosine_of_own(texts, given)
        if own is not None and own >= _SIMILAR and own > cosine + _BETTER:
            raise OfOwnTexts
        if cosine < _SIMILAR:
            also = "" if own is None else f" with its metadata, and {own:.3f} for the text alone"
            raise _wrong(f"have a cosine of {cosine:.3f} to its own for a node's text{also}")

    def _cosine_of_own(self, texts: Sequence[str], given: Vectors) -> float | None:
        """How near the vectors are to those of the nodes' own texts; None if these are the texts."""
        own = [self._own.get(text, text) for text in texts]
        if own == list(texts):
            return None
        try:
            return _least(given, self._embedder.submit_documents(own).result().vectors)
        except InputError:
            return None


def _sound(given: list[Sequence[float]], dimensions: int) -> Vectors:
    """Vectors of unit length and the right number of dimensions, or an error."""
    if other := next((len(vector) for vector in given if len(vector) != dimensions), None):
        raise _wrong(f"have {other} dimensions, and its own {dimensions}")
    vectors = np.stack([np.asarray(vector, dtype=np.float32) for vector in given])
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):  # NaN included
        raise _wrong("are not of unit length")
    return vectors


def _least(given: Vectors, made: Vectors) -> float:
    return float((given * made).sum(axis=1).min())


def _wrong(how: str) -> WrongSpace:
    return WrongSpace(
        f"embeddings that came with the nodes are not of this index's encoder: they {how}; use the store's "
        "embed_model, or leave the embeddings out"
    )
