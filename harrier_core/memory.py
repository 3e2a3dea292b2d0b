"""The memory of an ingest from one run to the next, in any key-value store.

It is never trusted on its own: what is remembered of a record is compared with what the store holds of it. Losing the
memory only costs time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import blake2b
from typing import TYPE_CHECKING

from harrier_core.chunking import Chunking
from harrier_core.embedder import Embedder
from harrier_core.key_values import KeyValues
from harrier_core.records import HASH_BYTES, Chunk, Deferred
from harrier_core.store import Hashes

if TYPE_CHECKING:
    from harrier_core.types import Vector, Vectors

_FORMAT = 1  # version of the values, and of how texts are chunked
_NUMBER, _BYTES = "<f4", 4


class Recollection:
    """The hashes of the chunks of deferred records, which are read only if they may have changed."""

    def __init__(self, memory: KeyValues | None, embedder: Embedder, chunking: Chunking | None) -> None:
        self._memory = memory
        self._settings = b"" if memory is None else _digest(_space(embedder), embedder.max_tokens, chunking)

    def of(self, record: Deferred) -> Hashes | None:
        """Return the hashes of a record's chunks if the record has not changed since they were made."""
        if self._memory is None:
            return None
        [value] = self._memory.mget([self._key(record)])
        if not value or len(value) % HASH_BYTES:
            return None
        begins = range(0, len(value), HASH_BYTES)
        return {number: value[begin : begin + HASH_BYTES] for number, begin in enumerate(begins)}

    def remember(self, records: Sequence[tuple[Deferred, Sequence[Chunk]]]) -> None:
        """Remember stored records, by all of their chunks."""
        if self._memory is not None and records:
            joined = [(self._key(record), b"".join(chunk.hash for chunk in own)) for record, own in records]
            self._memory.mset(joined)

    def _key(self, record: Deferred) -> str:
        name = record.id.encode(errors="surrogatepass")  # an id that no store accepts is rejected later
        return blake2b(b"".join([self._settings, record.stamp, name]), digest_size=24).hexdigest()


class Journal:
    """Vectors of records that take long to encode, kept from their encoding until the record is written."""

    def __init__(self, memory: KeyValues | None, embedder: Embedder) -> None:
        self._memory = memory
        self._settings = b"" if memory is None else _digest("vectors", _space(embedder))
        self._size = _BYTES * embedder.dimensions

    def vectors(self, texts: Sequence[str]) -> dict[int, Vector]:
        """Return the vectors of texts that were encoded earlier, by position."""
        if self._memory is None:
            return {}
        import numpy as np

        values = enumerate(self._memory.mget([self._key(text) for text in texts]))
        found = {position: value for position, value in values if value and len(value) == self._size}
        return {position: np.frombuffer(value, _NUMBER).astype(np.float32) for position, value in found.items()}

    def keep(self, texts: Sequence[str], vectors: Vectors) -> None:
        """Keep vectors for the next run, in case this one crashes."""
        if self._memory is not None:
            values = [vector.astype(_NUMBER).tobytes() for vector in vectors]
            self._memory.mset(list(zip(map(self._key, texts), values, strict=True)))

    def _key(self, text: str) -> str:
        return blake2b(self._settings + text.encode(errors="surrogatepass"), digest_size=24).hexdigest()


def _space(embedder: Embedder) -> dict[str, object]:
    """Return everything that determines a vector, and a text's number of tokens."""
    return {**asdict(embedder.space), "task": None, "model": None, "revision": None}


def _digest(*settings: object) -> bytes:
    said = json.dumps([_FORMAT, *map(_plain, settings)], sort_keys=True)
    return blake2b(said.encode(), digest_size=16).digest()


def _plain(value: object) -> object:
    return asdict(value) if isinstance(value, Chunking) else value
