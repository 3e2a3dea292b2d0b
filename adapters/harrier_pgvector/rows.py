"""Chunks to the bytes of Postgres's binary COPY, or of its binary arrays, a column each. Pure.

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
# Of a row the number of its fields; of a field its length.
_BEFORE_ID, _BEFORE_TEXT = Struct("!hi").pack, Struct("!iii").pack
_BEFORE_METADATA, _BEFORE_HASH = Struct("!ib").pack, Struct("!iiiii").pack
_ROWS = 256  # of a block: some 400 kB, which the server takes while the next ones are made


def copy_blocks(
    chunks: Sequence[Chunk], vectors: NDArray[np.float32], precision: Precision, *, words: bool = False
) -> Iterator[bytes]:
    """A whole COPY of chunks and their vectors, in the order of the table's columns; words: with theirs."""
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
    """Its terms and their weights, each with its length."""
    ids, weights = words_of(chunk.text)
    terms, lex = terms_bytes(ids), lex_bytes(ids, weights)
    return len(terms).to_bytes(4, "big"), terms, len(lex).to_bytes(4, "big"), lex


def terms_bytes(ids: NDArray[np.int32]) -> bytes:
    """An array of integers, as Postgres sends it; an empty one has no dimensions."""
    if not len(ids):
        return _EMPTY(0, 0, _INTEGER)
    import numpy as np

    elements = np.full((len(ids), 2), 4, ">i4")  # of each its length, and itself
    elements[:, 1] = ids
    return _ARRAY(1, 0, _INTEGER, len(ids), 1) + elements.tobytes()


def lex_bytes(ids: NDArray[np.int32], weights: NDArray[np.float32]) -> bytes:
    """A sparse vector, as pgvector sends it: dimensions, how many are no zeros, a zero, indices from 0, numbers."""
    return _LEX(DIMENSIONS, len(ids), 0) + ids.astype(">i4").tobytes() + weights.astype(">f4").tobytes()


def _vectors(vectors: NDArray[np.float32], precision: Precision) -> list[bytes]:
    """Each with its length, as pgvector takes them: dimensions, a zero, big-endian numbers."""
    numbers = vectors.astype(">f2" if precision == "halfvec" else ">f4")
    size = 4 + numbers.itemsize * vectors.shape[1]
    head = size.to_bytes(4, "big") + vectors.shape[1].to_bytes(2, "big") + bytes(2)
    return [head + row.tobytes() for row in numbers]


class Sent(bytes):
    """Bytes that are sent as they are, as the binary form of whatever type the statement says."""

    __slots__ = ()


_TEXT, _INTEGER, _JSONB, _BYTEA = 25, 23, 3802, 17  # object identifiers of types, the same in every database
_ARRAY = Struct("!iiIii").pack  # dimensions, no nulls, the elements' type, their number, the first one's number
_EMPTY = Struct("!iiI").pack
_LEX = Struct("!iii").pack
_CLOSE = 1e-3  # weights that another processor made may be


def array_columns(
    chunks: Sequence[Chunk], vectors: NDArray[np.float32], precision: Precision, oid: int
) -> Iterator[Sent]:
    """Each of the table's columns as an array, in their order; oid: of the vectors' type."""
    yield from key_columns(chunks)
    yield _array(_TEXT, [chunk.text.encode() for chunk in chunks])
    yield _array(_JSONB, [b"\1" + chunk.metadata_json for chunk in chunks])  # the version of jsonb's wire format
    yield _array(_INTEGER, [chunk.start.to_bytes(4, "big") for chunk in chunks])
    yield _array(_INTEGER, [chunk.end.to_bytes(4, "big") for chunk in chunks])
    yield _array(_BYTEA, [chunk.hash for chunk in chunks])
    yield Sent(b"".join([_ARRAY(1, 0, oid, len(chunks), 1), *_vectors(vectors, precision)]))


def key_columns(chunks: Sequence[Chunk]) -> Iterator[Sent]:
    """The first two of them, which are the key."""
    yield _array(_TEXT, [chunk.record_id.encode() for chunk in chunks])
    yield _array(_INTEGER, [chunk.number.to_bytes(4, "big") for chunk in chunks])


def words_columns(chunks: Sequence[Chunk], oid: int) -> list[Sent]:
    """The terms of chunks as texts, as there are no arrays of arrays, and their weights; oid: of the weights' type."""
    words = [words_of(chunk.text) for chunk in chunks]
    terms = _array(_TEXT, [f"{{{','.join(map(str, ids.tolist()))}}}".encode() for ids, _ in words])
    return [terms, _array(oid, [lex_bytes(ids, weights) for ids, weights in words])]


def _array(oid: int, values: Sequence[bytes]) -> Sent:
    parts = [part for value in values for part in (len(value).to_bytes(4, "big"), value)]
    return Sent(b"".join([_ARRAY(1, 0, oid, len(values), 1), *parts]))


def vector_of(stored: bytes, precision: Precision) -> NDArray[np.float32]:
    """From what `vector_send` and `halfvec_send` give."""
    import numpy as np

    return np.frombuffer(stored, ">f2" if precision == "halfvec" else ">f4", offset=4).astype(np.float32)


def differ(text: str, terms: bytes | None, lex: bytes | None) -> bool:
    """Return whether words, from what `array_send` and `sparsevec_send` give, are not those of a text."""
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
