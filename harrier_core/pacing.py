"""The amount an ingest encodes before it writes: a second's work at any speed. Pure except for its clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from time import perf_counter

# The encoding time of a slice: a crash costs the slice under way. This is a few passes on a CPU, and many on a GPU.
SECONDS = 1.0
_FIRST = 8_000  # characters, before the speed is known: a second of the largest model on a slow CPU
_LEAST, _MOST = 2_000, 2_000_000
_KEPT = 0.5  # the weight of older slices after the time that a slice should take; several may end at once


class Pace:
    """Learns how many characters are encoded per second. Any thread may use it."""

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
        """Learn from a slice that was submitted at this time, by `perf_counter`, and has now been encoded."""
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
    """Yield positions of texts, in parts of at most the given total size each, or of one text if it is larger."""
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
