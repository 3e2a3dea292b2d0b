"""Check a copy: find records that only one side has, and compare a sample in full."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np

from harrier_core.migration.report import CopyReport
from harrier_core.migration.sources import Key
from harrier_core.records import id_hash
from harrier_core.store import Hashes, IngestStore, Stored

_SAMPLE = 100  # chunks that are compared in full
_IDS = 1_000  # looked up at once
_COMPARED = 100  # records whose hashes are compared at once
# A vector and its copy in half precision, or one that a database normalized, have a far higher cosine.
_LEAST_COSINE = 0.999


class Sample:
    """A random sample of records, with one chunk of each. All records are equally likely."""

    def __init__(self) -> None:
        self._chance = random.Random(0)  # noqa: S311  # the same sample for the same source
        self._seen = 0
        self.keys: list[Key] = []

    def see(self, hashes: Mapping[str, Hashes]) -> None:
        """Consider more records for the sample."""
        for record_id, own in hashes.items():
            self._seen += 1
            at = len(self.keys) if len(self.keys) < _SAMPLE else self._chance.randrange(self._seen)
            if at < _SAMPLE and own:
                self.keys[at : at + 1] = [(record_id, self._chance.choice(list(own)))]


def not_among(seen: array[int], record_ids: Iterator[str]) -> Iterator[str]:
    """Yield the ids whose hashes are not among those seen."""
    known = np.sort(np.frombuffer(seen, np.uint64)) if seen else np.empty(0, np.uint64)
    while batch := list(islice(record_ids, _IDS)):
        hashes = np.fromiter(map(id_hash, batch), np.uint64, len(batch))
        places = np.searchsorted(known, hashes).clip(max=max(0, len(known) - 1))
        there = known[places] == hashes if len(known) else np.zeros(len(batch), bool)
        yield from (batch[at] for at in np.flatnonzero(~there).tolist())


def differing(one: IngestStore, other: IngestStore) -> Iterator[list[str]]:
    """Yield the ids of the records whose chunks differ between two stores, by their hashes, some at a time."""
    seen = array("Q")
    ids = one.record_ids()
    while batch := list(islice(ids, _COMPARED)):
        seen.extend(map(id_hash, batch))
        own, theirs = one.known(batch), other.known(batch)
        if found := [record_id for record_id in batch if own.get(record_id) != theirs.get(record_id)]:
            yield found
    extras = not_among(seen, other.record_ids())
    while batch := list(islice(extras, _COMPARED)):
        yield batch


def compare(stored: Stored, copied: Stored | None, report: CopyReport) -> None:
    """Add to a report how a chunk and its copy differ. A chunk that was changed since is not compared."""
    record_id, number = stored.chunk.record_id, stored.chunk.number
    if copied is None:
        report.problems.append((record_id, f"lacks chunk {number} in the target; copy again"))
        return
    if copied.chunk.hash != stored.chunk.hash:
        return
    report.compared += 1
    if (copied.chunk.text, copied.chunk.metadata) != (stored.chunk.text, stored.chunk.metadata):
        report.problems.append((record_id, f"has a different text or metadata in the target (chunk {number})"))
    if np.array_equal(stored.vector, copied.vector):
        report.identical += 1
        return
    one, other = stored.vector.astype(np.float64), copied.vector.astype(np.float64)
    cosine = float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other))) if one.shape == other.shape else 0.0
    report.least_cosine = min(report.least_cosine, cosine)
    if not cosine >= _LEAST_COSINE:
        report.problems.append((record_id, f"has a different vector in the target, with a cosine of {cosine:.3f}"))
