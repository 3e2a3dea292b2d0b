"""The batch size of a table, and the number of rows embedded per second."""

from __future__ import annotations

import threading
from collections import deque

# The duration of a batch: it gets as many rows as take about this long, so that leases and waits are short.
_FIRST_BATCH, _LARGEST_BATCH = 64, 1_000
_SHORT, _LONG = 0.5, 2.0
_RATED = 60.0  # seconds over which a rate is measured


class Throughput:
    """Measures speed from the batches of one table. Times are those of a monotonic clock."""

    def __init__(self, begin: float) -> None:
        self.batch_size = _FIRST_BATCH
        self._begin = begin
        self._finished: deque[tuple[float, int]] = deque()  # when, and how many rows
        self._lock = threading.Lock()

    def note(self, leased: int, finished: int, seconds: float, now: float) -> None:
        """Record how many rows a batch had, how many of them were finished, and how long it took."""
        with self._lock:
            self._finished.append((now, finished))
            if seconds > _LONG:
                self.batch_size = max(1, self.batch_size // 2)
            elif seconds < _SHORT and leased >= self.batch_size:
                self.batch_size = min(2 * self.batch_size, _LARGEST_BATCH)

    def rate(self, now: float) -> float:
        """Return the rows per second over the last minute."""
        with self._lock:
            while self._finished and self._finished[0][0] < now - _RATED:
                self._finished.popleft()
            return sum(number for _, number in self._finished) / min(_RATED, max(1.0, now - self._begin))
