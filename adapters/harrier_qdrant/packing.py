"""Points as the bytes of Qdrant's gRPC interface. Pure.

Written by hand because it is the client's whole cost of a load: the client's own objects take three times as long, and
its fast path for arrays is only in its newest release. Field numbers are those of Qdrant's points.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harrier_core.types import Vectors

_double = Struct("<d").pack


def upsert_request(
    collection: str,
    vector: str,
    ids: Sequence[str],
    vectors: Vectors,
    payloads: Sequence[Mapping[str, Any]],
    words: Sequence[tuple[str, bytes]] | None = None,
) -> bytes:
    """Return an UpsertPoints that waits for completion; words: a second vector per point, its name and SparseVector."""
    size = 4 * vectors.shape[1]
    dense = b"\x0a" + _varint(size)  # DenseVector.data, packed
    named = b"\x0a" + _text(vector) + b"\x12"  # an entry of NamedVectors: its key, and the tag of its value
    inner = b"\xaa\x06" + _varint(len(dense) + size) + dense  # Vector.dense
    entry = named + _varint(len(inner) + size) + inner
    map_ = b"\x0a" + _varint(len(entry) + size) + entry  # NamedVectors.vectors
    more = [b""] * len(ids) if words is None else [_sparse(*each) for each in words]
    parts = [b"\x0a", _text(collection), b"\x10\x01"]
    for id_, row, payload, other in zip(ids, vectors.astype("<f4", copy=False), payloads, more, strict=True):
        identity = b"\x12" + _text(id_)
        point = [b"\x0a", _size(len(identity)), identity]
        for key, value in payload.items():
            point += b"\x1a", _entry(key, value)
        inside = len(map_) + size + len(other)
        own = b"\x12" + _size(inside)  # Vectors.vectors
        point += b"\x22", _size(len(own) + inside), own, map_, row.tobytes(), other  # PointStruct.vectors
        joined = b"".join(point)
        parts += b"\x1a", _size(len(joined)), joined
    return b"".join(parts)


def _sparse(name: str, vector: bytes) -> bytes:
    """Return an entry of NamedVectors."""
    inner = b"\xb2\x06" + _size(len(vector)) + vector  # Vector.sparse
    entry = b"\x0a" + _text(name) + b"\x12" + _size(len(inner)) + inner
    return b"\x0a" + _size(len(entry)) + entry


def _entry(key: str, value: Any) -> bytes:  # noqa: ANN401
    """Return an entry of a map of Values, with its length."""
    said, name = _value(value), _key(key)
    size = _size(len(said))
    return b"".join((_size(len(name) + len(size) + len(said)), name, size, said))


@lru_cache(10_000)
def _key(key: str) -> bytes:
    """Return the key of an entry, and the tag of its value; cached, because the same names are used repeatedly."""
    return b"\x0a" + _text(key) + b"\x12"


def _value(value: Any) -> bytes:  # noqa: ANN401, PLR0911  # a kind a line
    """Return a JSON value as a Value message."""
    kind = type(value)
    if kind is str:
        return b"\x22" + _text(value)
    if kind is int:
        return b"\x18" + _size(value if value >= 0 else value & 0xFFFFFFFFFFFFFFFF)
    if kind is dict:
        fields = b"".join([b"\x0a" + _entry(key, each) for key, each in value.items()])
        return b"\x32" + _size(len(fields)) + fields
    if kind is list:
        values = [_value(each) for each in value]
        joined = b"".join([b"\x0a" + _size(len(each)) + each for each in values])
        return b"\x3a" + _size(len(joined)) + joined
    if kind is bool:
        return b"\x28\x01" if value else b"\x28\x00"
    if kind is float:
        return b"\x11" + _double(value)
    if value is None:
        return b"\x08\x00"
    return _value(next(plain(value) for like, plain in _LIKE if isinstance(value, like)))


_LIKE: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str),
    (bool, bool),
    (int, int),
    (float, float),
    (Mapping, dict),
    (Sequence, list),
)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _size(len(encoded)) + encoded


def _size(number: int) -> bytes:
    """Return a number as a varint."""
    return _SIZES[number] if number < _SIZED else _varint(number)


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_SIZED = 2**14
_SIZES = [_varint(number) for number in range(_SIZED)]
