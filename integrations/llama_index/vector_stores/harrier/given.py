"""Embeddings that come with nodes, as an Embedder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from harrier_core import Embedder, Encoded, InputError, Problem, WrongSpace
from harrier_core.embedder import Around
from harrier_core.errors import raise_problems
from harrier_core.given import SIMILAR, GivenVectors, are_alike, least_cosine
from harrier_core.records import Unstorable

if TYPE_CHECKING:
    from harrier_core.types import Vector, Vectors

# The cosine above which no better fitting text is looked for, and how much better another text would have to fit.
_SAME, _BETTER = 0.9995, 0.001


class OfOwnTexts(Exception):  # not an error: the caller adds the nodes again
    """The vectors are of the nodes' own texts, without the metadata that LlamaIndex usually embeds with them."""


class GivenEmbeddings(Around):
    """Answers an Index with the embeddings that came with the texts, if they match its own embedder."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(embedder)
        self._vectors: dict[str, Sequence[float]] = {}
        self._own: dict[str, str] = {}

    def add(self, text: str, vector: Sequence[float] | None, own: str | None = None) -> None:
        """Add the vector of a text that will be requested, if it has one; it may prove to be that of `own`."""
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
        vectors = _OfNodes(self._embedder, self._own)
        return vectors.submit(asked, vectors.all_sound(given))


class _OfNodes(GivenVectors):
    """Vectors of nodes' texts, with or without their metadata."""

    def __init__(self, embedder: Embedder, own: Mapping[str, str]) -> None:
        super().__init__(embedder)
        self._own = own

    def all_sound(self, given: Iterable[Sequence[float]]) -> list[Vector]:
        """Return the vectors at unit length. Raise InputError if some have no direction."""
        sound: list[Vector] = []
        problems: list[Problem] = []
        for position, vector in enumerate(given):
            try:
                sound.append(self.sound(vector))
            except Unstorable as error:
                problems.append(Problem(position, InputError, str(error)))
        raise_problems(problems)
        return sound

    def compare(self, texts: Sequence[str], given: Vectors, made: Vectors) -> None:
        """Raise unless the vectors belong to these texts; they may be those of the nodes' own, or another encoder's."""
        cosine = least_cosine(given, made)
        if cosine >= _SAME:
            return
        own = self._cosine_of_own(texts, given)
        if own is not None and own >= SIMILAR and own > cosine + _BETTER:
            raise OfOwnTexts
        if not are_alike(given, made):
            also = "" if own is None else f" with its metadata, and {own:.3f} for the text alone"
            raise self.wrong(f"have a cosine of {cosine:.3f} to its own for a node's text{also}")

    def _cosine_of_own(self, texts: Sequence[str], given: Vectors) -> float | None:
        """Return how near the vectors are to those of the nodes' own texts; None if these are the texts."""
        own = [self._own.get(text, text) for text in texts]
        if own == list(texts):
            return None
        try:
            return least_cosine(given, self.embedder.encode_documents(own))
        except InputError:
            return None

    def wrong(self, how: str) -> WrongSpace:
        """Return the error that says how the embeddings differ from the embedder's own."""
        return WrongSpace(
            f"the embeddings of the nodes were not made by this index's encoder: they {how}; use the store's "
            "embed_model, or omit the embeddings"
        )
