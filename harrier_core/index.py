"""Index = encoder + store: ingest, search, delete, verify. The instruction is on every query and on no document."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Never, Self, TypeVar

from harrier_core.contents import Contents
from harrier_core.errors import SettingError, StoreMissing
from harrier_core.foreign import OF_INDEX, no_attribute, refuse_records
from harrier_core.ingest import Ingest
from harrier_core.parts import embedder_of
from harrier_core.progress import Progress, shown
from harrier_core.pruning import Pruning
from harrier_core.searching import Searching
from harrier_core.store import Dated
from harrier_core.threads import in_thread
from harrier_core.turning import Turning, TurningStore

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from harrier_core.chunking import Chunking
    from harrier_core.embedder import Embedder
    from harrier_core.key_values import KeyValues
    from harrier_core.options import Options
    from harrier_core.parts import HasIndexEncoder
    from harrier_core.records import Ingestible, IngestReport, Match, VerifyReport
    from harrier_core.scaling.workers import WorkerIngest
    from harrier_core.space import EmbeddingSpace
    from harrier_core.store import OpenStore, VectorStore

T = TypeVar("T")

log = logging.getLogger(__name__)


class Index(Searching, Contents):
    """Records in a store, searched by meaning. Any number of threads and tasks may use it at once.

    It holds only settings: creating one opens nothing, and pickling one carries the settings of its store and encoder.
    Copying an Index within the process, or an object that holds it, keeps the same Index.
    """

    def __init__(
        self,
        store: VectorStore | str,
        encoder: Embedder | HasIndexEncoder | None = None,
        *,
        encoders: Sequence[Embedder | HasIndexEncoder] | None = None,
        chunking: Chunking | None = None,
        grace: float | None = None,
    ) -> None:
        """Create an index over a store. Nothing is opened yet.

        store: a store, or its URL as accepted by `open_store`. encoder: an Encoder or another Embedder, or an object
        with an `index_encoder`, such as HarrierEmbeddings (LangChain) or HarrierEmbedding (LlamaIndex). encoders:
        instead of `encoder`, several of different spaces, for a store whose model is about to change. Each call uses
        the one of the stored space, and `encoder` is that one. The first one creates a store that does not exist yet.
        chunking: how longer records are cut; without it, a record that is too long for the model is rejected.
        grace: for how many seconds searches continue in the old space, as it was, after the store was switched to a
        model that this Index does not have; without it, they are refused at once.
        """
        super().__init__(store)
        if grace is not None and not grace > 0:
            raise SettingError(f"grace must be a positive number of seconds, got {grace!r}")
        self._encoders = _encoders_of(encoder, encoders)
        self.encoder = self._encoders[0]
        self.chunking = chunking
        self._space: EmbeddingSpace | None = None
        self._grace = grace
        turns = len(self._encoders) > 1 or grace is not None
        self._turning = Turning(self.store, self._encoders, self._use, grace) if turns else None

    def _use(self, encoder: Embedder) -> None:
        self.encoder = encoder

    def using(self, encoder: Embedder | HasIndexEncoder) -> Index:
        """Return an index over the same store, with another encoder of the same space. Closing either closes both."""
        return Index(self.store, encoder, chunking=self.chunking)

    def through(self, wrap: Callable[[Embedder], Embedder]) -> Self:
        """Return an index over the same store, with each encoder as `wrap` returns it. Closing either closes both."""
        encoders = [wrap(each) for each in self._encoders]
        return type(self)(self.store, encoders=encoders, chunking=self.chunking, grace=self._grace)

    # -- writing

    def ingest(
        self,
        records: Iterable[Ingestible],
        *,
        vectors: ArrayLike | Iterable[ArrayLike] | None = None,
        prune: bool | Pruning = False,
        on_progress: Progress | bool | None = None,
        build_indexes: bool = True,
        memory: KeyValues | None = None,
        workers: int | None = None,
    ) -> IngestReport:
        """Make the store hold these records as they are now: a second run changes nothing.

        records: any iterable, of any length, read as needed. An invalid record is reported and left out. vectors: those
        of the records, in the same order, made earlier by the same model; one in a hundred is compared with the vector
        that the encoder makes of its text, and WrongSpace is raised if they do not match. prune: remove stored records
        that are not among these; a Pruning limits which. on_progress: called with the report so far, every second while
        chunks are encoded and written; True shows a progress bar. build_indexes: at the end, build the indexes for
        searches, unless another process is loading or building; with False, call `build_indexes` after the last of
        several loads. memory: any key-value store of bytes that is kept between runs. With it, an unchanged `Deferred`
        record is not read, and after a crash, no vector of a long record is made twice. workers: the number of
        processes that encode and write, one per GPU, or any number on CPUs; each opens the store and loads the model.
        """
        with shown(on_progress, records) as tell:
            encoder = self._writer()
            ingest = self._ingest(encoder, tell, memory, workers)
            return self._run(ingest, encoder, records, vectors, prune=prune, build_indexes=build_indexes)

    async def aingest(
        self,
        records: Iterable[Ingestible],
        *,
        vectors: ArrayLike | Iterable[ArrayLike] | None = None,
        prune: bool | Pruning = False,
        on_progress: Progress | bool | None = None,
        build_indexes: bool = True,
        memory: KeyValues | None = None,
        workers: int | None = None,
    ) -> IngestReport:
        """Do what `ingest` does, reading records on another thread. If cancelled, it stops after the pass under way."""
        loop = asyncio.get_running_loop()

        thread = ThreadPoolExecutor(1, thread_name_prefix="harrier-ingest")
        with shown(on_progress, records) as told:

            def tell(report: IngestReport) -> None:
                if told:
                    loop.call_soon_threadsafe(told, report)

            encoder = self.encoder if self._turning is None else await in_thread(self._writer)
            ingest = self._ingest(encoder, tell, memory, workers)
            run = partial(self._run, ingest, encoder, records, vectors, prune=prune, build_indexes=build_indexes)
            try:
                return await loop.run_in_executor(thread, copy_context().run, run)
            except asyncio.CancelledError:
                ingest.stop()
                raise
            finally:
                thread.shutdown(wait=False)

    def _writer(self) -> Embedder:
        """Return the encoder for writing: of several, the one of the store's current space."""
        if self._turning is not None:
            self._turning.forget()
            self._turning.bound(create=True)
        return self.encoder

    def _ingest(
        self, encoder: Embedder, on_progress: Progress | None, memory: KeyValues | None, workers: int | None
    ) -> Ingest | WorkerIngest:
        if workers is None:
            return Ingest(encoder, self.chunking, on_progress, memory)
        if self._turning is not None:
            raise SettingError("workers cannot follow a store that changes its model; use an Index with one encoder")
        from harrier_core.scaling.workers import WorkerIngest

        return WorkerIngest(self, workers, on_progress, memory)

    def _run(
        self,
        ingest: Ingest | WorkerIngest,
        encoder: Embedder,
        records: Iterable[Ingestible],
        vectors: object,
        *,
        prune: bool | Pruning,
        build_indexes: bool,
    ) -> IngestReport:
        refuse_records(records)
        opened = self._opened_to_write(encoder, vectors)
        report = ingest.run(opened, records, vectors=vectors, prune=prune, build_indexes=build_indexes)
        if (report.written or report.deleted) and isinstance(self.store, Dated):
            self.store.note_ingest(datetime.now(UTC))
        log.info("ingest: %s", report)
        return report

    def _opened_to_write(self, encoder: Embedder, vectors: object) -> OpenStore:
        if self._turning is None:
            self._handle = self.store.open(self._encoder_space(), create=True)
            return self._handle
        if vectors is not None and len(self._encoders) > 1:
            raise SettingError(
                "vectors do not identify which of several encoders made them; use an Index with that encoder"
            )
        return TurningStore(self._turning, encoder)

    def plan(
        self,
        records: Iterable[Ingestible],
        *,
        prune: bool | Pruning = False,
        on_progress: Progress | bool | None = None,
        memory: KeyValues | None = None,
    ) -> IngestReport:
        """Return the report that `ingest` would give for these records. It encodes nothing and writes nothing.

        Nothing is remembered either: a record that is repeated a thousand records later is counted again.
        """
        from harrier_core.rehearsal import Measuring, Recalled, Untouched

        refuse_records(records)
        try:
            store = Untouched(self._opened())
            if self._turning is not None:
                self._turning.bound()  # raises StoreMissing if nothing is stored
        except StoreMissing:
            store = Untouched(None)
        measuring, recalled = Measuring(self.encoder), Recalled(memory) if memory else None
        with shown(on_progress, records) as tell:
            ingest = Ingest(measuring, self.chunking, tell, recalled)
            return ingest.run(store, records, prune=prune, build_indexes=False)

    def drop(self) -> None:
        """Remove the table or collection itself, with its contents; do nothing if it does not exist."""
        self.store.drop()
        self._handle = None
        if self._turning is not None:
            self._turning.forget()

    def verify(self, sample: int = 100, on_progress: Callable[[VerifyReport], None] | None = None) -> VerifyReport:
        """Check the stored chunks: look at all of them, and encode about `sample` of them again.

        A vector is reported if its length is not 1, if it contains NaN, or if its text was changed by another program.
        A CachedEncoder's cache is bypassed: the vectors are made again.
        """
        from harrier_core.verify import verify

        return self._with_store(lambda store, encoder: verify(store, encoder.uncached, sample, on_progress))

    # -- life

    def close(self) -> None:
        """Close the store; what is stored stays."""
        if self._turning is not None:
            self._turning.close()
        super().close()

    def __copy__(self) -> Self:
        """Return the Index itself: its settings do not change, and its store may exist only in this process."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the Index itself."""
        return self

    if not TYPE_CHECKING:  # it would hide a misspelt name from type checkers

        def __getattr__(self, name: str) -> Never:
            if hasattr(type(self), name):  # a property raised its own AttributeError; raise it again
                return object.__getattribute__(self, name)
            raise no_attribute(self, name, OF_INDEX)

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store, "encoders": self._encoders, "chunking": self.chunking, "grace": self._grace}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        chunking = "" if self.chunking is None else f", chunking={self.chunking!r}"
        made = repr(self.encoder) if len(self._encoders) == 1 else f"encoders={self._encoders!r}"
        return f"Index({self.store!r}, {made}{chunking})"

    def _encoder_space(self) -> EmbeddingSpace:
        if self._space is None:  # it does not change
            self._space = self.encoder.space
        return self._space

    def _opened(self) -> OpenStore:
        if self._turning is not None:
            return TurningStore(self._turning)
        if self._handle is None:
            self._handle = self.store.open(self._encoder_space())
        return self._handle

    def _with_store(self, work: Callable[[OpenStore, Embedder], T]) -> T:
        return work(self._opened(), self.encoder) if self._turning is None else self._turning.run(work)

    async def _awith_store(self, work: Callable[[OpenStore, Embedder], Awaitable[T]]) -> T:
        if self._turning is not None:
            return await self._turning.arun(work)
        opened = self._handle
        if opened is None:
            opened = await in_thread(self._opened)
        return await work(opened, self.encoder)

    def _near(self, vectors: ArrayLike, queries: Iterable[str] | None, options: Options) -> list[list[Match]]:
        if len(self._encoders) > 1:
            raise SettingError(
                "vectors do not identify which of several encoders made them; use an Index with that encoder"
            )
        return super()._near(vectors, queries, options)


def _encoders_of(
    encoder: Embedder | HasIndexEncoder | None, encoders: Sequence[Embedder | HasIndexEncoder] | None
) -> list[Embedder]:
    if encoder is not None and encoders is not None:
        raise SettingError("an Index takes an encoder or encoders, got both; put all of them in encoders")
    found = [embedder_of(each) for each in ([encoder] if encoders is None else encoders)]
    if not found:
        raise SettingError("encoders must have at least one, got none")
    return found
