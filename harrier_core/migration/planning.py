"""Plan a copy."""

from __future__ import annotations

from array import array

from harrier_core.migration.comparing import Sample
from harrier_core.migration.report import CopyReport
from harrier_core.migration.sources import Source
from harrier_core.records import id_hash
from harrier_core.store import OpenStore


def planned(source: Source, target: OpenStore | None, report: CopyReport, itemsize: int) -> array[int]:
    """Count what a copy would write, and return the id hashes of all records of the source.

    target: None if it does not exist yet. itemsize: bytes per number of the target's vectors.
    """
    seen, sample = array("Q"), Sample()
    for window in source.windows():
        seen.extend(map(id_hash, window.hashes))
        known = {} if target is None else target.known(list(window.hashes))
        differing = {id_: own for id_, own in window.hashes.items() if known.get(id_) != own}
        report.records += len(window.hashes)
        report.chunks += window.chunks
        for record_id, own in window.hashes.items():
            there = known.get(record_id, {})
            if record_id in differing:
                report.copied += sum(there.get(number) != hash_ for number, hash_ in own.items())
                report.deleted += len(there.keys() - own.keys())
        sample.see(differing)
    report.unchanged = report.chunks - report.copied
    texts = [len(each.chunk.text.encode()) for each in source.chosen(sample.keys).values()]
    mean = sum(texts) / len(texts) if texts else 0.0
    report.bytes = round(report.copied * (mean + itemsize * source.space.dimensions))
    return seen
