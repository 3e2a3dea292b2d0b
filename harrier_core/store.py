"""What a database implements to be searched and written through an Index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from harrier_core.filters import Condition
from harrier_core.records import Chunk, Match
from harrier_core.space import EmbeddingSpace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

Hashes = dict[int, bytes]  # of one record's chunks, by their number


@dataclass(frozen=True, slots=True)
class Write:
    """What is to become of some records, all of it at once.

    Afterwards a record has `sizes` of its chunks, numbered from 0: those in `encoded` with these vectors, those in
    `described` with the vectors that they have, and the others as they are.
    """

    sizes: Mapping[str, int]
    encoded: Sequence[Chunk]
    vectors: Vectors  # (encoded, dimensions)
    described: Sequence[Chunk]
    known: Mapping[str, Hashes]  # what the plan was made on: if a record is not so any more, it must not be written

    def after(self) -> dict[str, Hashes]:
        """What will be known of the records when it is written."""
        hashes = {
            record_id: {number: hash_ for number, hash_ in known.items() if number < self.sizes[record_id]}
            for record_id, known in self.known.items()
        }
        for chunk in [*self.encoded, *self.described]:
            hashes[chunk.record_id][chunk.number] = chunk.hash
        return hashes

    def only(self, record_ids: Collection[str]) -> Write:
        """The part of it that is about these records."""
        rows = [row for row, chunk in enumerate(self.encoded) if chunk.record_id in record_ids]
        return Write(
            {record_id: size for record_id, size in self.sizes.items() if record_id in record_ids},
            [self.encoded[row] for row in rows],
            self.vectors[rows],
            [chunk for chunk in self.described if chunk.record_id in record_ids],
            {record_id: known for record_id, known in self.known.items() if record_id in record_ids},
        )


@dataclass(frozen=True, slots=True)
class Written:
    """What became of it."""

    deleted: int  # chunks that their records no longer have
    changed: Sequence[str]  # records that somebody else changed meanwhile, left as they are
    rejected: Mapping[str, str] = field(default_factory=dict)  # records that the database refuses, and why
    lost: Collection[str] = ()  # records that were not written, because the caller no longer holds them


@dataclass(frozen=True, slots=True)
class Stored:
    """A chunk and its vector, as they are stored."""

    chunk: Chunk
    vector: NDArray[np.float32]


class IngestStore(Protocol):
    """What an ingest needs of a store."""

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """The hashes of the chunks of those records that are there."""

    def write(self, write: Write) -> Written:
        """Write some records so that they are safe, and only then remove what they no longer have."""

    def settle(self) -> None:
        """Called when an ingest is over: build what searches need and a load should not wait for."""

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records; how many chunks that were."""

    def record_ids(self) -> Iterator[str]:
        """The ids of all records, each once, in any order."""


class VectorStore(IngestStore, Protocol):
    """A place for chunks and their vectors, of one embedding space. Any number of threads may use it at once."""

    def open(self, space: EmbeddingSpace, *, write: bool) -> None:
        """Make sure that the vectors in the place are of this space, and, to write, that the place is there.

        Raise WrongSpace otherwise. It is cheap when it was called before, and finds out if the place was replaced.
        """

    def search(
        self, vectors: Vectors, k: int, where: Condition | None, *, with_vectors: bool = False
    ) -> list[list[Match]]:
        """For each vector the k nearest chunks that meet the condition, best first."""

    def read(self, record_ids: Sequence[str] | None = None, where: Condition | None = None) -> Iterator[Stored]:
        """The chunks of those records, or of all, that meet the condition, in any order, as they are needed."""

    def count(self) -> int:
        """How many chunks there are."""

    def close(self) -> None:
        """Let go of connections; what is stored stays."""


@runtime_checkable
class Audited(Protocol):
    """A store that other programs can write to as well; `verify` reports their entries."""

    def audit(self, tell: Callable[[tuple[str, str]], None]) -> Iterator[Stored]:
        """Read all chunks; call `tell` with the id of each other entry, and the reason why it is not a chunk."""
