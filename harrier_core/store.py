"""The protocols that a database has to implement to be searched and written through an Index.

A VectorStore holds the settings of a place; what its `open` returns is the place itself, checked against the space.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from harrier_core.filters import Condition
from harrier_core.layout import StoreLayout
from harrier_core.query import Search, WordSearch
from harrier_core.records import Chunk, Match
from harrier_core.space import EmbeddingSpace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harrier_core.types import Vectors

Hashes = dict[int, bytes]  # those of one record's chunks, by number


@dataclass(frozen=True, slots=True)
class Write:
    """The changes to some records, all at once.

    Afterwards a record has the first `sizes` of its chunks, numbered from 0: those in `encoded` with these vectors,
    those in `described` with the vectors that they have, and the others as they are. A size of 0 removes the record.
    """

    sizes: Mapping[str, int]
    encoded: Sequence[Chunk]
    vectors: Vectors  # (encoded, dimensions)
    described: Sequence[Chunk]
    known: Mapping[str, Hashes]  # what the plan is based on: a record that has changed since must not be written

    def after(self) -> dict[str, Hashes]:
        """Return the hashes of the records' chunks once it is written."""
        hashes = {
            record_id: {number: hash_ for number, hash_ in known.items() if number < self.sizes[record_id]}
            for record_id, known in self.known.items()
        }
        for chunk in [*self.encoded, *self.described]:
            hashes[chunk.record_id][chunk.number] = chunk.hash
        return hashes

    def split(self, stored: Mapping[str, Hashes]) -> Split:
        """Compare the basis of the plan with what is stored now.

        A record that is neither in its old nor in its new state was changed by another writer, and is not written.
        """
        after = self.after()
        changed = [
            record_id
            for record_id, known in self.known.items()
            if stored.get(record_id, {}) not in (known, after[record_id])
        ]
        kept = self.only(self.sizes.keys() - changed) if changed else self
        stale = [
            (record_id, number)
            for record_id, numbers in stored.items()
            if record_id in kept.sizes
            for number in numbers
            if number >= kept.sizes[record_id]
        ]
        return Split(kept, changed, stale)

    def only(self, record_ids: Collection[str]) -> Write:
        """Return the part of the write that concerns these records."""
        rows = [row for row, chunk in enumerate(self.encoded) if chunk.record_id in record_ids]
        return Write(
            {record_id: size for record_id, size in self.sizes.items() if record_id in record_ids},
            [self.encoded[row] for row in rows],
            self.vectors[rows],
            [chunk for chunk in self.described if chunk.record_id in record_ids],
            {record_id: known for record_id, known in self.known.items() if record_id in record_ids},
        )


@dataclass(frozen=True, slots=True)
class Split:
    """A write, divided into what a store has to do and what it must leave."""

    write: Write  # the part for records that no other writer changed
    changed: Sequence[str]  # the others
    stale: Sequence[tuple[str, int]]  # chunks, by their records and numbers, that the records no longer have


@dataclass(frozen=True, slots=True)
class Written:
    """The result of a write."""

    deleted: int  # chunks that their records no longer have
    changed: Sequence[str]  # records that another writer changed meanwhile, left as they are
    rejected: Mapping[str, str] = field(default_factory=dict)  # records that the database refuses, and why
    lost: Collection[str] = ()  # records that were not written because another writer owns them by now


@dataclass(frozen=True, slots=True)
class Stored:
    """A chunk and its vector, as they are stored."""

    chunk: Chunk
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Facts:
    """A store's report about itself, whichever model it belongs to; None means unknown."""

    space: EmbeddingSpace | None
    chunks: int | None = None
    indexed: bool | None = None  # whether searches use an index
    bytes: int | None = None
    health: str = "fine"
    records: int | None = None
    keywords: bool | None = None  # whether it can be searched by word
    ingested: datetime | None = None  # when an ingest last changed the contents


