"""The progress and speed of an ingest, from its reports; and a progress bar for users of Python."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from time import monotonic
from typing import Any

from harrier_core.closing import Closing
from harrier_core.extras import require
from harrier_core.records import IngestReport

Progress = Callable[[IngestReport], None]

_LEAST_READ = 1e-4  # share of a source: less says nothing about the rest
_WINDOW = 30.0  # seconds over which the speed is measured


class Pulse:
    """Follows the reports of one ingest.

    A chunk is done when it is found unchanged, or encoded. The total number of chunks is estimated from the share of
    the source read so far, and exact once all of it was read.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._points: deque[tuple[float, float, int]] = deque([(clock(), 0.0, 0)])  # when: share done, tokens
        self.done = 0  # chunks
        self.planned = 0  # chunks of what has been read so far
        self.total: int | None = None  # the total number of chunks, as far as it is known
        self.share: float | None = None  # share of the work that is done

    def follow(self, report: IngestReport, read: float | None = None) -> None:
        """Take the next report. read: the share of the source that had been read by then, if known."""
        self.planned = max(self.planned, report.unchanged + report.written + report.pending)
        self.done = self.planned - report.pending
        if read is not None:
            read = min(max(read, 0.0), 1.0)
            done = self.done / self.planned if self.planned else 1.0
            self.share = read * done
            self.total = round(self.planned / read) if read > _LEAST_READ else None
        now = self._clock()
        self._points.append((now, self.share or 0.0, report.tokens))
        while len(self._points) > 2 and now - self._points[1][0] > _WINDOW:
            self._points.popleft()

    @property
    def tokens_a_second(self) -> float:
        """The recent encoding speed in tokens."""
        (begin, _, before), (end, _, after) = self._points[0], self._points[-1]
        return (after - before) / (end - begin) if end > begin else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The time that the rest takes at the recent speed, if it can be estimated."""
        (begin, before, _), (end, after, _) = self._points[0], self._points[-1]
        if self.share is None or after <= before:
            return None
        return (1.0 - after) * (end - begin) / (after - before)

    def __str__(self) -> str:
        chunks = f"{self.done:,} of {self.planned:,} chunks"
        if self.total is not None and self.share is not None and self.total > self.planned:
            chunks = f"{self.done:,} of ~{self.total:,} chunks"
        speed = self.tokens_a_second
        return f"{chunks}, {speed:,.0f} tokens/s" if speed else chunks


class ProgressBar(Closing):
    """A tqdm bar, in a terminal or a notebook, for the `on_progress` of an ingest. It is a context manager.

    The environment variable HF_HUB_DISABLE_PROGRESS_BARS turns it off.
    """

    def __init__(self, records: int | None = None, on_progress: Progress | None = None) -> None:
        """Show a bar. records: how many there will be, if known. on_progress: called as well."""
        require("a progress bar", "huggingface_hub")
        from huggingface_hub.utils import tqdm

        self._records = records
        self._on_progress = on_progress
        self._pulse = Pulse()
        self._bar: Any = tqdm(total=None, unit=" chunks")

    def __call__(self, report: IngestReport) -> None:
        """Show a report."""
        self._pulse.follow(report, report.records / self._records if self._records else None)
        self._bar.total = self._pulse.total or self._pulse.planned
        self._bar.set_postfix_str(f"{self._pulse.tokens_a_second:,.0f} tokens/s", refresh=False)
        self._bar.update(self._pulse.done - self._bar.n)
        if self._on_progress:
            self._on_progress(report)

    def close(self) -> None:
        """Close the bar, and leave it visible as it is."""
        self._bar.close()


@contextmanager
def shown(on_progress: Progress | bool | None, records: object) -> Iterator[Progress | None]:
    """Yield a function to call with reports: if `on_progress` is True, a bar for these records."""
    if on_progress is True:
        with ProgressBar(len(records) if isinstance(records, Sized) else None) as bar:
            yield bar
    else:
        yield on_progress or None
