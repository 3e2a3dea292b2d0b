"""`harrier ingest --ray`: the files of a source are read, encoded and written by the machines of a Ray cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from harrier_files.files import STANDARD_INPUT, LocalFile
from harrier_files.shares import Share, add_found, shares_of
from harrier_files.sources import Source

from harrier_core import Index, IngestReport, SettingError
from harrier_core.extras import require
from harrier_core.progress import Progress

_WEB = re.compile(r"https?://", re.IGNORECASE)
_OUT = "omit --ray, and use --workers on one machine"


def check_source(paths: Sequence[str], url: str | None, *, dry_run: bool) -> None:
    """Raise unless Ray is installed, and other machines can read what is to be ingested."""
    require("harrier ingest --ray", "ray")
    if url:
        raise SettingError(f"--ray reads files, but --from reads one cursor of a database; {_OUT}")
    if STANDARD_INPUT in paths:
        raise SettingError(f"standard input cannot be read by other machines; write it to a file, or {_OUT}")
    if any(_WEB.match(path) for path in paths):
        raise SettingError(f"web pages are read by one process, to spare their server; {_OUT}")
    if dry_run:
        raise SettingError("--dry-run counts in one process; omit --ray")


def check_index(index: Index) -> None:
    """Raise SettingError unless the machines of a cluster can open the index."""
    import harrier_ray

    harrier_ray.check_index(index)


def ingest(
    index: Index,
    source: Source,
    *,
    address: str | None,
    workers: int | None,
    prune: bool,
    on_progress: Progress,
) -> IngestReport:
    """Make the index hold the source's records as they are now, by the workers of a cluster."""
    import harrier_ray

    shares = shares_of(source)
    here = any(isinstance(each, Share) and isinstance(each.file, LocalFile) for each in shares)
    with harrier_ray.cluster(address, workers=workers):
        reading = harrier_ray.Reading(shares, here=here)
        pruning = source.pruning

        @cache
        def learn() -> None:
            add_found(source, reading.found())

        def gone(record_id: str, metadata: Mapping[str, Any]) -> bool:
            learn()  # by now all was read
            return source.gone(record_id, metadata)

        report: IngestReport = harrier_ray.ingest(
            reading.dataset,
            index,
            record=harrier_ray.record_of,
            workers=workers,
            prune=replace(pruning, gone=gone) if prune else False,
            on_progress=on_progress,
        )
        learn()
    return report
