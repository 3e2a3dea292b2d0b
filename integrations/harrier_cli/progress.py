"""Progress of a command: a bar on a terminal, and otherwise a line every ten seconds; what a command waits for."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from harrier_cli.output import tell
from harrier_cli.volume import is_quiet
from harrier_core import IngestReport
from harrier_core.progress import Pulse

if TYPE_CHECKING:
    from rich.progress import Progress

_AFTER = 1.0  # seconds: shorter work needs neither a bar nor a word
_EVERY = 10.0  # seconds between two lines in a log


class Bar:
    """The progress of `what`, on standard error: shown from the first second on, or reported every ten."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told = time.monotonic()
        self._progress: Progress | None = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not is_quiet():
            self._begin()
        return self

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        bar = BarColumn(bar_width=10)  # everything fits into 80 columns
        columns = TextColumn("{task.description}"), bar, TextColumn("{task.fields[said]}", markup=False)
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._progress.add_task(self._what, total=None, said="")
        self._timer = threading.Timer(_AFTER, self._progress.start)
        self._timer.daemon = True
        self._timer.start()

    def advance(self, share: float | None, said: str) -> None:
        """Show what share of the work is done, if that is known, with a description."""
        percent = "" if share is None else f"{100 * share:.0f} %, "
        if self._progress is not None:
            task = self._progress.task_ids[0]
            self._progress.update(
                task, total=None if share is None else 1.0, completed=share or 0.0, said=percent + said
            )
        elif time.monotonic() - self._told >= _EVERY:
            self._told = time.monotonic()
            tell(f"{self._what}: {percent}{said}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None and self._progress is not None:
            self._timer.cancel()
            self._timer.join()
            self._progress.stop()


@contextmanager
def waiting(what: str, *, silent: bool = False) -> Iterator[None]:
    """Print what a command is waiting for on a terminal's standard error, unless it is over within a second."""
    if silent or is_quiet() or not sys.stderr.isatty():
        yield
        return
    timer = threading.Timer(_AFTER, tell, [f"{what} ..."])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class IngestBar(Bar):
    """The bar of an ingest, moved by its reports."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self._pulse = Pulse()

    def follow(self, report: IngestReport, read: float | None) -> None:
        """Show a report. read: the share of the source that has been read, if known."""
        self._pulse.follow(report, read)
        left = self._pulse.seconds_left
        said = str(self._pulse)
        self.advance(self._pulse.share, said if left is None else f"{said}, {duration(left)} left")


class CountBar(Bar):
    """The bar of a command that counts items, whose total is known."""

    def __init__(self, what: str, unit: str, total: int | None = None) -> None:
        super().__init__(what)
        self._unit = unit
        self._total = total
        self._begun = time.monotonic()

    def count(self, number: int) -> None:
        """Show that the given number is done."""
        rate = number / max(time.monotonic() - self._begun, 1e-9)
        of = "" if self._total is None else f" of {self._total:,}"
        said = f"{number:,}{of} {self._unit}, {rate:,.0f}/s"
        if self._total and number:
            said += f", {duration((self._total - number) / max(rate, 1e-9))} left"
        self.advance(number / self._total if self._total else None, said)


def duration(seconds: float) -> str:
    """Return a time in readable form: 40 s, 12 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
