"""The backend of a store, which holds its collection: a server, or an engine in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from harrier_core.layout import StoreLayout
from harrier_core.lexical import Terms
from harrier_core.records import Chunk
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Hashes
from harrier_qdrant.aside import Work
from harrier_qdrant.filters import Filter
from harrier_qdrant.points import Found
from harrier_qdrant.schema import Layout, Shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harrier_core.types import Vectors


CLOSED = "this store is closed; create a new one"


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """One vector to search for, or the terms of one query."""

    vector: NDArray[np.float32] | Terms
    limit: int
    filter: Filter | None
    exact: bool
    with_vectors: bool
    ef: int | None = None

    @property
    def numbers(self) -> int:
        """The number of dimensions of the vector."""
        return 2 * len(self.vector.ids) if isinstance(self.vector, Terms) else len(self.vector)


class Words(Protocol):
    """The words of one collection's chunks: a sparse vector next to the dense one."""

    def create(self) -> None:
        """Add the vector to the existing collection.

        Raise StoreUnsuitable if that is not possible for an existing collection.
        """

    def remove(self) -> None:
        """Remove the vector from all points."""

    def mark(self, version: int | None) -> None:
        """Record in the collection that all chunks have their words or, with None, that they may lack them."""

    def write(self, chunks: Sequence[Chunk]) -> None:
        """Add the words of stored chunks, except those that have some, have changed or are gone."""


class Backend(Protocol):
    """One collection. Every request may be made twice: after a lost answer it is repeated."""

    may_race: bool  # whether others may write between a look and a write

    @property
    def words(self) -> Words:
        """The object that changes the words of all chunks."""

    def writing(self) -> AbstractContextManager[Any]:
        """Return a context to hold while records are compared and written."""

    def shape(self) -> Shape | None:
        """Return the collection as it is now, or None if it does not exist."""

    def look(self) -> Work[Shape | None]:
        """Return `shape` as work: a server's begins at once, any other when its result is requested."""

    def bytes(self) -> int | None:
        """Return the size of the collection on disk, or None if it is unknown."""

    def names(self) -> list[str]:
        """Return the names of the kit's collections in the same folder or on the same server."""

    def layout(self) -> StoreLayout:
        """Return the layout of the collection. Raise StoreMissing if it does not exist."""

    def create(self, space: EmbeddingSpace, layout: Layout) -> None:
        """Create the collection, unless another process was faster."""

    def drop(self) -> None:
        """Remove the collection, which must be one of the kit's; do nothing if it does not exist."""

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors, *, words: bool) -> Mapping[str, str]:
        """Write chunks durably, with their words if requested.

        Return the ids of refused records with the reasons.
        """

    def set_payloads(self, chunks: Sequence[Chunk], known: Mapping[str, Hashes]) -> None:
        """Change the payloads of stored chunks, but not their texts and vectors.

        Leave a chunk that no longer has its `known` hash: another writer may have changed its text.
        """

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points."""

    def delete_where(self, where: Filter) -> None:
        """Remove the points that match a filter."""

    def scroll(
        self, where: Filter | None, fields: Sequence[str] | None, *, with_vectors: bool, with_words: bool = False
    ) -> Iterator[Callable[[], list[Found]]]:
        """Yield requests for the pages of the points that match a filter, each to be made before the next is taken.

        fields: those of the payload, or None for all of it. with_words: only allowed if there is a vector for them.
        """

    def search(self, queries: Sequence[Query]) -> list[list[Found]]:
        """Return the nearest points for each query, best first; terms need a vector of words."""

    def count(self, where: Filter | None) -> int:
        """Return how many points match a filter."""

    def build_indexes(self, layout: Layout) -> None:
        """Build the indexes that searches need, which would slow down a load."""

    def close(self) -> None:
        """Release connections; what is stored stays."""
