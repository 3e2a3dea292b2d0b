"""An index whose model is to change, and the two places next to it: one is filled, and one keeps the old content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, cast

from harrier_core.errors import SettingError, StoreMissing, StoreUnavailable, StoreUnsuitable, WrongSpace
from harrier_core.layout import Precision, StoreLayout
from harrier_core.migration.comparing import differing
from harrier_core.migration.encoding import Encoding, Pace
from harrier_core.migration.filling import Filling
from harrier_core.migration.report import ReembedReport
from harrier_core.parts import store_of
from harrier_core.store import BEFORE, Dated, Exchange, Exchangeable, Followed, LaidOut, OpenStore, VectorStore

if TYPE_CHECKING:
    from harrier_core.embedder import Embedder
    from harrier_core.space import EmbeddingSpace

NEXT = "_next"  # suffix of the place that is filled, after the name of the index
RECUT = "_recut"  # and of one with another chunking

Progress = Callable[[ReembedReport], None]

SIZES = {"float16": 2, "float32": 4}  # bytes per number
_SLOW = 1.0  # seconds of work that are written at once, if the rate is limited


@dataclass
class Told:
    """A report, and its listener."""

    report: ReembedReport
    on_progress: Progress | None
    begun: float

    def tell(self) -> None:
        """Report the progress so far."""
        self.report.seconds = perf_counter() - self.begun
        if self.on_progress:
            self.on_progress(self.report.snapshot())


@contextmanager
def told_of(on_progress: Progress | None) -> Iterator[Told]:
    """Yield a new report and its listener, which is called once more at the end."""
    told = Told(ReembedReport(), on_progress, perf_counter())
    yield told
    told.tell()


class Changing:
    """An index whose model is to change, and the places next to it."""

    def __init__(self, store: VectorStore) -> None:
        if not isinstance(store, Exchangeable):
            raise StoreUnsuitable(
                f"{store} cannot be exchanged atomically; ingest into a new place, and point the readers at it"
            )
        self.store: VectorStore = store
        self._exchangeable = cast("Exchangeable", store)
        space = store.space()
        if space is None:
            store.describe()  # raises StoreMissing, with the store's own message
            raise StoreMissing(f"{store} is empty; ingest something into it first")
        self.space = space
        self.opened = store.open(space)
        self.layout = store.layout() if isinstance(store, LaidOut) else StoreLayout()
        self._beside: list[VectorStore] = []

    @contextmanager
    def beside(self, suffix: str) -> Iterator[VectorStore]:
        """Yield the store for a place next to it."""
        store = self._exchangeable.beside(suffix)
        try:
            yield store
        finally:
            store.close()

    @property
    def followed(self) -> bool:
        """Whether something else keeps it, and the places next to it, in step with a source."""
        return isinstance(self.store, Followed) and self.store.follows() is not None

    def exchange(self, new: str = NEXT, kept: str = BEFORE) -> Exchange:
        """Return the object that exchanges the names."""
        return self._exchangeable.exchange(new, kept)

    def differing(self, new: OpenStore, exchange: Exchange) -> Iterator[list[str]]:
        """Yield the ids of the records whose chunks differ between the index and a place next to it."""
        found = exchange.differing()
        return differing(self.opened, new) if found is None else found

    def refuse_same(self, space: EmbeddingSpace, precision: Precision | None) -> None:
        """Raise SettingError if there is nothing to change."""
        if space == self.space and precision in (None, self.layout.precision):
            raise SettingError(f"{self.store} already holds vectors of this model; name another model, or a precision")

    def refuse_unsendable(self, embedder: Embedder, workers: int) -> None:
        """Raise SettingError if the index and the model cannot be sent to worker processes."""
        from harrier_core.scaling.workers import sendable  # loads everything that an ingest needs

        sendable(lambda: (self.store, embedder), workers)

    def opened_next(self, space: EmbeddingSpace, precision: Precision | None) -> OpenStore:
        """Return the new place; if it does not exist, create it like the index."""
        store = self._exchangeable.beside(NEXT)
        self._beside.append(store)
        there = store.space()
        if there is not None and there != space:
            raise WrongSpace(
                f"{store} contains an unfinished re-embedding: {there.explain(space)}; continue with that model, or "
                "drop it first"
            )
        if isinstance(store, LaidOut):
            store.adopt(replace(self.layout, precision=precision or self.layout.precision))
            if precision not in (None, made := store.layout().precision):
                raise SettingError(
                    f"{store} was begun in {made}, not {precision}; continue with that, or drop it first"
                )
        opened = store.open(space, create=True)
        self._refuse_exchanged(store, opened)
        self.exchange().share()  # also if it exists: an earlier run may have been killed just before
        if isinstance(store, Dated):
            store.note_ingest(datetime.now(UTC))
        return opened

    def _refuse_exchanged(self, new: VectorStore, opened: OpenStore) -> None:
        """Raise if the index was exchanged before the new place was created, which would prevent going back."""
        with self.beside(BEFORE) as kept:
            if self.store.space() == self.space and kept.space() is None:
                return
        if next(opened.record_ids(), None) is None:
            new.drop()
        raise StoreUnavailable(f"{self.store} was switched to another space in the meantime; nothing was filled")

    def filling(
        self,
        new: OpenStore,
        embedder: Embedder,
        told: Told,
        pace: Pace,
        exchange: Exchange | None = None,
        workers: int | None = None,
        *,
        store: VectorStore | None = None,
    ) -> Filling:
        """Return a Filling that makes a place next to it hold the same; with workers, it must be the next place.

        store: that of the place, unless `opened_next` opened it.
        """
        store = store or self._beside[-1]

        def encoded(texts: int, tokens: int) -> None:
            told.report.encoded += texts
            told.report.tokens += tokens
            told.tell()

        most = None if pace.rate is None else max(1, int(_SLOW * pace.rate))
        itemsize = SIZES[(store.layout().precision if isinstance(store, LaidOut) else None) or "float32"]
        encoding = Encoding(embedder, pace, encoded)
        exchange = exchange or self.exchange()
        places = self.opened, new, lambda: self.differing(new, exchange)
        if workers is None:
            return Filling(*places, encoding, told.report, told.tell, itemsize=itemsize, most=most)
        from harrier_core.migration.crewing import CrewFilling, FillPart  # loads everything that an ingest needs

        filling = CrewFilling(*places, encoding, told.report, told.tell, itemsize=itemsize)
        filling.employ(FillPart(self.store, store, embedder, itemsize), embedder, workers)
        return filling

    def close(self) -> None:
        """Close the places next to it."""
        for each in self._beside:
            each.close()


@contextmanager
def changing(place: VectorStore | str) -> Iterator[Changing]:
    """Yield an index whose model is to change. A store that was given stays open."""
    store = store_of(place)
    try:
        found = Changing(store)
        try:
            yield found
        finally:
            found.close()
    finally:
        if isinstance(place, str):
            store.close()


@dataclass(frozen=True, slots=True)
class Spaces:
    """The spaces of an index and of the places next to it; None for a place that does not exist."""

    now: EmbeddingSpace
    next: EmbeddingSpace | None
    before: EmbeddingSpace | None


def spaces(place: VectorStore | str) -> Spaces:
    """Return the space of an index, the one that is being filled, and the one that a switch kept."""
    with changing(place) as index, index.beside(NEXT) as new, index.beside(BEFORE) as kept:
        return Spaces(index.space, new.space(), kept.space())
