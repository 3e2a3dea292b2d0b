"""Blank documents that are ranked last, for callers whose batches mix texts of many people.

A blank text has no meaning to embed. A zero vector in its place has no cosine either: some databases answer with NaN
and sort it first. The vector of the bare prompt resembles that of any short text, so it ranks among the good ones.
The vector used here points away from all queries: every query begins with the same instruction, and this is the
opposite of a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harrier_core.embedder import Embedder
from harrier_core.errors import positions_of_all
from harrier_core.texts import listed

if TYPE_CHECKING:
    from harrier_core.tasks import Task
    from harrier_core.types import Vectors

_ANY = "text"  # the instruction before it is what counts


class BlanksLast:
    """An encoder that gives a blank document the opposite of a query's vector. A blank query is still an error."""

    def __init__(self, encoder: Embedder) -> None:
        self._encoder = encoder

    def encode_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Vectors:
        """Return what `Encoder.encode_queries` returns."""
        return self._encoder.encode_queries(texts, task=task)

    async def aencode_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Vectors:
        """Return what `Encoder.aencode_queries` returns."""
        return await self._encoder.aencode_queries(texts, task=task)

    def encode_documents(self, texts: Iterable[str]) -> Vectors:
        """Return what `Encoder.encode_documents` returns, and for each blank text a vector that ranks last."""
        given = listed(texts)
        kept = _not_blank(given)
        with positions_of_all(kept.__getitem__):
            made = self._encoder.encode_documents([given[at] for at in kept])
        return made if len(kept) == len(given) else _filled(made, kept, self.encode_queries([_ANY]), len(given))

    async def aencode_documents(self, texts: Iterable[str]) -> Vectors:
        """Return what `encode_documents` returns, without holding up the event loop."""
        given = listed(texts)
        kept = _not_blank(given)
        with positions_of_all(kept.__getitem__):
            made = await self._encoder.aencode_documents([given[at] for at in kept])
        return made if len(kept) == len(given) else _filled(made, kept, await self.aencode_queries([_ANY]), len(given))


def blank(text: object) -> bool:
    """Return whether it is a text without any meaning to embed."""
    return isinstance(text, str) and not text.strip()


def _not_blank(texts: Sequence[Any]) -> list[int]:
    return [at for at, text in enumerate(texts) if not blank(text)]


def _filled(made: Vectors, kept: Sequence[int], query: Vectors, count: int) -> Vectors:
    """Return vectors in the callers' order: those that were made, and the opposite of the query everywhere else."""
    import numpy as np

    vectors = np.repeat(-query, count, axis=0)  # (count, dimensions)
    vectors[kept] = made
    return vectors
