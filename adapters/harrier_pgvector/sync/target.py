"""The table of chunks of a declared table, opened as a store."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING

from harrier_core.embedder import Embedder
from harrier_core.errors import StoreMissing
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.store import PgVectorStore
from harrier_pgvector.sync.declaration import Declaration
from harrier_pgvector.sync.reading import SourceChanged

if TYPE_CHECKING:
    from harrier_core.space import EmbeddingSpace
    from harrier_pgvector.connections import Connections


class Target:
    """Opens a declared table's store, which is made again if its table was renamed."""

    def __init__(self, connections: Connections, encoder: Embedder, trust: Collection[str]) -> None:
        self._connections = connections
        self._encoder = encoder
        self._trust = trust
        self._stores: dict[tuple[str, str], PgVectorStore] = {}  # a single one, by the current name of its table

    def open(self, declaration: Declaration) -> OpenTable:
        """Return the open table; raise an error if nothing may be done, or if either table is gone."""
        declaration.refuse_strangers(self._trust)
        if not declaration.source_there:
            raise SourceChanged(f"its source, {declaration.source}, was dropped; drop the sync")
        if not declaration.target_there:
            raise StoreMissing
        store = self._stores.get(declaration.target)
        if store is None:
            schema, table = declaration.target
            store = PgVectorStore(self._connections, table=table, schema=schema)
            self._stores = {declaration.target: store}
        return store.open(self._space)

    @cached_property
    def _space(self) -> EmbeddingSpace:
        """The encoder's space. It does not change, and reading it takes longer than a row."""
        return self._encoder.space
