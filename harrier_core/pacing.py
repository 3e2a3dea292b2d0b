"""How much an ingest encodes before it writes: seconds of work, however fast the model is. Pure but for its clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from time import perf_counter

# Of encoding, in a slice: what a crash costs is the slice under way. A few passes on a CPU, and many on a GPU.
SECONDS = 1.0
_FIRST = 8_000  # characters, before anything is known: a second of the largest model on a slow CPU
_LEAST, _MOST = 2_000, 2_000_000
_KEPT = 0.5  # of what older slices say, after as long as a slice should take; several may end at once


class Pace:
    """Learns how many characters are encoded in a second. Any thread may use it."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._done: float | None = None  # when the last slice was; the first one waits for the model to load
        self._sizes = self._times = 0.0

    @property
    def most(self) -> int:
        """How many characters a slice should have."""
        with self._lock:
            if not self._times:
                return _FIRST
            return round(min(max(self._sizes / self._times * self._seconds, _LEAST), _MOST))

    def encoded(self, characters: int, begun: float) -> None:
        """Learn from a slice that was submitted at this time, by `perf_counter`, and is encoded now."""
        now = perf_counter()
        with self._lock:
            before, self._done = self._done, now
            if before is None or not characters:
                return
            took = max(now - max(begun, before), 1e-6)
            kept = _KEPT ** (took / self._seconds)
            self._sizes = kept * self._sizes + characters
            self._times = kept * self._times + took


def parts(sizes: Sequence[int], most: int) -> Iterator[list[int]]:
    """Yield the positions of texts of these sizes, up to so much in all at a time, or one that is larger."""
    part: list[int] = []
    size = 0
    for position, each in enumerate(sizes):
        if part and size + each > most:
            yield part
            part, size = [], 0
        part.append(position)
        size += each
    if part:
        yield part
