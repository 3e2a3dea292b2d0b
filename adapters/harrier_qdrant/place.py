"""Where a collection is, as the store sees it: a server, or an engine in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from harrier_core.records import Chunk
from harrier_core.space import EmbeddingSpace
from harrier_qdrant.filters import Filter
from harrier_qdrant.points import Found
from harrier_qdrant.schema import Shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


class Place(Protocol):
    """One collection. All that it does may be done twice: after a lost answer it is."""

    may_race: bool  # whether others may write between a look and a write

    def writing(self) -> AbstractContextManager[Any]:
        """Held while records are looked at and written."""

    def shape(self) -> Shape | None:
        """The collection as it is, or nothing."""

    def create(self, space: EmbeddingSpace) -> None:
        """Make it, unless somebody else was faster."""

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors) -> Mapping[str, str]:
        """Write chunks so that they are safe; the ids of records that are refused come back, with the reasons."""

    def describe(self, chunks: Sequence[Chunk]) -> None:
        """Change what is said of chunks that are there."""

    def delete(self, ids: Sequence[str]) -> None:
        """Remove chunks."""

    def delete_where(self, where: Filter) -> None:
        """Remove what a filter finds."""

    def scroll(self, where: Filter | None, fields: Sequence[str] | None, *, with_vectors: bool) -> Iterator[Found]:
        """What a filter finds, as it is needed; fields: of the payload, or all of it."""

    def search(
        self, vector: NDArray[np.float32], limit: int, where: Filter | None, *, with_vectors: bool
    ) -> list[Found]:
        """The nearest that a filter finds, best first."""

    def count(self, where: Filter | None) -> int:
        """How many a filter finds."""

    def settle(self) -> None:
        """Build what searches need and a load should not wait for."""

    def close(self) -> None:
        """Let go of it."""
