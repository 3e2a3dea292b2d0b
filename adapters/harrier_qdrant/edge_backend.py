"""A collection in a folder, without a server: by Qdrant Edge, the engine itself (`edge_process.py`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harrier_core.errors import SettingError, StoreMissing, StoreUnavailable
from harrier_core.extras import require
from harrier_core.layout import StoreLayout
from harrier_core.lexical import Terms, document_terms
from harrier_core.records import Chunk
from harrier_core.shared import Held
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Hashes
from harrier_qdrant.aside import Later
from harrier_qdrant.backend import CLOSED, Query
from harrier_qdrant.edge_process import EdgeProcess, Pin, processes
from harrier_qdrant.filters import Filter
from harrier_qdrant.folder import BESIDE, WORDS_FILE, collections, size_of
from harrier_qdrant.points import Found, batches, payload_of, redescribed
from harrier_qdrant.schema import WORDS, WORDS_VERSION, Layout, Shape, kinds_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harrier_core.types import Vectors

_PAGE = 500
_PROCESS = "process"  # the name of the lease


class EdgeBackend:
    """A collection in a folder, for all stores of this process that have it open."""

    may_race = False  # all writers to the folder are in this process, and wait for `writing`

    def __init__(self, folder: Path, layout: Layout) -> None:
        """Take the collection's folder, whose path must be resolved, and touch nothing yet."""
        require("an embedded Qdrant", "qdrant_edge", "filelock")
        if folder.name == BESIDE:
            raise SettingError(f"a collection cannot be named {BESIDE}: use another name")
        self._folder = folder
        self._layout = layout
        self._held = Held()
        self._closed = False
        self.words = EdgeWords(self._ask)

    @property
    def _process(self) -> EdgeProcess:
        if self._closed:
            raise StoreUnavailable(CLOSED)
        lease = self._held.lease(_PROCESS)
        if lease is not None and lease.inherited:  # its collection is open in the parent process
            raise StoreUnavailable(f"{self} was opened before this process was forked; open the store after the fork")
        return self._held.take(_PROCESS, lambda: processes.use(self._folder, partial(EdgeProcess, self._folder)))

    def _ask(self, name: str, *arguments: Any, pin: Pin | None = None) -> Any:  # noqa: ANN401
        return self._process.ask(name, *arguments, pin=pin)

    def writing(self) -> AbstractContextManager[Any]:
        """Return a lock to hold while records are compared and written, all in one collection."""
        return self._process.writing()

    def shape(self) -> Shape | None:
        """Return the collection as it is now, or None if it does not exist."""
        return self._process.shape()

    def look(self) -> Later[Shape | None]:
        """Return `shape` as work: it reads two small files when its result is requested."""
        return Later(self.shape)

    def bytes(self) -> int:
        """Return the size of the collection on disk."""
        return size_of(self._folder)

    def names(self) -> list[str]:
        """Return the names of the kit's collections in the same folder. Raise StoreMissing if it has none."""
        place = self._folder.parent
        names = collections(place)
        if not names:
            raise StoreMissing(f"there is no collection in {place}; ingest something into it first")
        return names

    def layout(self) -> StoreLayout:
        """Return the layout of the collection. Raise StoreMissing if it does not exist."""
        precision, hnsw = self._process.made(self._layout.vector)
        kinds, shape = kinds_in(self._ask("payload_schema")), self.shape()
        return StoreLayout(precision, hnsw, kinds, shape is not None and shape.has_words)

    def create(self, space: EmbeddingSpace, layout: Layout) -> None:
        """Create the collection, unless another process was faster."""
        self._process.create(space, layout)

    def settle(self) -> None:
        """Finish an exchange of the folder if a kill interrupted it."""
        self._process.settle()

    def give_folder(self, new: Path, kept: Path) -> None:
        """Give this folder to another collection, and `kept` to this one, in one step. The caller holds `writing`."""
        with closing(EdgeBackend(new, self._layout)) as other:
            self._process.exchange(other._process, kept)

    def drop(self) -> None:
        """Remove the collection, which must be one of the kit's; do nothing if it does not exist."""
        self._process.drop()

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors, *, words: bool) -> dict[str, str]:
        """Write chunks durably. Edge never refuses single records."""
        for batch in batches(chunks, vectors.itemsize * vectors.shape[1]):
            own = [chunks[place] for place in batch]
            rows = vectors[batch.start : batch.stop]
            payloads = [payload_of(chunk) for chunk in own]
            terms = _packed(own) if words else None
            self._ask("upsert", self._layout.vector, [chunk.id for chunk in own], rows, payloads, WORDS, terms)
        return {}

    def set_payloads(self, chunks: Sequence[Chunk], known: Mapping[str, Hashes]) -> None:  # noqa: ARG002
        """Change the payloads of stored chunks; no one can have changed their texts meanwhile."""
        self._ask("set_payloads", {chunk.id: redescribed(chunk) for chunk in chunks})

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points."""
        self._ask("delete", list(ids))

    def delete_where(self, where: Filter) -> None:
        """Remove the points that match a filter."""
        self._ask("delete_where", where)

    def scroll(
        self, where: Filter | None, fields: Sequence[str] | None, *, with_vectors: bool, with_words: bool = False
    ) -> Iterator[Callable[[], list[Found]]]:
        """Yield requests for the pages of the points that match a filter."""
        listed = None if fields is None else list(fields)
        name = self._layout.vector if with_vectors else None
        words = WORDS if with_words else None
        offset: str | int | None = None
        pin = self._process.pin()

        def request() -> list[Found]:
            nonlocal offset
            page, offset = self._ask("scroll", where, offset, _PAGE, listed, name, words, pin=pin)
            return [Found(id_, payload, vector, words=own and Terms(*own)) for id_, payload, vector, own in page]

        yield request
        while offset is not None:
            yield request

    def search(self, queries: Sequence[Query]) -> list[list[Found]]:
        """Return the nearest points for each query, best first."""
        if not queries:
            return []
        asked = [(_sent(q.vector), q.limit, q.filter, q.exact, q.ef, q.with_vectors) for q in queries]
        answers = self._ask("search", self._layout.vector, WORDS, asked)
        return [[Found(*each) for each in found] for found in answers]

    def count(self, where: Filter | None) -> int:
        """Return how many points match a filter."""
        number: int = self._ask("count", where)
        return number

    def build_indexes(self, layout: Layout) -> None:  # noqa: ARG002  # those of fields were made with the collection
        """Build an index if it is worth the time."""
        self._ask("build_indexes")

    def close(self) -> None:
        """Release the process, which ends with the last store that uses it."""
        self._closed = True
        self._held.release()

    def __str__(self) -> str:
        return str(self._folder)


class _Ask(Protocol):
    def __call__(self, name: str, *arguments: Any) -> Any: ...  # noqa: ANN401


class EdgeWords:
    """The sparse vector of a collection in a folder. The caller holds `writing` during any of these calls."""

    def __init__(self, ask: _Ask) -> None:
        self._ask = ask

    def create(self) -> None:
        """Add the vector to the existing collection."""
        self._ask("add_words", WORDS)

    def remove(self) -> None:
        """Remove the vector from all points."""
        self._ask("remove_words", WORDS)

    def mark(self, version: int | None) -> None:
        """Record in the collection that all chunks have their words or, with None, that they may lack them."""
        self._ask("mark_words", WORDS_FILE, None if version is None else json.dumps({WORDS_VERSION: version}))

    def write(self, chunks: Sequence[Chunk]) -> None:
        """Add the words of stored chunks; no one can have changed or removed these meanwhile."""
        self._ask("write_words", WORDS, [chunk.id for chunk in chunks], _packed(chunks))


def _packed(chunks: Sequence[Chunk]) -> list[tuple[list[int], list[float]]]:
    """Return the words of chunks in the form for the child process, which knows none of our classes."""
    terms = (document_terms(chunk.text) for chunk in chunks)
    return [(list(each.ids), list(each.weights)) for each in terms]


def _sent(vector: NDArray[np.float32] | Terms) -> list[float] | tuple[list[int], list[float]]:
    return (list(vector.ids), list(vector.weights)) if isinstance(vector, Terms) else vector.tolist()
