"""What a database implements to be searched and written through an Index.

A VectorStore is a place by its settings; what its `open` returns is the place itself, checked against the space.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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

    def split(self, stored: Mapping[str, Hashes]) -> Split:
        """Compare what the plan was made on with what is stored now.

        A record that is neither as it was nor as it is to be was changed by somebody else, and is not written.
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
class Split:
    """A write, and what of it a store has to do."""

    write: Write  # of the records that nobody else changed
    changed: Sequence[str]  # the others
    stale: Sequence[tuple[str, int]]  # chunks, by their records and numbers, that the records no longer have


@dataclass(frozen=True, slots=True)
class Written:
    """What became of it."""

    deleted: int  # chunks that their records no longer have
    changed: Sequence[str]  # records that somebody else changed meanwhile, left as they are
    rejected: Mapping[str, str] = field(default_factory=dict)  # records that the database refuses, and why
    lost: Collection[str] = ()  # records that were not written because they are somebody else's to write by now


@dataclass(frozen=True, slots=True)
class Stored:
    """A chunk and its vector, as they are stored."""

    chunk: Chunk
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a store says of itself, whichever model it belongs to; None is what it cannot tell."""

    space: EmbeddingSpace | None
    chunks: int | None = None
    indexed: bool | None = None  # whether searches use an index
    bytes: int | None = None
    health: str = "fine"
    records: int | None = None
    keywords: bool | None = None  # whether it can be searched by word
    ingested: datetime | None = None  # when an ingest last changed what is there


class IngestStore(Protocol):
    """What an ingest needs of an open store."""

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """Return the hashes of the chunks of those records that are there."""

    def write(self, write: Write) -> Written:
        """Write some records so that they are safe, and only then remove what they no longer have."""

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records, and return how many chunks those were."""

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
        """Build what searches need and a load should not wait for, unless somebody else loads or builds."""


class OpenStore(IngestStore, Protocol):
    """A store that was opened for the vectors of one embedding space. Any number of threads may use it at once.

    It finds out when what it was opened on was replaced: each call goes to what is there now, or raises WrongSpace or
    StoreMissing.
    """

    def search(self, search: Search) -> list[list[Match]]:
        """Return for each vector the k nearest chunks that meet the condition, best first."""

    def count(self) -> int:
        """Return how many chunks there are."""


class VectorStore(Protocol):
    """A place for chunks and their vectors: settings, which can be pickled if the place is not in this process."""

    def open(self, space: EmbeddingSpace, *, create: bool = False) -> OpenStore:
        """Open the place for vectors of this space; with `create`, make it if there is none.

        Raise StoreMissing if there is nothing, and WrongSpace if it holds vectors of another space.
        """

    def space(self) -> EmbeddingSpace | None:
        """Return the space of the vectors that are there, or None if there is nothing yet."""

    def describe(self) -> Facts:
        """Return what the place says of itself. Raise StoreMissing if there is nothing."""

    def drop(self) -> None:
        """Remove the place itself, with all that it holds and what belongs to it; where nothing is, do nothing.

        Raise StoreUnsuitable if what is there was not made by the kit, or if something else lives on it.
        """

    def close(self) -> None:
        """Let go of connections; what is stored stays."""


@runtime_checkable
class Neighbours(Protocol):
    """A store of a database or folder that can have others beside it."""

    def neighbours(self) -> list[VectorStore]:
        """Return the kit's stores that are there, in the order of their names; the store itself if it is there."""


@runtime_checkable
class Dated(Protocol):
    """A store that can keep when an ingest last changed what is there, for `describe`."""

    def note_ingest(self, when: datetime) -> None:
        """Keep it; do nothing where that cannot be done: it is told to readers, and decides nothing."""


Lists = tuple[Sequence[Match], Sequence[Match]]  # of one query: found by words, and by vector


@runtime_checkable
class Worded(Protocol):
    """An open store that can hold the words of its chunks beside their vectors, if it was made with `keywords=True`.

    Words are a function of a chunk's text (`harrier_core.lexical`), and are written with it.
    """

    def keywords_problem(self) -> str | None:
        """Return why chunks cannot be found by their words and what to do, or None if they can be."""

    def search_words(self, search: WordSearch) -> list[Lists]:
        """Return for each query the k chunks with the highest BM25 of its terms, and those that `near` asks for.

        A match by words has that for its score, and no cosine. How rare a term is, is that of the whole store, whatever
        the condition. Raise StoreUnsuitable if chunks do not have their words.
        """

    def add_keywords(self, tell: Callable[[int], None]) -> None:
        """Give all chunks their words, beside readers and writers; begun again after a crash, it goes on.

        Call `tell` with the number of chunks that have them so far.
        """

    def wrong_keywords(self) -> Iterator[Chunk]:
        """Yield the chunks whose words are not those of their texts."""


@runtime_checkable
class Audited(Protocol):
    """A store that other programs can write to as well; `verify` reports their entries."""

    def audit(self, tell: Callable[[tuple[str, str]], None]) -> Iterator[Stored]:
        """Read all chunks; call `tell` with the id of each other entry, and the reason why it is not a chunk."""


@runtime_checkable
class LaidOut(Protocol):
    """A store that tells how its place is made, and can be told how to make a new one."""

    def layout(self) -> StoreLayout:
        """Return how the place is made, or, where there is nothing, how it would be."""

    def adopt(self, layout: StoreLayout) -> None:
        """Have a new place made with this layout, as far as it can be, where the store's settings say nothing.

        A place that is there stays as it is, but for indexes that are missing.
        """


@runtime_checkable
class Followed(Protocol):
    """A store whose place may be kept by something that writes to it whenever its source changes."""

    def follows(self) -> str | None:
        """Return what the place is kept in step with, such as a table under live sync, or None."""


BEFORE = "_before"  # behind the name of an index: what it was before its model changed


class Exchange(Protocol):
    """How a place gives its name to another one beside it, in one step, and keeps what it held under a third name."""

    def problem(self) -> str | None:
        """Return why it cannot be done and what to do, or None if it can be."""

    def share(self) -> None:
        """Have the new place, which is empty, be open to those only to whom this one is."""

    def differing(self) -> Iterator[list[str]] | None:
        """Yield the ids of the records whose chunks the two places do not both have, some at a time.

        Return None if their hashes must be compared for that.
        """

    def run(self, last: Callable[[], None]) -> None:
        """Call `last` while nobody else can write to the place, and then exchange the names.

        If `last` raises an error, or this process ends at any instant, everything keeps its name.
        """


@runtime_checkable
class Exchangeable(Protocol):
    """A store whose place can be exchanged, in one step, for another one beside it."""

    def beside(self, suffix: str) -> VectorStore:
        """Return a store for the place whose name is this one's with a suffix, which need not be there."""

    def exchange(self, new: str, kept: str) -> Exchange:
        """Return the way by which the place with the suffix `new` takes this name, and this one the suffix `kept`."""
