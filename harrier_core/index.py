"""Index = encoder + store: ingest, search, delete, verify. The instruction is on every query and on no document."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from harrier_core.errors import SettingError, StoreMissing
from harrier_core.filters import parse
from harrier_core.ingest import Ingest, Progress, Pruning
from harrier_core.records import MOST_ID_BYTES
from harrier_core.searching import Searching
from harrier_core.values import plain, unstorable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from harrier_core.chunking import Chunking
    from harrier_core.embedder import Embedder
    from harrier_core.records import IngestReport, Record, Skipped, VerifyReport
    from harrier_core.space import EmbeddingSpace
    from harrier_core.store import OpenStore, Stored, VectorStore

_CLEARED = 10_000  # records that are removed at once


class Index(Searching):
    """Records in a store, found by what they mean. Any number of threads and tasks may use it at once.

    It is a handful of settings: making one opens nothing, and pickling one carries a store's and an encoder's settings.
    A copy within the process, also of what holds one, is the Index itself.
    """

    def __init__(self, store: VectorStore, encoder: Embedder, *, chunking: Chunking | None = None) -> None:
        """Put an index over a store. It opens nothing yet.

        chunking: how records that are longer are cut; without it a record longer than the model takes is rejected.
        """
        self.store = store
        self.encoder = encoder
        self.chunking = chunking
        self._space: EmbeddingSpace | None = None
        self._handle: OpenStore | None = None

    def using(self, encoder: Embedder) -> Index:
        """Return an index over the same store, with another encoder of the same space. Closing either closes both."""
        return Index(self.store, encoder, chunking=self.chunking)

    # -- writing

    def ingest(
        self,
        records: Iterable[Record | Skipped],
        *,
        prune: bool | Pruning = False,
        on_progress: Progress | None = None,
        build_indexes: bool = True,
    ) -> IngestReport:
        """Make the store hold these records as they are now: a second run changes nothing.

        records: any iterable, read as it is needed, of any length. A bad record is reported and left out. prune: remove
        records that are not among them, or some of those, as a Pruning says. on_progress: called
        with the report so far after each window. build_indexes: at the end, build what searches need, unless somebody
        else loads or builds; with False, call `build_indexes` once all of several loads are done.
        """
        return self._run(self._ingest(on_progress), records, prune=prune, build_indexes=build_indexes)

    async def aingest(
        self,
        records: Iterable[Record | Skipped],
        *,
        prune: bool | Pruning = False,
        on_progress: Progress | None = None,
        build_indexes: bool = True,
    ) -> IngestReport:
        """Do what `ingest` does, reading records on another thread; cancelled, it ends after the pass under way."""
        loop = asyncio.get_running_loop()

        def tell(report: IngestReport) -> None:
            if on_progress:
                loop.call_soon_threadsafe(on_progress, report)

        ingest = self._ingest(tell)
        run = partial(self._run, ingest, records, prune=prune, build_indexes=build_indexes)
        thread = ThreadPoolExecutor(1, thread_name_prefix="harrier-ingest")
        try:
            return await loop.run_in_executor(thread, run)
        except asyncio.CancelledError:
            ingest.stop()
            raise
        finally:
            thread.shutdown(wait=False)

    def _ingest(self, on_progress: Progress | None) -> Ingest:
        return Ingest(self.encoder, self.chunking, on_progress)

    def _run(
        self, ingest: Ingest, records: Iterable[Record | Skipped], *, prune: bool | Pruning, build_indexes: bool
    ) -> IngestReport:
        self._handle = self.store.open(self._encoder_space(), create=True)
        return ingest.run(self._handle, records, prune=prune, build_indexes=build_indexes)

    def plan(
        self, records: Iterable[Record | Skipped], *, prune: bool | Pruning = False, on_progress: Progress | None = None
    ) -> IngestReport:
        """Return the report that `ingest` would give for these records. It encodes nothing and writes nothing.

        Nothing is remembered either: a record that comes again a thousand records later is counted anew.
        """
        from harrier_core.rehearsal import Measuring, Untouched

        try:
            store = Untouched(self._opened())
        except StoreMissing:
            store = Untouched(None)
        ingest = Ingest(Measuring(self.encoder), self.chunking, on_progress)
        return ingest.run(store, records, prune=prune, build_indexes=False)

    def build_indexes(self) -> None:
        """Build what searches need, once loads are over, unless somebody else loads or builds."""
        self._opened().build_indexes()

    def delete(self, record_ids: Iterable[str]) -> int:
        """Remove records, and return how many chunks those were: none where there is nothing."""
        ids = _listed(record_ids)
        try:
            return self._opened().delete(ids)
        except StoreMissing:
            return 0

    async def adelete(self, record_ids: Iterable[str]) -> int:
        """Do what `delete` does, without holding up the event loop."""
        return await asyncio.to_thread(self.delete, record_ids)

    def clear(self) -> int:
        """Remove all records, and return how many chunks those were: none where there is nothing."""
        try:
            store = self._opened()
            ids = list(store.record_ids())
        except StoreMissing:
            return 0
        return sum(store.delete(ids[begin : begin + _CLEARED]) for begin in range(0, len(ids), _CLEARED))

    # -- looking inside, life

    def count(self) -> int:
        """Return how many chunks there are."""
        return self._opened().count()

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records, each once, in any order."""
        return self._opened().record_ids()

    def read(self, record_ids: Iterable[str] | None = None, where: Mapping[str, Any] | None = None) -> Iterator[Stored]:
        """Yield the chunks of those records, or of all, that meet `where`, with their vectors, as they are needed."""
        condition = parse(where)
        ids = None if record_ids is None else _listed(record_ids)
        return self._opened().read(ids, condition)

    def verify(self, sample: int = 100, on_progress: Callable[[VerifyReport], None] | None = None) -> VerifyReport:
        """Tell whether what is stored is what belongs there: look at every chunk, and encode some `sample` of them.

        A vector of another length than one, with NaN, or of a text that was changed behind the kit's back is reported.
        A CachedEncoder's cache is not asked: the vectors are made again.
        """
        from harrier_core.verify import verify

        return verify(self._opened(), self.encoder.uncached, sample, on_progress)

    def close(self) -> None:
        """Close the store; the encoder is its owner's."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __copy__(self) -> Self:
        """Return the Index itself: its settings do not change, and a store may be one of this process."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the Index itself."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store, "encoder": self.encoder, "chunking": self.chunking}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _encoder_space(self) -> EmbeddingSpace:
        if self._space is None:  # it does not change
            self._space = self.encoder.space
        return self._space

    def _opened(self) -> OpenStore:
        if self._handle is None:
            self._handle = self.store.open(self._encoder_space())
        return self._handle


def _listed(record_ids: Iterable[str]) -> list[str]:
    """Those that can be stored at all."""
    if isinstance(record_ids, str):
        raise SettingError("record_ids is a list of ids; put a single one in a list")
    ids = list(record_ids)
    for each in ids:
        if not isinstance(each, str):
            raise SettingError(f"a record's id is a str, not {type(each).__name__}")
    return [plain(each) for each in ids if not unstorable(each) and len(each.encode()) <= MOST_ID_BYTES]
