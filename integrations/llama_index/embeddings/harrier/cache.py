"""LlamaIndex's key-value stores, whose values are dicts, as the store of bytes that a CachedEncoder wants."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_index.core.storage.kvstore.types import BaseKVStore

_COLLECTION = "harrier_vectors"  # never the base's "embeddings", whose keys are bare texts
_VALUE = "float32"


class KeyValues:
    """A vector is a text in base64, which every store can write, and which takes a quarter of the numbers' JSON."""

    def __init__(self, store: BaseKVStore) -> None:
        self._store = store

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """What is stored under each key, or None."""
        return [self._get(key) for key in keys]

    def _get(self, key: str) -> bytes | None:
        value = self._store.get(key, collection=_COLLECTION)
        return b64decode(value[_VALUE]) if value else None

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Store these."""
        pairs = [(key, {_VALUE: b64encode(value).decode()}) for key, value in key_value_pairs]
        self._store.put_all(pairs, collection=_COLLECTION)
