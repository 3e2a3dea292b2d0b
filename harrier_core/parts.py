"""The parts of an Index, as users give them: a store or its URL, and an Embedder or something that has one."""

from __future__ import annotations

from typing import Protocol, cast

from harrier_core.embedder import Embedder
from harrier_core.errors import SettingError
from harrier_core.foreign import in_place_of_embedder, in_place_of_store
from harrier_core.opening import open_store
from harrier_core.store import VectorStore


class HasIndexEncoder(Protocol):
    """A framework's embeddings that wrap an Embedder, such as HarrierEmbeddings."""

    @property
    def index_encoder(self) -> Embedder:
        """The Embedder to pass to an Index."""


def store_of(given: object) -> VectorStore:
    """Return the store that was given, or that a URL names. Raise SettingError if it is neither."""
    if isinstance(given, str):
        return open_store(given)
    must = "store must be a store or its URL"
    if isinstance(given, type):
        raise SettingError(f"{must}, got the class {given.__name__}; pass an instance")
    if _embedder(given):
        raise SettingError(f"{must}, got {type(given).__name__}; write Index(store, encoder)")
    if not all(callable(getattr(given, method, None)) for method in ("open", "space")):  # a pool has `open`
        raise SettingError(f"{must}, got {type(given).__name__}; use {in_place_of_store(given)}")
    return cast("VectorStore", given)


def embedder_of(given: object) -> Embedder:
    """Return the Embedder that was given, or that of a framework's embeddings. Raise SettingError if it is neither."""
    must = "encoder must be an Encoder or another Embedder"
    if isinstance(given, type):
        raise SettingError(f"{must}, got the class {given.__name__}; pass an instance")
    if found := _embedder(given):
        return found
    raise SettingError(f"{must}, got {type(given).__name__}; use {in_place_of_embedder(given)}")


def _embedder(given: object) -> Embedder | None:
    found = given if isinstance(given, Embedder) else getattr(given, "index_encoder", None)
    return found if isinstance(found, Embedder) else None
