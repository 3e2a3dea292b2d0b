"""Index = encoder + store: ingest, search, delete, verify. The instruction is on every query and on no document."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self

from harrier_core.diversity import diverse
from harrier_core.errors import SettingError
from harrier_core.filters import Condition, parse
from harrier_core.ingest import DocumentEncoder, Ingest, Progress
from harrier_core.records import MOST_ID_BYTES, plain, unstorable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from harrier_core.chunking import Chunking
    from harrier_core.records import IngestReport, Match, Record, VerifyReport
    from harrier_core.space import EmbeddingSpace
    from harrier_core.store import Stored, VectorStore
    from harrier_core.tasks import Task

    Vectors = NDArray[np.float32]


class TextEncoder(DocumentEncoder, Protocol):
    """What an Index needs of an Encoder."""

    @property
    def space(self) -> EmbeddingSpace:
        """What its vectors may be compared with."""

    def encode_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Vectors:
        """Vectors of queries."""

    async def aencode_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Vectors:
        """Vectors of queries, without holding up the event loop."""


class Index:
    """Records in a store, found by what they mean. Any number of threads and tasks may use it at once."""

    def __init__(self, store: VectorStore, encoder: TextEncoder, *, chunking: Chunking | None = None) -> None:
        """An index over a store. It opens nothing yet.

        chunking: how records that are longer are cut; without it a record longer than the model takes is rejected.
        """
        self.store = store
        self.encoder = encoder
        self._chunking = chunking
        self._space: EmbeddingSpace | None = None

    # -- writing

    def ingest(
        self, records: Iterable[Record], *, prune: bool = False, on_progress: Progress | None = None
    ) -> IngestReport:
        """Make the store hold these records as they are now: a second run changes nothing.

        records: any iterable, read as it is needed, of any length. prune: remove records that are not among them.
        on_progress: called with the report so far after each window. A bad record is reported and left out.
        """
        return self._run(Ingest(self.store, self.encoder, self._chunking, on_progress), records, prune=prune)

    async def aingest(
        self, records: Iterable[Record], *, prune: bool = False, on_progress: Progress | None = None
    ) -> IngestReport:
        """What `ingest` does, reading the records on another thread; cancelled, it ends after the pass under way."""
        loop = asyncio.get_running_loop()

        def tell(report: IngestReport) -> None:
            if on_progress:
                loop.call_soon_threadsafe(on_progress, report)

        ingest = Ingest(self.store, self.encoder, self._chunking, tell)
        thread = ThreadPoolExecutor(1, thread_name_prefix="harrier-ingest")
        try:
            return await loop.run_in_executor(thread, partial(self._run, ingest, records, prune=prune))
        except asyncio.CancelledError:
            ingest.stop()
            raise
        finally:
            thread.shutdown(wait=False)

    def _run(self, ingest: Ingest, records: Iterable[Record], *, prune: bool) -> IngestReport:
        self._open(write=True)
        return ingest.run(records, prune=prune)

    def delete(self, record_ids: Iterable[str]) -> int:
        """Remove records; how many chunks that were."""
        ids = _listed(record_ids)
        self._open(write=True)
        return self.store.delete(ids)

    # -- searching

    def search(
        self, query: str, k: int = 5, where: Mapping[str, Any] | None = None, *, task: str | Task | None = None
    ) -> list[Match]:
        """The k chunks nearest to a query, best first, encoded for `task` or the encoder's own.

        where: conditions on metadata, as in `harrier_core.filters`: {"lang": "fr", "year": {"$gte": 2020}}.
        """
        [matches] = self.search_many([query], k, where, task=task)
        return matches

    def search_many(
        self,
        queries: Iterable[str],
        k: int = 5,
        where: Mapping[str, Any] | None = None,
        *,
        task: str | Task | None = None,
    ) -> list[list[Match]]:
        """What `search` returns for each query; they are encoded together."""
        condition = self._ready(k, where)
        vectors = self.encoder.encode_queries(queries, task=task)
        return self.store.search(vectors, k, condition)

    def search_diverse(
        self,
        query: str,
        k: int = 5,
        where: Mapping[str, Any] | None = None,
        *,
        task: str | Task | None = None,
        among: int = 20,
        relevance: float = 0.5,
    ) -> list[Match]:
        """The k of the `among` nearest chunks, chosen so that they say different things.

        relevance: 1 looks at nearness to the query only, 0 at difference only (maximal marginal relevance).
        """
        condition = self._ready(k, where)
        vectors = self.encoder.encode_queries([query], task=task)
        [matches] = self.store.search(vectors, max(k, among), condition, with_vectors=True)
        return diverse(matches, k, relevance)

    def search_vectors(
        self, vectors: ArrayLike, k: int = 5, where: Mapping[str, Any] | None = None, *, with_vectors: bool = False
    ) -> list[list[Match]]:
        """What `search` returns for queries that were encoded before, one a row, by an encoder of the same space.

        with_vectors: matches carry their own, as `diversity.diverse` needs them.
        """
        condition = self._ready(k, where)
        return self.store.search(self._rows(vectors), k, condition, with_vectors=with_vectors)

    async def asearch_diverse(
        self,
        query: str,
        k: int = 5,
        where: Mapping[str, Any] | None = None,
        *,
        task: str | Task | None = None,
        among: int = 20,
        relevance: float = 0.5,
    ) -> list[Match]:
        """What `search_diverse` returns, without holding up the event loop."""
        condition = await asyncio.to_thread(self._ready, k, where)
        vectors = await self.encoder.aencode_queries([query], task=task)
        search = partial(self.store.search, with_vectors=True)
        [matches] = await asyncio.to_thread(search, vectors, max(k, among), condition)
        return diverse(matches, k, relevance)

    def _rows(self, vectors: ArrayLike) -> Vectors:
        """Vectors of a caller's, at unit length."""
        import numpy as np

        dimensions = self._space.dimensions if self._space else 0
        rows = np.array(vectors, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != dimensions:
            raise SettingError(f"vectors are rows of {dimensions} numbers, not an array of shape {rows.shape}")
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise SettingError("a vector is not finite, or zero: it points nowhere")
        return np.asarray(rows / lengths, dtype=np.float32)

    async def asearch(
        self, query: str, k: int = 5, where: Mapping[str, Any] | None = None, *, task: str | Task | None = None
    ) -> list[Match]:
        """What `search` returns, without holding up the event loop."""
        condition = await asyncio.to_thread(self._ready, k, where)
        vectors = await self.encoder.aencode_queries([query], task=task)
        [matches] = await asyncio.to_thread(self.store.search, vectors, k, condition)
        return matches

    def _ready(self, k: int, where: Mapping[str, Any] | None) -> Condition | None:
        """Whatever can be wrong with a search is found before the model runs."""
        if type(k) is not int or k < 1:
            raise SettingError(f"k is a whole number above zero, not {k!r}")
        if k >= 2**31:  # beyond it the stores have errors of their own
            raise SettingError(f"k is a whole number below 2**31, not {k}")
        condition = parse(where)
        self._open(write=False)
        return condition

    # -- looking inside, life

    def count(self) -> int:
        """How many chunks there are."""
        self._open(write=False)
        return self.store.count()

    def read(self, record_ids: Iterable[str] | None = None, where: Mapping[str, Any] | None = None) -> Iterator[Stored]:
        """The chunks of those records, or of all, that meet `where`, with their vectors, as they are needed."""
        condition = parse(where)
        ids = None if record_ids is None else _listed(record_ids)
        self._open(write=False)
        return self.store.read(ids, condition)

    def verify(self, sample: int = 100, on_progress: Callable[[VerifyReport], None] | None = None) -> VerifyReport:
        """Whether what is stored is what belongs there: look at every chunk, and encode some `sample` of them again.

        A vector of another length than one, with NaN, or of a text that was changed behind the kit's back is reported.
        A CachedEncoder's cache is not asked: the vectors are made again.
        """
        from harrier_core.verify import verify

        self._open(write=False)
        encoder: TextEncoder = getattr(self.encoder, "uncached", self.encoder)
        return verify(self.store, encoder, encoder.space.dimensions, sample, on_progress)

    def close(self) -> None:
        """Close the store; the encoder is its owner's."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, *, write: bool) -> None:
        if self._space is None:  # it does not change, and reading it takes its time
            self._space = self.encoder.space
        self.store.open(self._space, write=write)


def _listed(record_ids: Iterable[str]) -> list[str]:
    """Those that can be stored at all."""
    if isinstance(record_ids, str):
        raise SettingError("record_ids is a list of ids; put a single one in a list")
    ids = list(record_ids)
    for each in ids:
        if not isinstance(each, str):
            raise SettingError(f"a record's id is a str, not {type(each).__name__}")
    return [plain(each) for each in ids if not unstorable(each) and len(each.encode()) <= MOST_ID_BYTES]
