"""The end of an ingest of many parts: their reports are merged, and what happens once happens."""

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
    """Merge what all parts of an ingest report, remove what none of them met, and build indexes.

    parts: read as they come; None stands for one that is missing. prune: as in `Index.ingest`; it is refused where a
    part is missing, or `rows`, which the source is known to have, are not as many as the parts were given. An id that
    came to two parts is in the report as one that occurred more than once, and in `differing` if texts or metadata
    came with it: which of them is stored is then not known, and each run encodes one of them again.
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
    """Name the ids that came to several parts, as far as they are stored; a part named those that came to it twice."""
    doubles = tally.doubles()
    if not doubles:
        return report
    named = [(each, doubles[hash_]) for each in store.record_ids() if (hash_ := id_hash(each)) in doubles]
    repeated = [name for name, _ in named]
    return report + IngestReport(repeated=repeated, differing=[name for name, differs in named if differs])
