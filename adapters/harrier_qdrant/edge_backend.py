"""A collection in a folder, without a server: by Qdrant Edge, the engine itself (`edge_process.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harrier_core.errors import SettingError, StoreMissing, StoreUnavailable
from harrier_core.extras import require
from harrier_core.records import Chunk
from harrier_core.shared import Held
from harrier_core.space import EmbeddingSpace
from harrier_qdrant.aside import Later
from harrier_qdrant.backend import CLOSED, Query
from harrier_qdrant.edge_process import EdgeProcess, Pin, processes
from harrier_qdrant.filters import Filter
from harrier_qdrant.folder import BESIDE, collections, size_of
from harrier_qdrant.points import Found, batches, payload_of, redescribed
from harrier_qdrant.schema import Layout, Shape

if TYPE_CHECKING:
    from harrier_core.types import Vectors

_PAGE = 500
_PROCESS = "process"  # what is held


class EdgeBackend:
    """A collection in a folder, for all stores of this process that have it open."""

    may_race = False  # what writes to the folder is in this process, and waits for `writing`

    def __init__(self, folder: Path, layout: Layout) -> None:
        """Take the collection's folder, whose path must be resolved, and touch nothing yet."""
        require("an embedded Qdrant", "qdrant_edge", "filelock")
        if folder.name == BESIDE:
            raise SettingError(f"a collection cannot be called {BESIDE}: use another name")
        self._folder = folder
        self._layout = layout
        self._held = Held()
        self._closed = False

    @property
    def _process(self) -> EdgeProcess:
        if self._closed:
            raise StoreUnavailable(CLOSED)
        lease = self._held.lease(_PROCESS)
        if lease is not None and lease.inherited:  # its collection is open in the parent process
            raise StoreUnavailable(f"{self} was opened before this process was forked; open the store after it")
        return self._held.take(_PROCESS, lambda: processes.use(self._folder, partial(EdgeProcess, self._folder)))

    def _ask(self, name: str, *arguments: Any, pin: Pin | None = None) -> Any:  # noqa: ANN401
        return self._process.ask(name, *arguments, pin=pin)

    def writing(self) -> AbstractContextManager[Any]:
        """Return a lock to hold while records are compared and written, all in one collection."""
        return self._process.writing()

    def shape(self) -> Shape | None:
        """Return the collection as it is, or None if there is none."""
        return self._process.shape()

    def look(self) -> Later[Shape | None]:
        """Return what `shape` does, from two small files, when it is asked for."""
        return Later(self.shape)

    def bytes(self) -> int:
        """Return the size of the collection on disk."""
        return size_of(self._folder)

    def names(self) -> list[str]:
        """Return the names of the kit's collections in the same folder. Raise StoreMissing if there is none."""
        place = self._folder.parent
        names = collections(place)
        if not names:
            raise StoreMissing(f"there is no collection in {place}; ingest something into it first")
        return names

    def create(self, space: EmbeddingSpace) -> None:
        """Create the collection, unless another process was faster."""
        self._process.create(space, self._layout)

    def drop(self) -> None:
        """Remove the collection, which is one of the kit's; where there is none, do nothing."""
        self._process.drop()

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors) -> dict[str, str]:
        """Write chunks; when it returns they are safe. Edge refuses no single records."""
        for batch in batches(chunks, vectors.itemsize * vectors.shape[1]):
            own = [chunks[place] for place in batch]
            rows = vectors[batch.start : batch.stop]
            payloads = [payload_of(chunk) for chunk in own]
            self._ask("upsert", self._layout.vector, [chunk.id for chunk in own], rows, payloads)
        return {}

    def set_payloads(self, chunks: Sequence[Chunk]) -> None:
        """Change the payloads of stored chunks, but not their texts and vectors."""
        self._ask("set_payloads", {chunk.id: redescribed(chunk) for chunk in chunks})

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points."""
        self._ask("delete", list(ids))

    def delete_where(self, where: Filter) -> None:
        """Remove the points that a filter finds."""
        self._ask("delete_where", where)

    def scroll(
        self, where: Filter | None, fields: Sequence[str] | None, *, with_vectors: bool
    ) -> Iterator[Callable[[], list[Found]]]:
        """Yield requests for the pages of the points that a filter finds."""
        listed = None if fields is None else list(fields)
        name = self._layout.vector if with_vectors else None
        offset: str | int | None = None
        pin = self._process.pin()

        def request() -> list[Found]:
            nonlocal offset
            page, offset = self._ask("scroll", where, offset, _PAGE, listed, name, pin=pin)
            return [Found(*each) for each in page]

        yield request
        while offset is not None:
            yield request

    def search(self, queries: Sequence[Query]) -> list[list[Found]]:
        """Return the nearest points for each query, best first."""
        if not queries:
            return []
        asked = [(q.vector.tolist(), q.limit, q.filter, q.exact, q.ef, q.with_vectors) for q in queries]
        answers = self._ask("search", self._layout.vector, asked)
        return [[Found(*each) for each in found] for found in answers]

    def count(self, where: Filter | None) -> int:
        """Return how many points a filter finds."""
        number: int = self._ask("count", where)
        return number

    def build_indexes(self) -> None:
        """Build an index where there is much to search."""
        self._ask("build_indexes")

    def close(self) -> None:
        """Release the process, which ends with the last store that uses it."""
        self._closed = True
        self._held.release()

    def __str__(self) -> str:
        return str(self._folder)
