"""A store in memory: exact, small, gone with the process. Other stores are compared with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from harrier_core.errors import SettingError, StoreMissing, WrongSpace
from harrier_core.filters import Condition, meets
from harrier_core.query import Search
from harrier_core.records import Chunk, Match
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Facts, Hashes, Stored, Write, Written

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MemoryStore:
    """A VectorStore without a database. There is nothing between it and what is stored: it opens itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._space: EmbeddingSpace | None = None
        self._stored: dict[str, dict[int, tuple[Chunk, NDArray[np.float32]]]] = {}

    # -- the place

    def open(self, space: EmbeddingSpace, *, create: bool = False) -> MemoryStore:
        """Open it; the first space that creates it is the space."""
        with self._lock:
            if self._space is None and create:
                self._space = space
            if self._space is None:
                raise _missing()
            if self._space != space:
                raise WrongSpace(f"this store is of another space: {self._space.explain(space)}; use another store")
        return self

    def space(self) -> EmbeddingSpace | None:
        """Return the space that it was created for."""
        return self._space

    def describe(self) -> Facts:
        """Return its space and size."""
        if self._space is None:
            raise _missing()
        return Facts(self._space, self.count(), records=len(list(self.record_ids())))

    def drop(self) -> None:
        """Forget everything, the space as well."""
        with self._lock:
            self._space = None
            self._stored = {}

    def close(self) -> None:
        """Do nothing: another Index may go on with it."""

    def __repr__(self) -> str:
        return "MemoryStore()"

    def __reduce__(self) -> NoReturn:
        raise SettingError("a MemoryStore cannot be pickled: what is stored is in this process; use another store")

    @property
    def _records(self) -> dict[str, dict[int, tuple[Chunk, NDArray[np.float32]]]]:
        """What is stored; it was opened, and may have been dropped since."""
        if self._space is None:
            raise _missing()
        return self._stored

    # -- writing

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """Return the hashes of the chunks of those records that are there."""
        with self._lock:
            return self._known(record_ids)

    def _known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        return {
            record_id: {number: chunk.hash for number, (chunk, _) in self._records[record_id].items()}
            for record_id in record_ids
            if record_id in self._records
        }

    def write(self, write: Write) -> Written:
        """Write all of it under one lock."""
        with self._lock:
            split = write.split(self._known(list(write.sizes)))
            for chunk, vector in zip(split.write.encoded, split.write.vectors, strict=True):
                self._records.setdefault(chunk.record_id, {})[chunk.number] = chunk, vector
            for chunk in split.write.described:
                own = self._records[chunk.record_id]
                own[chunk.number] = chunk, own[chunk.number][1]
            for record_id, number in split.stale:
                del self._records[record_id][number]
        return Written(len(split.stale), split.changed)

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records, and return how many chunks those were."""
        with self._lock:
            return sum(len(self._records.pop(record_id, ())) for record_id in set(record_ids))

    def build_indexes(self) -> None:
        """Do nothing: there are none."""

    # -- reading

    def search(self, search: Search) -> list[list[Match]]:
        """Compare all of them."""
        stored = list(self.read(None, search.where))
        if not stored:
            return [[] for _ in search.vectors]
        cosines = search.vectors @ np.stack([each.vector for each in stored]).T  # (queries, chunks)
        found = [np.argsort(-row, kind="stable")[: search.k].tolist() for row in cosines]
        return [
            [_match(stored[at], float(row[at]), with_vector=search.with_vectors) for at in own]
            for row, own in zip(cosines, found, strict=True)
        ]

    def read(
        self,
        record_ids: Sequence[str] | None = None,
        where: Condition | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[Stored]:
        """Yield those of now."""
        with self._lock:
            ids = self._records if record_ids is None else dict.fromkeys(record_ids)
            stored = [each for id_ in ids for each in self._records.get(id_, {}).values()]
        return (
            Stored(chunk, vector)
            for chunk, vector in stored
            if meets(chunk.metadata, where) and (numbers is None or chunk.number in numbers)
        )

    def record_ids(self) -> Iterator[str]:
        """Yield those of now."""
        with self._lock:
            return iter(list(self._records))

    def count(self) -> int:
        """Return how many chunks there are."""
        with self._lock:
            return sum(map(len, self._records.values()))


def _missing() -> StoreMissing:
    return StoreMissing("there is nothing in this store; ingest something into it first")


def _match(stored: Stored, cosine: float, *, with_vector: bool) -> Match:
    return Match(stored.chunk, cosine, cosine, stored.vector if with_vector else None)
