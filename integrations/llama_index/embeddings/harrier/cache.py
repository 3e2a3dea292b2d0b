"""LlamaIndex's key-value stores, whose values are dicts, as the store of bytes for a CachedEncoder."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_index.core.storage.kvstore.types import BaseKVStore

_COLLECTION = "harrier_vectors"  # never the base's "embeddings", whose keys are bare texts
_VALUE = "float32"


class KeyValues:
    """Stores a vector as base64 text, which every store can write, in a quarter of the size of JSON numbers."""

    def __init__(self, store: BaseKVStore) -> None:
        self._store = store

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return what is stored under each key, or None."""
        return [self._get(key) for key in keys]

    def _get(self, key: str) -> bytes | None:
        value = self._store.get(key, collection=_COLLECTION)
        return b64decode(value[_VALUE]) if value else None

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Store these values under their keys."""
        pairs = [(key, {_VALUE: b64encode(value).decode()}) for key, value in key_value_pairs]
        self._store.put_all(pairs, collection=_COLLECTION)
