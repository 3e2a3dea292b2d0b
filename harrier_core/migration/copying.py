"""`copy` and `plan`: their arguments, and the checks before anything is written."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Literal, cast, get_args

from harrier_core.errors import SettingError, StoreUnsuitable
from harrier_core.layout import Precision, StoreLayout
from harrier_core.migration.carrying import Carrying, Progress, Told
from harrier_core.migration.comparing import not_among
from harrier_core.migration.dumping import dump
from harrier_core.migration.dumps import Dump
from harrier_core.migration.files import check_place, file_of, is_file
from harrier_core.migration.planning import planned
from harrier_core.migration.report import CopyReport
from harrier_core.migration.sources import Source, StoreSource
from harrier_core.parts import store_of
from harrier_core.plurals import counted
from harrier_core.records import id_hash
from harrier_core.store import Followed, LaidOut, OpenStore, VectorStore

Place = VectorStore | str | Path
Extra = Literal["refuse", "remove", "keep"]

_SIZES = {"float16": 2, "float32": 4}  # bytes per number


def copy(
    source: Place,
    target: Place,
    *,
    extra: Extra = "refuse",
    build_indexes: bool = True,
    on_progress: Progress | None = None,
) -> CopyReport:
    """Make the target hold what the source holds: texts, metadata, vectors and hashes. No model is needed.

    source, target: a store, its URL as accepted by `open_store`, or a Parquet file, FILE.parquet. Chunks that the
    target already has are not written again, so an interrupted copy continues when it is repeated. A file is always
    rewritten, and put in place once it is complete. An ingest of the same records into the target encodes nothing.

    A new target gets the source's layout (precision, HNSW, indexes of fields, words) as far as both support it, unless
    the target's own settings or URL say otherwise. At the end, all hashes are compared, and a sample in full.

    extra: what to do with records that only the target has. By default, they are an error, raised before anything is
    written. build_indexes: at the end, build the indexes for searches. on_progress: called with the report so far.
    """
    _check(extra)
    told = Told(on_progress)
    with _opened_source(source, target) as (opened, name):
        told.report.total = opened.count()
        if is_file(target):
            dump(opened, *_file(target), told)
        else:
            with _store(target) as store:
                _into(opened, name, store, told, extra=extra, build_indexes=build_indexes)
    told.tell()
    return told.report


def plan(source: Place, target: Place, *, extra: Extra = "refuse") -> CopyReport:
    """Return the report that `copy` would give for these places. It writes nothing.

    `bytes` is an estimate from a sample of the texts.
    """
    _check(extra)
    told = Told(None)
    with _opened_source(source, target) as (opened, name):
        told.report.total = opened.count()
        if is_file(target):
            file, precision = _file(target)
            check_place(file, opened.space)
            planned(opened, None, told.report, _SIZES[precision or opened.layout.precision or "float32"])
        else:
            with _store(target) as store:
                _plan_into(opened, name, store, told.report, extra)
    told.tell()
    return told.report


# -- into a store


def _into(source: Source, name: str, store: VectorStore, told: Told, *, extra: Extra, build_indexes: bool) -> None:
    _refuse_followed(store)
    if isinstance(store, LaidOut):
        store.adopt(source.layout)
    target = store.open(source.space, create=True)
    empty = not target.count()
    if extra == "refuse" and not empty:
        _refuse_extras(source, name, store, target)
    report = told.report
    report.lost = _lost(source, store)
    carrying = Carrying(source, target, told, _itemsize(store))
    carrying.run(empty=empty)
    report.stage = "checking"
    if extra != "keep" and (report.rejected or target.count() != report.chunks):
        _settle_extras(name, carrying, report, extra)
    carrying.compare()
    if build_indexes:
        report.stage = "indexing"
        told.tell()
        target.build_indexes()


def _settle_extras(name: str, carrying: Carrying, report: CopyReport, extra: Extra) -> None:
    if extra == "remove":
        _refuse_nothing(report, name)
        carrying.remove(carrying.extras())
    else:
        problem = "is in the target but not, or no longer, in the source; copy again"
        report.problems += [(record_id, problem) for record_id in carrying.extras()]


def _plan_into(source: Source, name: str, store: VectorStore, report: CopyReport, extra: Extra) -> None:
    _refuse_followed(store)
    if isinstance(store, LaidOut):
        store.adopt(source.layout)
    target = None if store.space() is None else store.open(source.space)
    if extra == "refuse" and target is not None:
        _refuse_extras(source, name, store, target)
    report.lost = _lost(source, store)
    seen = planned(source, target, report, _itemsize(store))
    if extra == "remove" and target is not None:
        extras = not_among(seen, target.record_ids())
        while ids := list(islice(extras, 1_000)):
            _refuse_nothing(report, name)
            report.deleted += sum(map(len, target.known(ids).values()))


def _lost(source: Source, store: VectorStore) -> list[str]:
    return source.layout.lost_in(store.layout() if isinstance(store, LaidOut) else StoreLayout())


def _itemsize(store: VectorStore) -> int:
    return _SIZES[(store.layout().precision if isinstance(store, LaidOut) else None) or "float32"]


# -- what is refused


def _check(extra: str) -> None:
    if extra not in get_args(Extra):
        raise SettingError(f"extra must be one of {', '.join(get_args(Extra))}, got {extra!r}")


def _refuse_followed(store: VectorStore) -> None:
    what = store.follows() if isinstance(store, Followed) else None
    if what is not None:
        raise StoreUnsuitable(f"{store} is kept up to date by {what}, which would undo a copy; copy into another place")


def _refuse_extras(source: Source, name: str, store: VectorStore, target: OpenStore) -> None:
    seen = array("Q", map(id_hash, source.record_ids()))
    extras = not_among(seen, target.record_ids())
    if (first := next(extras, None)) is not None:
        number = 1 + sum(1 for _ in extras)
        raise StoreUnsuitable(
            f"{store} has {counted(number, 'record')} that {name} does not have, such as {first!r}; pass "
            "extra='remove' (--prune) to remove them, extra='keep' (--keep) to keep them"
        )


def _refuse_nothing(report: CopyReport, name: str) -> None:
    if not report.records:
        raise SettingError(
            f"there is no record in {name} at all: extra='remove' (--prune) would remove everything; if that is "
            "intended, use delete"
        )


# -- places


@contextmanager
def _opened_source(source: Place, target: Place) -> Iterator[tuple[Source, str]]:
    """Yield a source and its name. Raise SettingError if the target is the same place."""
    if is_file(source):
        file, _ = _file(source)
        if is_file(target):
            raise SettingError("source or target must be an index; copy a file with the system's tools")
        opened = Dump(file)
        opened.check()
        yield opened, str(file)
        return
    if source is target:
        raise SettingError("source and target must be two places, got one store twice")
    with _store(source) as store:
        if not is_file(target):
            with _store(target) as other:
                same = str(store) == str(other)
            if same:
                raise SettingError(f"source and target must be two places, got {store} twice")
        yield StoreSource(store), str(store)


@contextmanager
def _store(place: Place) -> Iterator[VectorStore]:
    """Yield a store. One that was given stays open."""
    store = store_of(place)
    try:
        yield store
    finally:
        if isinstance(place, str):
            store.close()


def _file(place: Place) -> tuple[Path, Precision | None]:
    return file_of(cast("str | Path", place))
