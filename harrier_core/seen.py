"""The record ids that occurred, in 8 bytes each: a hundred million of them take less than a gigabyte."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from harrier_core.records import id_hash

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RECENT = 50_000  # hashes that are kept in a set, of some 70 bytes each, until they are sorted
_AT_ONCE = 10_000  # ids that are looked up at once
_TIMES = 4  # a sorted run is merged with the one before it unless that is this many times as long, so runs stay few


class Seen:
    """A set of record ids, by their hashes. One thread uses it."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._runs: list[array[int]] = []  # sorted; to look up a single hash, bisect is faster than numpy

    def __contains__(self, hash_: int) -> bool:
        return hash_ in self._recent or any(_has(run, hash_) for run in self._runs)

    def __len__(self) -> int:
        return len(self._recent) + sum(map(len, self._runs))

    def __iter__(self) -> Iterator[int]:
        yield from self._recent
        for run in self._runs:
            yield from run

    def add(self, hash_: int) -> None:
        """Add the hash of an id, unless it is there."""
        if hash_ not in self:
            self._recent.add(hash_)

    def discard(self, hash_: int) -> None:
        """Remove a hash that was added since the last `settle`."""
        self._recent.discard(hash_)

    def settle(self) -> None:
        """Sort what was added, once there is much of it."""
        if len(self._recent) >= _RECENT:
            self._sort()

    def unseen(self, record_ids: Iterable[str]) -> list[str]:
        """Return those of these ids that did not occur."""
        import numpy as np

        self._sort()
        return unseen(record_ids, [np.frombuffer(run, np.uint64) for run in self._runs])

    def _sort(self) -> None:
        import numpy as np

        run = array("Q", self._recent)
        self._recent = set()
        while self._runs and len(self._runs[-1]) < _TIMES * len(run):
            run, shorter = self._runs.pop(), run
            run.extend(shorter)
        if run:
            np.frombuffer(run, np.uint64).sort()
            self._runs.append(run)


def unseen(record_ids: Iterable[str], runs: Sequence[NDArray[np.uint64]]) -> list[str]:
    """Return the ids whose hashes are in none of these sorted arrays."""
    import numpy as np

    ids, left = iter(record_ids), []
    while portion := list(islice(ids, _AT_ONCE)):
        asked = np.array([id_hash(each) for each in portion], np.uint64)
        there = np.zeros(len(asked), np.bool_)
        for run in runs:
            there |= run[np.minimum(run.searchsorted(asked), len(run) - 1)] == asked
        left += [portion[at] for at in np.flatnonzero(~there)]
    return left


def _has(run: array[int], hash_: int) -> bool:
    at = bisect_left(run, hash_)
    return at < len(run) and run[at] == hash_
