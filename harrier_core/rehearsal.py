"""A dry-run ingest: it plans as usual, but encodes nothing and writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress

from harrier_core.embedder import Around, Encoded, refuse_too_long
from harrier_core.errors import StoreMissing
from harrier_core.filters import Condition
from harrier_core.key_values import KeyValues
from harrier_core.store import Hashes, IngestStore, Stored, Write, Written
from harrier_core.texts import listed


class Measuring(Around):
    """An Embedder that counts the tokens of documents, and returns placeholder vectors."""

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Return zeros, or raise for a text that is too long."""
        import numpy as np

        given = listed(texts)
        refuse_too_long(self._embedder, given)
        done: Future[Encoded] = Future()
        done.set_result(Encoded(np.zeros((len(given), self.dimensions), dtype=np.float32), [0] * len(given)))
        return done


class Recalled:
    """A memory that can be read but keeps nothing new."""

    def __init__(self, memory: KeyValues) -> None:
        self.mget = memory.mget

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Keep nothing."""


class Untouched:
    """An open store, or nothing if it does not exist yet, that is read but not written."""

    def __init__(self, store: IngestStore | None) -> None:
        self._store = store

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """Return the hashes of the chunks of those records that are stored."""
        with suppress(StoreMissing):
            return {} if self._store is None else self._store.known(record_ids)
        return {}

    def write(self, write: Write) -> Written:
        """Return how many chunks would be removed."""
        return Written(len(write.split(write.known).stale), [])

    def delete(self, record_ids: Sequence[str]) -> int:
        """Return how many chunks would be removed."""
        return sum(map(len, self.known(record_ids).values())) if record_ids else 0

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records."""
        with suppress(StoreMissing):
            if self._store is not None:
                yield from self._store.record_ids()

    def read(
        self,
        record_ids: Sequence[str] | None = None,
        where: Condition | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[Stored]:
        """Yield the stored chunks."""
        with suppress(StoreMissing):
            if self._store is not None:
                yield from self._store.read(record_ids, where, numbers)

    def build_indexes(self) -> None:
        """Build nothing."""
