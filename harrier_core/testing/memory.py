"""A store in memory: exact, small, gone with the process. Other stores are compared with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harrier_core.errors import StoreMissing, WrongSpace
from harrier_core.filters import Condition, meets
from harrier_core.records import Chunk, Match
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Hashes, Stored, Write, Written

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


class MemoryStore:
    """A VectorStore without a database."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._space: EmbeddingSpace | None = None
        self._records: dict[str, dict[int, tuple[Chunk, NDArray[np.float32]]]] = {}

    def open(self, space: EmbeddingSpace, *, write: bool) -> None:
        """The first space to write is the space."""
        with self._lock:
            if self._space is None and write:
                self._space = space
            if self._space is None:
                raise StoreMissing("there is nothing in this store; ingest something into it first")
            if self._space != space:
                raise WrongSpace(f"this store is of another space: {self._space.explain(space)}; use another store")

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """The hashes of the chunks of those records that are there."""
        with self._lock:
            return {id_: self._hashes(id_) for id_ in record_ids if id_ in self._records}

    def _hashes(self, record_id: str) -> Hashes:
        return {number: chunk.hash for number, (chunk, _) in self._records.get(record_id, {}).items()}

    def write(self, write: Write) -> Written:
        """All of it under one lock."""
        with self._lock:
            after = write.after()
            changed = [id_ for id_, known in write.known.items() if self._hashes(id_) not in (known, after[id_])]
            for chunk, vector in zip(write.encoded, write.vectors, strict=True):
                if chunk.record_id not in changed:
                    self._records.setdefault(chunk.record_id, {})[chunk.number] = chunk, vector
            for chunk in write.described:
                if chunk.record_id not in changed:
                    own = self._records[chunk.record_id]
                    own[chunk.number] = chunk, own[chunk.number][1]
            deleted = 0
            for record_id in write.sizes.keys() - changed:
                own = self._records[record_id]
                for number in [number for number in own if number >= write.sizes[record_id]]:
                    del own[number]
                    deleted += 1
            return Written(deleted, changed)

    def settle(self) -> None:
        """There is nothing to build."""

    def search(
        self, vectors: Vectors, k: int, where: Condition | None, *, with_vectors: bool = False
    ) -> list[list[Match]]:
        """All of them compared."""
        stored = list(self.read(None, where))
        if not stored:
            return [[] for _ in vectors]
        scores = vectors @ np.stack([each.vector for each in stored]).T  # (queries, chunks)
        return [
            [_match(stored[at], float(row[at]), with_vectors) for at in np.argsort(-row, kind="stable")[:k].tolist()]
            for row in scores
        ]

    def read(self, record_ids: Sequence[str] | None = None, where: Condition | None = None) -> Iterator[Stored]:
        """Those of now."""
        with self._lock:
            ids = self._records if record_ids is None else dict.fromkeys(record_ids)
            stored = [each for id_ in ids for each in self._records.get(id_, {}).values()]
        return (Stored(chunk, vector) for chunk, vector in stored if meets(chunk.metadata, where))

    def delete(self, record_ids: Sequence[str]) -> int:
        """How many chunks that were."""
        with self._lock:
            return sum(len(self._records.pop(record_id, ())) for record_id in set(record_ids))

    def record_ids(self) -> Iterator[str]:
        """Those of now."""
        with self._lock:
            return iter(list(self._records))

    def count(self) -> int:
        """How many chunks there are."""
        with self._lock:
            return sum(map(len, self._records.values()))

    def close(self) -> None:
        """There is nothing to let go of, and another Index may go on with it."""


def _match(stored: Stored, score: float, with_vector: bool) -> Match:
    chunk, vector = stored.chunk, stored.vector if with_vector else None
    return Match(chunk.record_id, chunk.number, chunk.text, chunk.metadata, score, chunk.start, chunk.end, vector)
