"""A collection in a folder, without a server: by Qdrant Edge, the engine itself (`engine.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harrier_core.errors import SettingError, StoreUnavailable
from harrier_core.extras import require
from harrier_core.records import Chunk
from harrier_core.space import EmbeddingSpace
from harrier_qdrant.engine import engines
from harrier_qdrant.filters import Filter
from harrier_qdrant.folder import BESIDE
from harrier_qdrant.points import Found, batches, payload_of, redescribed
from harrier_qdrant.schema import Layout, Shape
from harrier_qdrant.wire import CLOSED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

_PAGE = 500


class Edge:
    """A collection in a folder, for all stores of this process that have it open."""

    may_race = False  # what writes to the folder is in this process, and waits for `writing`

    def __init__(self, folder: Path, layout: Layout) -> None:
        """The collection in a folder, whose path must be resolved."""
        if layout.shards or layout.replicas or layout.write_consistency or layout.quantization or layout.on_disk:
            raise SettingError("shards, replicas, write_consistency, quantization and on_disk are a server's settings")
        require("an embedded Qdrant", "qdrant_edge", "filelock")
        if folder.name == BESIDE:
            raise SettingError(f"a collection cannot be called {BESIDE}: use another name")
        self._layout = layout
        self._engine = engines.use(folder)
        self._closed = False

    def _ask(self, name: str, *arguments: Any) -> Any:  # noqa: ANN401
        self._check_open()
        return self._engine.ask(name, *arguments)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(CLOSED)
        if self._engine.inherited:  # with its locks, which other threads may have held
            raise StoreUnavailable(f"{self} was opened before this process was forked; open the store after it")

    def writing(self) -> AbstractContextManager[Any]:
        """Held while records are looked at and written."""
        self._check_open()
        return self._engine.writing

    def shape(self) -> Shape | None:
        """The collection as it is, or nothing."""
        self._check_open()
        return self._engine.shape()

    def create(self, space: EmbeddingSpace) -> None:
        """Make it."""
        self._check_open()
        self._engine.create(space, self._layout)

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors) -> dict[str, str]:
        """Write them; when it returns they are safe."""
        for batch in batches(chunks, vectors.itemsize * vectors.shape[1]):
            own = [chunks[place] for place in batch]
            rows = vectors[batch.start : batch.stop]
            payloads = [payload_of(chunk) for chunk in own]
            self._ask("upsert", self._layout.vector, [chunk.id for chunk in own], rows, payloads)
        return {}

    def describe(self, chunks: Sequence[Chunk]) -> None:
        """Change what is said of chunks that are there."""
        self._ask("describe", {chunk.id: redescribed(chunk) for chunk in chunks})

    def delete(self, ids: Sequence[str]) -> None:
        """Remove chunks."""
        self._ask("delete", list(ids))

    def delete_where(self, where: Filter) -> None:
        """Remove what a filter finds."""
        self._ask("delete_where", where)

    def scroll(self, where: Filter | None, fields: Sequence[str] | None, *, with_vectors: bool) -> Iterator[Found]:
        """What a filter finds, a page at a time."""
        listed = None if fields is None else list(fields)
        name = self._layout.vector if with_vectors else None
        offset: str | int | None = None
        while True:
            page, offset = self._ask("scroll", where, offset, _PAGE, listed, name)
            yield from (Found(*each) for each in page)
            if offset is None:
                return

    def search(
        self, vector: NDArray[np.float32], limit: int, where: Filter | None, *, with_vectors: bool
    ) -> list[Found]:
        """The nearest that a filter finds."""
        found = self._ask("search", self._layout.vector, vector.tolist(), limit, where, with_vectors)
        return [Found(*each) for each in found]

    def count(self, where: Filter | None) -> int:
        """How many a filter finds."""
        number: int = self._ask("count", where)
        return number

    def settle(self) -> None:
        """Build an index where there is much to search."""
        self._ask("settle")

    def close(self) -> None:
        """The process ends with the last store that has the folder open."""
        if not self._closed:
            self._closed = True
            engines.let_go(self._engine)

    def __str__(self) -> str:
        return str(self._engine.folder)
