"""A store that keeps bytes under names between runs: LangChain's ByteStore, or another with the same two methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class KeyValues(Protocol):
    """A store of bytes under names, such as LangChain's ByteStore."""

    def mget(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Return what is stored under each key, or None."""

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Store these values under their keys."""
