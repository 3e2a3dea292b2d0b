"""The end of an ingest of many parts: merge their reports, prune, and build the indexes."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING

from harrier_core.errors import SettingError, WrongSpace
from harrier_core.pruning import Pruning
from harrier_core.pruning import prune as remove_unseen
from harrier_core.records import IngestReport, id_hash
from harrier_core.scaling.part import PartReport
from harrier_core.scaling.tally import Tally
from harrier_core.store import Dated

if TYPE_CHECKING:
    from harrier_core.index import Index
    from harrier_core.store import IngestStore

log = logging.getLogger(__name__)


def finish(
    index: Index,
    parts: Iterable[PartReport | None],
    *,
    prune: bool | Pruning = False,
    rows: int | None = None,
    build_indexes: bool = True,
) -> IngestReport:
    """Merge the reports of all parts of an ingest, remove records that occurred in none of them, and build indexes.

    parts: read as they arrive; None stands for a missing one. prune: as in `Index.ingest`; it is refused if a part is
    missing, or if the parts were not given exactly `rows` rows, the known number in the source. An id that occurred in
    two parts is reported as `repeated`, and as `differing` if its texts or metadata differ: it is then unknown which of
    them is stored, and each run encodes one of them again.
    """
    begin = perf_counter()
    space = index.encoder.space
    report, tally, given, missing = IngestReport(), Tally(), 0, 0
    nameless: list[str] = []
    for part in parts:
        if part is None:
            missing += 1
            continue
        if part.space is not None and part.space != space:
            raise WrongSpace(f"a part was encoded in another space: {space.explain(part.space)}; use one model for all")
        report = report + part.report
        given += part.rows
        nameless += part.nameless
        tally.add(part.ids, part.contents)
    store = index.store.open(space, create=True)
    report = _with_doubles(report, tally, store)
    if prune:
        _refuse_incomplete(missing, given, rows)
        pruning = Pruning() if prune is True else prune
        report.deleted += remove_unseen(store, pruning, tally.number, nameless, tally.unseen)
    if build_indexes:
        store.build_indexes()
    if (report.written or report.deleted) and isinstance(index.store, Dated):
        index.store.note_ingest(datetime.now(UTC))
    report = replace(report, seconds=report.seconds + perf_counter() - begin)
    log.info("ingest in parts: %s", report)
    return report


def _refuse_incomplete(missing: int, given: int, rows: int | None) -> None:
    if missing:
        raise SettingError(f"prune=True, but parts are missing, {missing} in all; nothing was removed: ingest them")
    if rows is not None and given != rows:
        raise SettingError(
            f"prune=True, but the parts were given {given:,} rows of {rows:,}; nothing was removed: ingest the others"
        )


def _with_doubles(report: IngestReport, tally: Tally, store: IngestStore) -> IngestReport:
    """Add the ids that occurred in several parts and are stored. Parts have reported their own repetitions."""
    doubles = tally.doubles()
    if not doubles:
        return report
    named = [(each, doubles[hash_]) for each in store.record_ids() if (hash_ := id_hash(each)) in doubles]
    repeated = [name for name, _ in named]
    return report + IngestReport(repeated=repeated, differing=[name for name, differs in named if differs])
