"""Another model for an index that is in use: a second place beside it is filled, and takes its name in one step.

    from harrier_core.migration import back, check, drop_old, reembed, switch

    reembed(place, new)     # as often as one likes; it goes on from what is there
    check(place, new)
    switch(place, new)      # and `back(place, old)`, until `drop_old(place)`

Readers and writers go on with the index meanwhile. What was written to it since the last pass is caught up while
writers wait, right before the names are exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, NoReturn, cast

from harrier_core.errors import SettingError, StoreMissing, StoreUnsuitable, WrongSpace
from harrier_core.layout import Precision, StoreLayout
from harrier_core.migration.encoding import Encoding, Pace
from harrier_core.migration.filling import Differing, Filling
from harrier_core.migration.report import ReembedReport
from harrier_core.parts import embedder_of, store_of
from harrier_core.store import Dated, Exchange, Exchangeable, LaidOut, OpenStore, VectorStore

if TYPE_CHECKING:
    from harrier_core.embedder import Embedder
    from harrier_core.parts import HasIndexEncoder
    from harrier_core.space import EmbeddingSpace

NEXT, BEFORE = "_next", "_before"  # what the names of the two other places end with

Progress = Callable[[ReembedReport], None]

_SIZES = {"float16": 2, "float32": 4}  # bytes of a number
_SLOW = 10  # seconds of work that are lost at most where it is killed and must not go fast


def reembed(
    place: VectorStore | str,
    encoder: Embedder | HasIndexEncoder,
    *,
    rate: float | None = None,
    precision: Precision | None = None,
    build_indexes: bool = True,
    on_progress: Progress | None = None,
) -> ReembedReport:
    """Fill a place beside an index with its chunks in another encoder's space, and change nothing of the index.

    place: a store, or its URL as `open_store` takes it; the new place has its name and "_next", and is made like it. It
    is filled from the stored texts. A run that was interrupted is repeated, and goes on from there; one that is
    repeated catches up what others wrote meanwhile.

    rate: encode no more chunks a second, so that searches come first. precision: of the new place's vectors, where it
    is to be another one. build_indexes: at the end, build what searches need. on_progress: called with the report so
    far.
    """
    if rate is not None and not rate > 0:
        raise SettingError(f"rate must be a positive number of chunks a second, got {rate!r}")
    with _changing(place) as changing, _told(on_progress) as told:
        embedder = embedder_of(encoder)
        changing.refuse_same(embedder.space, precision)
        if (problem := changing.exchange().problem()) is not None:
            raise StoreUnsuitable(problem)
        new = changing.opened_next(embedder.space, precision)
        told.report.total = changing.opened.count()
        changing.filling(new, embedder, told, Pace(rate)).run()
        if build_indexes:
            told.report.stage = "indexing"
            told.tell()
            new.build_indexes()
    return told.report


def switch(
    place: VectorStore | str, encoder: Embedder | HasIndexEncoder, *, on_progress: Progress | None = None
) -> ReembedReport:
    """Have an index go on in the new space, in one step; what it held is kept beside it, under its name and "_before".

    What was written to the index since the last pass is caught up first. Then writers wait while the rest is, and
    readers go on. From the next call on, readers and writers with the new encoder find the new space, and those with
    the old one get WrongSpace. Nothing happens if a record cannot be encoded, or where it was switched before.
    """
    return _exchange(place, encoder, NEXT, BEFORE, on_progress)


def back(
    place: VectorStore | str, encoder: Embedder | HasIndexEncoder, *, on_progress: Progress | None = None
) -> ReembedReport:
    """Undo `switch`, in one step; `encoder`, of the old space, encodes what was written since.

    The new space is kept as it was before the switch, so that `switch` can be called again.
    """
    return _exchange(place, encoder, BEFORE, NEXT, on_progress)


def drop_old(place: VectorStore | str) -> None:
    """Remove what `switch` kept. Raise StoreMissing if there is nothing."""
    with _changing(place) as changing, changing.beside(BEFORE) as old:
        if old.space() is None:
            raise StoreMissing(f"there is nothing to drop: {old} is not there")
        old.drop()


def _exchange(
    place: VectorStore | str,
    encoder: Embedder | HasIndexEncoder,
    taken: str,
    kept: str,
    on_progress: Progress | None,
) -> ReembedReport:
    with _changing(place) as changing, _told(on_progress) as told:
        embedder, report = embedder_of(encoder), told.report
        with changing.beside(taken) as store, changing.beside(kept) as other:
            if (space := store.space()) is None:
                if changing.space == embedder.space and other.space() is not None:
                    report.complete = True  # a run that was killed right after it, or a second one
                    return report
                _refuse_missing(changing.store, taken)
            if space != embedder.space:
                raise WrongSpace(f"{store} holds vectors of another space: {space.explain(embedder.space)}")
            exchange = changing.exchange(taken, kept)
            if (problem := exchange.problem()) is not None:
                raise StoreUnsuitable(problem)
            new = store.open(space)
            report.total = changing.opened.count()
            filling = changing.filling(new, embedder, told, Pace(None), exchange)
            filling.run()
            _refuse_rejected(report)
            new.build_indexes()
            report.stage = "switching"
            told.tell()
            exchange.run(lambda: _catch_up(filling, report))
    return report


def _catch_up(filling: Filling, report: ReembedReport) -> None:
    """Take over what was written since, while nobody can write."""
    filling.run()
    _refuse_rejected(report)
    if not report.complete:
        raise StoreUnsuitable("the index was written to while its writers were kept out; nothing was exchanged")


def _refuse_rejected(report: ReembedReport) -> None:
    if report.rejected:
        record_id, reason = report.rejected[0]
        raise StoreUnsuitable(
            f"{len(report.rejected)} records have no vectors of the model, such as {record_id!r}, which {reason}; "
            "nothing was exchanged; delete or ingest them again, or let the encoder cut long texts"
        )


def _refuse_missing(store: VectorStore, suffix: str) -> NoReturn:
    if suffix == NEXT:
        raise StoreMissing(f"there is nothing to switch to beside {store}; re-embed it first")
    raise StoreMissing(f"there is nothing to go back to beside {store}: it was not switched, or the old was dropped")


# -- an index and the places beside it


@dataclass
class Told:
    """A report, and whoever is to be told of it."""

    report: ReembedReport
    on_progress: Progress | None
    begun: float

    def tell(self) -> None:
        """Say how far it is."""
        self.report.seconds = perf_counter() - self.begun
        if self.on_progress:
            self.on_progress(self.report.snapshot())


@contextmanager
def _told(on_progress: Progress | None) -> Iterator[Told]:
    told = Told(ReembedReport(), on_progress, perf_counter())
    yield told
    told.tell()


class Changing:
    """An index whose model is to change, and the places beside it."""

    def __init__(self, store: VectorStore) -> None:
        if not isinstance(store, Exchangeable):
            raise StoreUnsuitable(
                f"{store} cannot be exchanged for another place in one step; ingest into a new place, and have readers "
                "use that one"
            )
        self.store: VectorStore = store
        self._exchangeable = cast("Exchangeable", store)
        space = store.space()
        if space is None:
            store.describe()  # it raises StoreMissing, in the store's own words
            raise StoreMissing(f"there is nothing in {store}; ingest something into it first")
        self.space = space
        self.opened = store.open(space)
        self.layout = store.layout() if isinstance(store, LaidOut) else StoreLayout()
        self._beside: list[VectorStore] = []

    @contextmanager
    def beside(self, suffix: str) -> Iterator[VectorStore]:
        """Yield the store for a place beside it."""
        store = self._exchangeable.beside(suffix)
        try:
            yield store
        finally:
            store.close()

    def exchange(self, new: str = NEXT, kept: str = BEFORE) -> Exchange:
        """Return the way by which the names are exchanged."""
        return self._exchangeable.exchange(new, kept)

    def refuse_same(self, space: EmbeddingSpace, precision: Precision | None) -> None:
        """Raise SettingError if there is nothing to change."""
        if space == self.space and precision in (None, self.layout.precision):
            raise SettingError(f"{self.store} holds vectors of this model already; name another one, or a precision")

    def opened_next(self, space: EmbeddingSpace, precision: Precision | None) -> OpenStore:
        """Return the new place, made like the index if it is not there."""
        store = self._exchangeable.beside(NEXT)
        self._beside.append(store)
        there = store.space()
        if there is not None and there != space:
            raise WrongSpace(
                f"{store} holds what another re-embedding began: {there.explain(space)}; name that model, or drop it "
                "first"
            )
        if isinstance(store, LaidOut):
            store.adopt(replace(self.layout, precision=precision or self.layout.precision))
        opened = store.open(space, create=True)
        if isinstance(store, Dated):
            store.note_ingest(datetime.now(UTC))
        return opened

    def filling(
        self, new: OpenStore, embedder: Embedder, told: Told, pace: Pace, exchange: Exchange | None = None
    ) -> Filling:
        """Return what makes a place beside it hold what it holds."""

        def encoded(texts: int, tokens: int) -> None:
            told.report.encoded += texts
            told.report.tokens += tokens
            told.tell()

        differing: Differing = (exchange or self.exchange()).differing
        most = {} if pace.rate is None else {"most": max(16, int(_SLOW * pace.rate))}
        itemsize = _SIZES[self.layout.precision or "float32"]
        encoding = Encoding(embedder, pace, encoded)
        return Filling(self.opened, new, differing, encoding, told.report, told.tell, itemsize=itemsize, **most)

    def close(self) -> None:
        """Close the places beside it."""
        for each in self._beside:
            each.close()


@contextmanager
def _changing(place: VectorStore | str) -> Iterator[Changing]:
    """Yield an index whose model is to change. A store that was given stays open."""
    store = store_of(place)
    try:
        changing = Changing(store)
        try:
            yield changing
        finally:
            changing.close()
    finally:
        if isinstance(place, str):
            store.close()
