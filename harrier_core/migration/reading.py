"""Read the records of a source that can be written: complete and valid ones."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from harrier_core.migration.sources import Window
from harrier_core.records import text_hash
from harrier_core.retrying import Backoff
from harrier_core.store import Stored

_READS = 4  # tries to read a record whose chunks do not match, because it is being written to the source
_AGAIN = "ingest it again, and copy again"

Records = dict[str, list[Stored]]  # by their ids, each with its chunks in order


class Reader:
    """Reads windows. Any thread may use it."""

    def __init__(self, dimensions: int | None) -> None:
        """Take the length that vectors must have, or None if they are not checked."""
        self._dimensions = dimensions

    def read(self, window: Window, record_ids: Sequence[str]) -> tuple[Records, dict[str, str]]:
        """Return records of a window, and why others cannot be copied. Deleted records are in neither."""
        found: Records = {}
        torn, backoff = list(record_ids), Backoff(0.05, 1.0)
        for attempt in range(_READS):
            if attempt:  # a store without transactions may show a record while it is being replaced
                time.sleep(backoff.pause())
            read = _by_record(window, torn)
            found |= {each: own for each, own in read.items() if [*map(_number, own)] == [*range(len(own))]}
            torn = [each for each in read if each not in found]
            if not torn:
                break
        rejected = dict.fromkeys(torn, f"lacks some of its chunks in the source; {_AGAIN}")
        for record_id, own in found.items():
            if problem := self._damage(own):
                rejected[record_id] = f"has {problem} in the source; {_AGAIN}"
        return {each: own for each, own in found.items() if each not in rejected}, rejected

    def _damage(self, record: Sequence[Stored]) -> str | None:
        """Return what is wrong with a record, or None if it can be copied."""
        for each in record:
            if self._dimensions is not None:
                if each.vector.shape != (self._dimensions,):
                    return f"a vector of {each.vector.size} dimensions, not {self._dimensions},"
                if not np.isfinite(each.vector @ each.vector):
                    return "a vector that is not finite"
            if text_hash(each.chunk.text) != each.chunk.text_hash:
                return "a text that differs from the encoded one"
        return None


def _by_record(window: Window, record_ids: Sequence[str]) -> Mapping[str, list[Stored]]:
    read: Records = {}
    for stored in window.read(record_ids):
        read.setdefault(stored.chunk.record_id, []).append(stored)
    for own in read.values():
        own.sort(key=_number)
    return read


def _number(stored: Stored) -> int:
    return stored.chunk.number
