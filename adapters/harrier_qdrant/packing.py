"""Points to the bytes of Qdrant's gRPC interface. Pure.

Written by hand because it is the client's whole cost of a load: the client's own objects take three times as long, and
its fast way for arrays is in its newest release only. Field numbers are those of Qdrant's points.proto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

_double = Struct("<d").pack


def upsert_request(
    collection: str, vector: str, ids: Sequence[str], vectors: Vectors, payloads: Sequence[Mapping[str, Any]]
) -> bytes:
    """An UpsertPoints that is answered when it is done."""
    size = 4 * vectors.shape[1]
    dense = b"\x0a" + _varint(size)  # DenseVector.data, packed
    named = b"\x0a" + _text(vector) + b"\x12"  # an entry of NamedVectors: its key, and the tag of its value
    inner = b"\xaa\x06" + _varint(len(dense) + size) + dense  # Vector.dense
    entry = named + _varint(len(inner) + size) + inner
    map_ = b"\x0a" + _varint(len(entry) + size) + entry  # NamedVectors.vectors
    own = b"\x12" + _varint(len(map_) + size) + map_  # Vectors.vectors
    head = b"\x22" + _varint(len(own) + size) + own  # PointStruct.vectors, but for the numbers
    parts = [b"\x0a", _text(collection), b"\x10\x01"]
    for id_, row, payload in zip(ids, vectors.astype("<f4", copy=False), payloads, strict=True):
        point = b"".join(
            [
                b"\x0a" + _delimited(b"\x12" + _text(id_)),
                *(
                    b"\x1a" + _delimited(b"\x0a" + _text(key) + b"\x12" + _delimited(_value(each)))
                    for key, each in payload.items()
                ),
                head,
                row.tobytes(),
            ]
        )
        parts += b"\x1a", _varint(len(point)), point
    return b"".join(parts)


def _value(value: Any) -> bytes:  # noqa: ANN401, PLR0911  # a kind a line
    """A JSON value as a Value message."""
    kind = type(value)
    if kind is str:
        return b"\x22" + _text(value)
    if kind is bool:
        return b"\x28\x01" if value else b"\x28\x00"
    if kind is int:
        return b"\x18" + _varint(value & 0xFFFFFFFFFFFFFFFF)
    if kind is float:
        return b"\x11" + _double(value)
    if value is None:
        return b"\x08\x00"
    if isinstance(value, Mapping):
        fields = (b"\x0a" + _text(key) + b"\x12" + _delimited(_value(each)) for key, each in value.items())
        return b"\x32" + _delimited(b"".join(b"\x0a" + _delimited(field) for field in fields))
    if isinstance(value, list | tuple):
        return b"\x3a" + _delimited(b"".join(b"\x0a" + _delimited(_value(each)) for each in value))
    return _value(next(plain(value) for plain in (str, bool, int, float) if isinstance(value, plain)))


def _text(text: str) -> bytes:
    return _delimited(text.encode())


def _delimited(message: bytes) -> bytes:
    size = len(message)
    return (_SHORT[size] if size < 128 else _varint(size)) + message


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_SHORT = [bytes([size]) for size in range(128)]
