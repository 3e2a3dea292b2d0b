"""Chunks to points and back. Pure.

id            the chunk's, a UUID derived from the record's id and the chunk's number
vector        named: Qdrant can change the vectors of a collection in place only where they have names; in a collection
              with keywords a second one, sparse, of the text's terms and their weights
page_content  the text, and
metadata      where LangChain's own store looks for them; LlamaIndex's does with text_key="page_content"
record_id, number, start, end, hash     as in every store
fields        the names in metadata
exact         metadata as JSON, only where Qdrant cannot hold its numbers
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harrier_core.lexical import Terms
from harrier_core.records import Chunk, Match, chunk_id
from harrier_core.store import Stored

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

TEXT, METADATA = "page_content", "metadata"
RECORD, NUMBER, START, END, HASH = "record_id", "number", "start", "end", "hash"
FIELDS, EXACT = "fields", "exact"

Payload = dict[str, Any]

# Every chunk's payload has these; the first three distinguish a chunk from a point of another program.
_KINDS: dict[str, type] = {RECORD: str, NUMBER: int, HASH: str, TEXT: str, METADATA: dict, START: int, END: int}
TOLD_BY = (RECORD, NUMBER, HASH)
_HEXADECIMAL = re.compile(r"(?:[0-9a-f]{2})*")

# Qdrant's guide recommends 64 to 256 points per request; its REST interface takes 32 MiB, and a point of 5,376 numbers
# has / 104 KB.
_MOST_POINTS, _MOST_BYTES = 256, 4 * 2**20

_MOST_NUMBER = int(sys.float_info.max)


@dataclass(frozen=True, slots=True)
class Found:
    """A point as returned by a search or a scroll."""

    id: str
    payload: Payload
    vector: Vector | None = None
    score: float = 0.0
    words: Terms | None = None  # None also if they were not requested

    def alien(self, fields: Iterable[str] = tuple(_KINDS)) -> str | None:
        """Return how it differs from an Index's chunk, or None; fields: those that were read, TOLD_BY at least."""
        for name in fields:
            value = self.payload.get(name)
            if not isinstance(value, _KINDS[name]):
                return f"no {name!r}" if value is None else f"a {name!r} that is {type(value).__name__}"
        if not _HEXADECIMAL.fullmatch(self.payload[HASH]):
            return f"a {HASH!r} that is not hexadecimal"
        if self.id != chunk_id(self.payload[RECORD], self.payload[NUMBER]):  # a copy of a chunk
            return f"an id that is not that of chunk {self.payload[NUMBER]} of its record"
        return None

    def match(self) -> Match:
        """Return the chunk as a search returns it to users: with Cosine distance, Qdrant's score is the cosine."""
        return Match(self.chunk(), self.score, self.score, self.vector)

    def match_by_words(self) -> Match:
        """Return the chunk as a search by word returns it to users: its score is BM25."""
        return Match(self.chunk(), self.score, None, self.vector)

    def stored(self) -> Stored:
        """Return the chunk with its vector."""
        assert self.vector is not None  # noqa: S101  # a scroll that gives chunks asks for it
        return Stored(self.chunk(), self.vector)

    def chunk(self) -> Chunk:
        """Return the chunk; the point must not be `alien`."""
        own = self.payload
        return Chunk(
            record_id=own[RECORD],
            number=own[NUMBER],
            text=own[TEXT],
            metadata=self.metadata,
            start=own[START],
            end=own[END],
            hash=bytes.fromhex(own[HASH]),
        )

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata of the record."""
        own = self.payload
        metadata: Mapping[str, Any] = json.loads(own[EXACT]) if own.get(EXACT) else own[METADATA]
        return metadata


def payload_of(chunk: Chunk) -> Payload:
    """Return all of a point except its vectors."""
    return {TEXT: chunk.text, **described(chunk)}


def described(chunk: Chunk) -> Payload:
    """Return the part of a payload that may change while its text, and so its vector, does not."""
    plain = _plain(chunk.metadata)
    payload = {
        METADATA: plain,
        RECORD: chunk.record_id,
        NUMBER: chunk.number,
        START: chunk.start,
        END: chunk.end,
        HASH: chunk.hash.hex(),
        FIELDS: list(chunk.metadata),
    }
    return payload if plain == chunk.metadata else {**payload, EXACT: chunk.metadata_json.decode()}


def redescribed(chunk: Chunk) -> Payload:
    """Return the changeable part for an existing point, which keeps omitted fields: so EXACT is always set."""
    return {EXACT: None, **described(chunk)}


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return the value with integers beyond 64 bits as floats, which Qdrant can compare."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return nearest_float(value)
    return value


def nearest_float(value: float) -> float:
    """Return the nearest float of any number, however large."""
    return float(max(-_MOST_NUMBER, min(value, _MOST_NUMBER)))


def batches(chunks: Sequence[Chunk], bytes_a_vector: int) -> Iterator[range]:
    """Yield the chunks that go into each request: bounded by count and by bytes."""
    begin = size = 0
    for place, chunk in enumerate(chunks):
        own = bytes_a_vector + 4 * len(chunk.text) + 500  # a character has at most four bytes
        if place > begin and (place - begin == _MOST_POINTS or size + own > _MOST_BYTES):
            yield range(begin, place)
            begin, size = place, 0
        size += own
    if chunks:
        yield range(begin, len(chunks))
