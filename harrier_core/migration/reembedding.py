"""Change the model of an index that is in use: a second place next to it is filled, and takes its name in one step.

    from harrier_core.migration import back, check, drop_old, reembed, switch

    reembed(place, new)         # any number of times; it continues from what is there
    print(check(place, new, old))
    switch(place, new)          # and `back(place, old)`, until `drop_old(place)`

Readers and writers use the index meanwhile. Whatever was written to it since the last pass is carried over while
writers wait, right before the names are exchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from harrier_core.checks import check_integer
from harrier_core.errors import SettingError, StoreMissing, StoreUnavailable, StoreUnsuitable, WrongSpace
from harrier_core.layout import Precision
from harrier_core.migration.changing import NEXT, RECUT, Progress, changing, told_of
from harrier_core.migration.encoding import Pace
from harrier_core.migration.filling import Filling
from harrier_core.migration.recutting import Recut
from harrier_core.migration.report import ReembedReport
from harrier_core.parts import embedder_of
from harrier_core.plurals import counted
from harrier_core.store import BEFORE, Exchange, OpenStore, VectorStore

if TYPE_CHECKING:
    from harrier_core.embedder import Embedder
    from harrier_core.parts import HasIndexEncoder

_BEHIND = 10.0  # seconds of work that may be left once writers have to wait


def reembed(
    place: VectorStore | str,
    encoder: Embedder | HasIndexEncoder,
    *,
    rate: float | None = None,
    precision: Precision | None = None,
    build_indexes: bool = True,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> ReembedReport:
    """Fill a place next to an index with its chunks in another encoder's space. The index itself does not change.

    place: a store, or its URL as accepted by `open_store`. The new place has its name plus "_next" and the same layout,
    and is filled from the stored texts. An interrupted run continues when it is repeated. Repeating a complete one
    carries over what others wrote meanwhile.

    rate: encode at most this many chunks a second, so that searches come first. precision: that of the new place's
    vectors, if it is to change. build_indexes: at the end, build the indexes for searches. workers: the number of
    processes that read, encode and write, one per GPU, or any number on CPUs; each opens the store and loads the model.
    on_progress: called with the report so far.
    """
    if rate is not None and not rate > 0:
        raise SettingError(f"rate must be a positive number of chunks a second, got {rate!r}")
    if workers is not None:
        check_integer("workers", workers, 1)
        if rate is not None:
            raise SettingError("rate limits a single process; omit workers or rate")
    with changing(place) as index, told_of(on_progress) as told:
        embedder = embedder_of(encoder)
        index.refuse_same(embedder.space, precision)
        if (problem := index.exchange().problem()) is not None:
            raise StoreUnsuitable(problem)
        if workers is not None:
            index.refuse_unsendable(embedder, workers)  # before anything is created
        new = index.opened_next(embedder.space, precision)
        told.report.total = index.opened.count()
        index.filling(new, embedder, told, Pace(rate), workers=workers).run()
        if build_indexes:
            told.report.stage = "indexing"
            told.tell()
            new.build_indexes()
    return told.report


def switch(
    place: VectorStore | str,
    encoder: Embedder | HasIndexEncoder,
    *,
    recut: bool = False,
    on_progress: Progress | None = None,
) -> ReembedReport:
    """Switch an index to the new space, in one step; its old content is kept, under its name and "_before".

    Whatever was written to the index since the last pass is carried over first. Then writers wait while the rest is
    carried over; readers continue. From the next call on, readers and writers with the new encoder use the new space,
    and those with the old one get WrongSpace. Nothing changes if a record cannot be encoded, or if the index was
    switched before.

    recut: switch to the place that `recut` filled. Nothing is carried over then: if the records are not the same in
    both places, the switch is refused, and the source must be ingested into both again.

    If a live sync keeps the index up to date, another sync of the same source fills the "_next" place, with workers
    that have the new model. Nothing is carried over here: the switch is refused if that sync is far behind, and waits
    for it if it is not. Both continue afterwards.
    """
    return _exchange(place, encoder, RECUT if recut else NEXT, BEFORE, on_progress)


def back(
    place: VectorStore | str, encoder: Embedder | HasIndexEncoder, *, on_progress: Progress | None = None
) -> ReembedReport:
    """Undo `switch`, in one step. `encoder`, that of the old space, encodes what was written since.

    The new space is kept as it was before the switch, so that `switch` can be called again.
    """
    return _exchange(place, encoder, BEFORE, NEXT, on_progress)


def drop_old(place: VectorStore | str) -> None:
    """Remove the place that `switch` kept. Raise StoreMissing if it does not exist."""
    with changing(place) as index, index.beside(BEFORE) as old:
        if old.space() is None:
            raise StoreMissing(f"there is nothing to drop: {old} does not exist")
        old.drop()


def _exchange(
    place: VectorStore | str,
    encoder: Embedder | HasIndexEncoder,
    taken: str,
    kept: str,
    on_progress: Progress | None,
) -> ReembedReport:
    with changing(place) as index, told_of(on_progress) as told:
        embedder, report = embedder_of(encoder), told.report
        with index.beside(taken) as store, index.beside(kept) as other:
            if (space := store.space()) is None:
                if index.space == embedder.space and other.space() is not None:
                    report.complete = True  # a run that was killed right after the exchange, or a second run
                    return report
                _refuse_missing(index.store, taken)
            if space != embedder.space:
                raise WrongSpace(f"{store} holds vectors of another space: {space.explain(embedder.space)}")
            exchange = index.exchange(taken, kept)
            if (problem := exchange.problem()) is not None:
                raise StoreUnsuitable(problem)
            new = store.open(space)
            report.total = index.opened.count()
            if taken == RECUT or index.followed:
                if index.followed:
                    exchange.run(index.opened, new, lambda *_: None)
                else:
                    new.build_indexes()
                    _exchange_same(index.opened, new, exchange, store)
                report.complete = True
                return report
            exchange.share()  # the run that created it may have been killed just before
            filling = index.filling(new, embedder, told, Pace(None), exchange, store=store)
            with exchange.noting():
                filling.run()
                _refuse_rejected(report)
                new.build_indexes()
                filling.run()  # what was written while they were built
                _refuse_rejected(report)
                _refuse_slow(filling, report)
                report.stage = "switching"
                told.tell()
                exchange.run(index.opened, new, lambda *places: _catch_up(filling, places, report))
    return report


def _exchange_same(old: OpenStore, new: OpenStore, exchange: Exchange, store: VectorStore) -> None:
    """Exchange two places with the same records. Most of these are compared before writers have to wait."""
    compared = Recut(old, new)

    def refuse(*places: OpenStore) -> None:
        compared.use(*places)
        differing = [record_id for ids in compared.differing() for record_id in ids]
        if differing:
            raise StoreUnsuitable(
                f"{store} does not have the same records: {counted(len(differing), 'record')} in all, such as "
                f"{differing[0]!r}; ingest the source into both once more, and try again"
            )

    refuse(old, new)
    exchange.run(old, new, refuse)


def _catch_up(filling: Filling, places: tuple[OpenStore, OpenStore], report: ReembedReport) -> None:
    """Carry over what was written since, most of all while no one else can write."""
    filling.use(*places)
    filling.run()
    _refuse_rejected(report)
    if not report.complete:
        raise StoreUnavailable("others still write to the index; nothing was exchanged; try again")


def _refuse_slow(filling: Filling, report: ReembedReport) -> None:
    """Raise StoreUnavailable if writers, who would have to wait for the rest, write more than can be carried over."""
    if not report.complete and filling.seconds > _BEHIND:
        raise StoreUnavailable(
            f"writers change the index faster than its changes are carried over: the last of {report.passes} passes "
            f"took {filling.seconds:.0f} s; nothing was exchanged; try again when less is written"
        )


def _refuse_rejected(report: ReembedReport) -> None:
    if report.rejected:
        record_id, reason = report.rejected[0]
        raise StoreUnsuitable(
            f"{counted(len(report.rejected), 'record')} cannot be encoded by the model, such as {record_id!r}, which "
            f"{reason}; nothing was exchanged; delete them, ingest them again, or let the encoder truncate long texts"
        )


def _refuse_missing(store: VectorStore, suffix: str) -> NoReturn:
    if suffix == RECUT:
        raise StoreMissing(
            f"there is no second space to switch to for {store}; fill it with recut(), or ingest its "
            f"source into the place whose name ends with {RECUT!r}"
        )
    if suffix == NEXT:
        raise StoreMissing(f"there is no second space to switch to for {store}; re-embed it first")
    raise StoreMissing(f"there is nothing to go back to for {store}: it was not switched, or the old space was dropped")