class IngestStore(Protocol):
    """The part of an open store that an ingest needs."""

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """Return the hashes of the chunks of those of the records that are stored."""

    def write(self, write: Write) -> Written:
        """Write some records durably, and only then remove the chunks that they no longer have."""

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records, and return how many chunks they had."""

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records, each once, in any order."""

    def read(
        self,
        record_ids: Sequence[str] | None = None,
        where: Condition | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[Stored]:
        """Yield the chunks of those records, or all, that meet the condition, in any order, as they are needed.

        numbers: only chunks that have one of these numbers within their records. A second read gives the same order as
        long as nothing is written.
        """

    def build_indexes(self) -> None:
        """Build the indexes for searches, which would slow a load down, unless another process loads or builds."""


class OpenStore(IngestStore, Protocol):
    """A store that was opened for the vectors of one embedding space. Any number of threads may use it at once.

    It notices if its place is replaced: each call goes to what is there now, or raises WrongSpace or StoreMissing.
    """

    def search(self, search: Search) -> list[list[Match]]:
        """Return for each vector the k nearest chunks that meet the condition, best first."""

    def count(self) -> int:
        """Return how many chunks there are."""


class VectorStore(Protocol):
    """A place for chunks and their vectors: settings, which can be pickled unless the place is in this process."""

    def open(self, space: EmbeddingSpace, *, create: bool = False) -> OpenStore:
        """Open the place for vectors of this space; with `create`, create it if it does not exist.

        Raise StoreMissing if it does not exist, and WrongSpace if it holds vectors of another space.
        """

    def space(self) -> EmbeddingSpace | None:
        """Return the space of the stored vectors, or None if there is nothing yet."""

    def describe(self) -> Facts:
        """Return what the place reports about itself. Raise StoreMissing if it does not exist."""

    def drop(self) -> None:
        """Remove the place itself, with its contents and all that belongs to it; do nothing if it does not exist.

        Raise StoreUnsuitable if it was not made by the kit, or if something else depends on it.
        """

    def close(self) -> None:
        """Release connections; what is stored stays."""


@runtime_checkable
class Neighbours(Protocol):
    """A store in a database or folder that can contain others."""

    def neighbours(self) -> list[VectorStore]:
        """Return the kit's stores in the same database or folder, in the order of their names, including this one."""


@runtime_checkable
class Dated(Protocol):
    """A store that can record when an ingest last changed its contents, for `describe`."""

    def note_ingest(self, when: datetime) -> None:
        """Record the time; do nothing if that is not possible: it is only informative."""


Lists = tuple[Sequence[Match], Sequence[Match]]  # the matches of one query: found by words, and by vector


@runtime_checkable
class Worded(Protocol):
    """An open store that can hold the words of its chunks next to their vectors, if it was made with `keywords=True`.

    Words are a function of a chunk's text (`harrier_core.lexical`), and are written with it.
    """

    def keywords_problem(self) -> str | None:
        """Return why chunks cannot be found by their words and what to do, or None if they can be."""

    def search_words(self, search: WordSearch) -> list[Lists]:
        """Return for each query the k chunks with the highest BM25 of its terms, and those that `near` asks for.

        The score of a match by words is its BM25, and it has no cosine. The rarity of a term is that in the whole
        store, whatever the condition. Raise StoreUnsuitable if chunks do not have their words.
        """

    def add_keywords(self, tell: Callable[[int], None]) -> None:
        """Store the words of all chunks, while others read and write; after a crash, a new call resumes.

        Call `tell` with the number of chunks that have them so far.
        """

    def wrong_keywords(self) -> Iterator[Chunk]:
        """Yield the chunks whose words do not match their texts."""


@runtime_checkable
class Audited(Protocol):
    """A store that other programs can write to as well; `verify` reports their entries."""

    def audit(self, tell: Callable[[tuple[str, str]], None]) -> Iterator[Stored]:
        """Yield all chunks; call `tell` with the id of each other entry, and the reason why it is not a chunk."""


@runtime_checkable
class LaidOut(Protocol):
    """A store that reports its layout, and accepts one for a new place."""

    def layout(self) -> StoreLayout:
        """Return the layout of the place or, if it does not exist, that of a new one."""

    def adopt(self, layout: StoreLayout) -> None:
        """Use this layout for a new place, as far as possible, where the store's settings leave it open.

        An existing place stays as it is, except for missing indexes.
        """


@runtime_checkable
class Followed(Protocol):
    """A store whose place may be kept up to date by something that writes to it whenever its source changes."""

    def follows(self) -> str | None:
        """Return what the place is kept in step with, such as a table under live sync, or None.

        Raise StoreUnsuitable if that cannot be found out.
        """


BEFORE = "_before"  # suffix of the place that keeps an index as it was before its model changed


class Exchange(Protocol):
    """Gives the name of a place to another one next to it, in one step, and keeps the old place under a third name."""

    def problem(self) -> str | None:
        """Return why it cannot be done and what to do, or None if it can be."""

    def share(self) -> None:
        """Restrict the new place to those who have access to this one, before it is filled."""

    def noting(self) -> AbstractContextManager[None]:
        """Return a context in which a place may note which records change, so that others are compared only once."""

    def differing(self) -> Iterator[list[str]] | None:
        """Yield the ids of the records whose chunks differ between the two places, some at a time.

        Return None if their hashes must be compared to find them.
        """

    def run(self, old: OpenStore, new: OpenStore, last: Callable[[OpenStore, OpenStore], None]) -> None:
        """Call `last` while no one else can write to the place, and then exchange the names.

        `last` gets both places as they must be used then. It may also be called before, while others write. If it
        raises an error, or this process ends at any moment, everything keeps its name.
        """


@runtime_checkable
class Exchangeable(Protocol):
    """A store whose place can be exchanged, in one step, for another one next to it."""

    def beside(self, suffix: str) -> VectorStore:
        """Return a store for the place whose name is this one's with a suffix, which need not be there."""

    def exchange(self, new: str, kept: str) -> Exchange:
        """Return the exchange that gives this name to the place with suffix `new`, and suffix `kept` to this one."""
