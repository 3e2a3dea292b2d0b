"""Chunks as the bytes of Postgres's binary COPY, or of its binary arrays, one per column. Pure.

Written by hand because it is the whole cost of a load: psycopg's own row writer takes a third more time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Literal

from harrier_core.records import Chunk
from harrier_pgvector.words import DIMENSIONS, words_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Precision = Literal["halfvec", "vector"]

_BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
# The number of a row's fields; the length of a field.
_BEFORE_ID, _BEFORE_TEXT = Struct("!hi").pack, Struct("!iii").pack
_BEFORE_METADATA, _BEFORE_HASH = Struct("!ib").pack, Struct("!iiiii").pack
_ROWS = 256  # per block: some 400 kB, which the server takes while the next ones are built


def copy_blocks(
    chunks: Sequence[Chunk], vectors: NDArray[np.float32], precision: Precision, *, words: bool = False
) -> Iterator[bytes]:
    """Yield a whole COPY of chunks and their vectors, in the order of the table's columns; words: include theirs."""
    yield _BEGIN
    encoded = _vectors(vectors, precision)
    for begin in range(0, len(chunks), _ROWS):
        rows = zip(chunks[begin : begin + _ROWS], encoded[begin : begin + _ROWS], strict=True)
        if words:
            yield b"".join([field for chunk, vector in rows for field in (*_row(chunk, vector, 10), *_words(chunk))])
        else:
            yield b"".join([field for chunk, vector in rows for field in _row(chunk, vector, 8)])
    yield _END


def _row(chunk: Chunk, vector: bytes, fields: int) -> tuple[bytes, ...]:
    record_id, text, metadata = chunk.record_id.encode(), chunk.text.encode(), chunk.metadata_json
    return (
        _BEFORE_ID(fields, len(record_id)),
        record_id,
        _BEFORE_TEXT(4, chunk.number, len(text)),
        text,
        _BEFORE_METADATA(1 + len(metadata), 1),  # the version of jsonb's wire format
        metadata,
        _BEFORE_HASH(4, chunk.start, 4, chunk.end, len(chunk.hash)),
        chunk.hash,
        vector,
    )


def _words(chunk: Chunk) -> tuple[bytes, bytes, bytes, bytes]:
    """Return a chunk's terms and their weights, each with its length."""
    ids, weights = words_of(chunk.text)
    terms, lex = terms_bytes(ids), lex_bytes(ids, weights)
    return len(terms).to_bytes(4, "big"), terms, len(lex).to_bytes(4, "big"), lex


def terms_bytes(ids: NDArray[np.int32]) -> bytes:
    """Return an array of integers, as Postgres sends it; an empty one has no dimensions."""
    if not len(ids):
        return _EMPTY(0, 0, _INTEGER)
    import numpy as np

    elements = np.full((len(ids), 2), 4, ">i4")  # each element with its length
    elements[:, 1] = ids
    return _ARRAY(1, 0, _INTEGER, len(ids), 1) + elements.tobytes()


def lex_bytes(ids: NDArray[np.int32], weights: NDArray[np.float32]) -> bytes:
    """Return a sparse vector in pgvector's format: dimensions, non-zeros, a zero, 0-based indices, weights."""
    return _LEX(DIMENSIONS, len(ids), 0) + ids.astype(">i4").tobytes() + weights.astype(">f4").tobytes()


def _vectors(vectors: NDArray[np.float32], precision: Precision) -> list[bytes]:
    """Return each vector with its length, in pgvector's format: dimensions, a zero, big-endian numbers."""
    numbers = vectors.astype(">f2" if precision == "halfvec" else ">f4")
    size = 4 + numbers.itemsize * vectors.shape[1]
    head = size.to_bytes(4, "big") + vectors.shape[1].to_bytes(2, "big") + bytes(2)
    return [head + row.tobytes() for row in numbers]


class Sent(bytes):
    """Bytes that are sent as they are, as the binary form of whatever type the statement names."""

    __slots__ = ()


_TEXT, _INTEGER, _JSONB, _BYTEA = 25, 23, 3802, 17  # OIDs of types, the same in every database
_ARRAY = Struct("!iiIii").pack  # dimensions, no nulls, the elements' type, their number, the lower bound
_EMPTY = Struct("!iiI").pack
_LEX = Struct("!iii").pack
_CLOSE = 1e-3  # weights may differ by this much if another processor computed them


def array_columns(
    chunks: Sequence[Chunk], vectors: NDArray[np.float32], precision: Precision, oid: int
) -> Iterator[Sent]:
    """Yield each of the table's columns as an array, in their order; oid: that of the vectors' type."""
    yield from key_columns(chunks)
    yield _array(_TEXT, [chunk.text.encode() for chunk in chunks])
    yield _array(_JSONB, [b"\1" + chunk.metadata_json for chunk in chunks])  # the version of jsonb's wire format
    yield _array(_INTEGER, [chunk.start.to_bytes(4, "big") for chunk in chunks])
    yield _array(_INTEGER, [chunk.end.to_bytes(4, "big") for chunk in chunks])
    yield _array(_BYTEA, [chunk.hash for chunk in chunks])
    yield Sent(b"".join([_ARRAY(1, 0, oid, len(chunks), 1), *_vectors(vectors, precision)]))


def key_columns(chunks: Sequence[Chunk]) -> Iterator[Sent]:
    """Yield the first two of the columns, which are the key."""
    yield _array(_TEXT, [chunk.record_id.encode() for chunk in chunks])
    yield _array(_INTEGER, [chunk.number.to_bytes(4, "big") for chunk in chunks])


def words_columns(chunks: Sequence[Chunk], oid: int) -> list[Sent]:
    """Return the terms of chunks as text, as arrays of arrays do not exist, and the weights; oid: their type's."""
    words = [words_of(chunk.text) for chunk in chunks]
    terms = _array(_TEXT, [f"{{{','.join(map(str, ids.tolist()))}}}".encode() for ids, _ in words])
    return [terms, _array(oid, [lex_bytes(ids, weights) for ids, weights in words])]


def _array(oid: int, values: Sequence[bytes]) -> Sent:
    parts = [part for value in values for part in (len(value).to_bytes(4, "big"), value)]
    return Sent(b"".join([_ARRAY(1, 0, oid, len(values), 1), *parts]))


def vector_of(stored: bytes, precision: Precision) -> NDArray[np.float32]:
    """Return the vector in the output of `vector_send` or `halfvec_send`."""
    import numpy as np

    return np.frombuffer(stored, ">f2" if precision == "halfvec" else ">f4", offset=4).astype(np.float32)


def differ(text: str, terms: bytes | None, lex: bytes | None) -> bool:
    """Return whether words, as output by `array_send` and `sparsevec_send`, differ from those of a text."""
    import numpy as np

    ids, weights = words_of(text)
    expected = lex_bytes(ids, weights)
    if terms != terms_bytes(ids) or lex is None or len(lex) != len(expected):
        return True
    if lex == expected:
        return False
    numbers = len(lex) - weights.nbytes
    stored = np.frombuffer(lex, ">f4", offset=numbers)
    return lex[:numbers] != expected[:numbers] or not np.allclose(stored, weights, rtol=0, atol=_CLOSE)
