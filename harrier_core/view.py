"""A restricted view of an Index: searches and records within conditions that callers cannot widen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from harrier_core.errors import StoreMissing
from harrier_core.filters import parse
from harrier_core.query import Mode
from harrier_core.records import Chunk, Match
from harrier_core.threads import in_thread

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from harrier_core.index import Index
    from harrier_core.store import Stored
    from harrier_core.tasks import Task

Where = Mapping[str, Any]

_FILLED = 200  # characters between two chunks; a larger gap is not just white space trimmed by chunking
# Representative chunks are looked for in this many directions; several find the same ones, so each looks for more.
_DIRECTIONS, _MORE = 16, 4


class Seen(TypedDict, total=False):
    """The keywords of a View's searches. `Searching` explains them.

    There is no `expand`: a caller may not be allowed to see the chunks around a match.
    """

    offset: int
    min_score: float | None
    exact: bool
    ef: int | None
    mode: Mode
    keyword_weight: float | None
    with_vectors: bool


@dataclass(frozen=True)
class Whole:
    """A record as it is stored: those of its chunks that may be seen, in their order."""

    id: str
    chunks: tuple[Chunk, ...]

    @cached_property
    def text(self) -> str:
        """The chunks' text without overlaps, with white space for what the chunking left out between them.

        A gap of more than 200 characters becomes a line break: chunks are missing there.
        """
        return self._joined[0]

    @property
    def at(self) -> tuple[int, ...]:
        """The position in `text` at which each chunk begins."""
        return self._joined[1]

    @cached_property
    def _joined(self) -> tuple[str, tuple[int, ...]]:
        parts: list[str] = []
        begins: list[int] = []
        length, end = 0, 0
        for chunk in self.chunks:
            if chunk.start >= end:
                gap = chunk.start - end
                filled = "" if not gap else "\n" + " " * (gap - 1 if gap <= _FILLED else 0)
                begins.append(length + len(filled))
                parts += (filled, chunk.text)
                length += len(filled) + len(chunk.text)
            else:
                begins.append(length - (end - chunk.start))
                more = chunk.text[end - chunk.start :]
                parts.append(more)
                length += len(more)
            end = max(end, chunk.end)
        return "".join(parts), tuple(begins)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The metadata that all of the chunks have in common."""
        first, *others = (chunk.metadata for chunk in self.chunks)
        return {name: value for name, value in first.items() if all(_has(each, name, value) for each in others)}

    def described(self, chunk: Chunk) -> dict[str, Any]:
        """Return the metadata of this chunk that not all have in common, such as its page."""
        return {name: value for name, value in chunk.metadata.items() if name not in self.metadata}


def _has(metadata: Mapping[str, Any], name: str, value: object) -> bool:
    return name in metadata and bool(metadata[name] == value)


class View:
    """An Index as seen by callers who do not own it: read-only, and within fixed conditions.

    A caller's conditions are joined with the fixed ones by and. Any number of threads and tasks may use it at once.
    """

    def __init__(self, index: Index, where: Where | None = None) -> None:
        """Take an Index, and conditions that limit what may be seen; without them, everything may be."""
        self._fixed = None if parse(where) is None else where
        self._index = index

    @property
    def index(self) -> Index:
        """The Index itself, without any such conditions."""
        return self._index

    @property
    def fixed(self) -> Where | None:
        """The conditions that apply to everyone, or None if there are no such conditions."""
        return self._fixed

    def within(self, where: Where | None) -> Where | None:
        """Return a caller's conditions together with the fixed ones. Raise FilterError if they are not valid."""
        parse(where)  # separately, so that an error is about what the caller wrote
        if self._fixed is None:
            return where
        return {"$and": [self._fixed, where]} if where else self._fixed

    # -- searching

    def search(
        self,
        query: str,
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        **seen: Unpack[Seen],
    ) -> list[Match]:
        """Return the k chunks that best answer a query, as `Index.search` does."""
        return self._index.search(query, k, self.within(where), task=task, **seen)

    async def asearch(
        self,
        query: str,
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        **seen: Unpack[Seen],
    ) -> list[Match]:
        """Return what `search` does, without holding up the event loop."""
        return await self._index.asearch(query, k, self.within(where), task=task, **seen)

    async def asearch_many(
        self,
        queries: Iterable[str],
        k: int = 5,
        where: Where | None = None,
        *,
        task: str | Task | None = None,
        **seen: Unpack[Seen],
    ) -> list[list[Match]]:
        """Return what `search` does for each query, asked together."""
        return await self._index.asearch_many(queries, k, self.within(where), task=task, **seen)

    def search_vectors(
        self,
        vectors: ArrayLike,
        k: int = 5,
        where: Where | None = None,
        *,
        queries: Iterable[str] | None = None,
        **seen: Unpack[Seen],
    ) -> list[list[Match]]:
        """Return what `search` does for queries that were encoded before, as `Index.search_vectors`."""
        return self._index.search_vectors(vectors, k, self.within(where), queries=queries, **seen)

    # -- reading

    def record(self, record_id: str) -> Whole | None:
        """Return a record, or None if it does not exist or may not be seen."""
        found = sorted((each.chunk for each in self._read(record_id)), key=lambda chunk: chunk.number)
        return Whole(record_id, tuple(found)) if found else None

    async def arecord(self, record_id: str) -> Whole | None:
        """Return what `record` does, without holding up the event loop."""
        return await in_thread(self.record, record_id)

    def near(self, record_id: str, number: int, k: int = 5) -> list[Match] | None:
        """Return the k chunks nearest to a chunk by their vectors, without itself; None if it is absent or hidden."""
        own = next((each for each in self._read(record_id) if each.chunk.number == number), None)
        if own is None:
            return None
        [found] = self.search_vectors([own.vector], k + 1)
        return [each for each in found if (each.record_id, each.number) != (record_id, number)][:k]

    def _read(self, record_id: str) -> Iterable[Stored]:
        return self._index.read([record_id], self._fixed)

    def sample(self, most: int = 256) -> list[Match]:
        """Return representative chunks, with their vectors: the same ones each time while nothing is written.

        They are found by searches in random directions, which costs as much as a search, however large the index is.
        The list is empty if nothing is stored.
        """
        import numpy as np

        directions = np.random.default_rng(0).standard_normal((_DIRECTIONS, self._index.encoder.dimensions))
        try:
            found = self.search_vectors(directions, -(-most * _MORE // _DIRECTIONS), with_vectors=True)
        except StoreMissing:
            return []
        turns = (match for turn in zip_longest(*found) for match in turn if match is not None)
        return list({match.id: match for match in turns}.values())[:most]
