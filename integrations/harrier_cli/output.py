"""What is shown: results on standard output, as text or as JSON; progress on standard error, where somebody watches."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

_AFTER = 1.0  # seconds: what is done by then needs no bar
_LISTED = 100  # lines of what was rejected; --json has them all


def say(text: str) -> None:
    """A line of a result."""
    typer.echo(text)


def say_json(value: object) -> None:
    """A result as one line of JSON, in ASCII, which every terminal takes, and which can tell of half a character."""
    typer.echo(json.dumps(value))


def tell(text: str) -> None:
    """A line that is no result."""
    typer.echo(text, err=True)


def tell_each(what: str, pairs: list[tuple[str, str]]) -> None:
    """A line for each thing that was rejected, and why."""
    for name, reason in pairs[:_LISTED]:
        tell(f"{what}: {shown(name)}: {shown(reason)}")
    if len(pairs) > _LISTED:
        tell(f"{what}: {len(pairs) - _LISTED:,} more; --json lists all of them")


def shown(text: str) -> str:
    """A text in one line, without what a terminal would obey."""
    return "".join(each if each.isprintable() else " " for each in text)


def shortened(text: str, indent: int) -> str:
    """As much of a text as a line of the terminal holds."""
    room = max(20, shutil.get_terminal_size().columns - indent)
    line = " ".join(shown(text).split())
    return line if len(line) <= room else f"{line[: room - 1]}…"


class Bar:
    """A progress bar with rate and time left, after a second, and only if standard error is a terminal."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what = what
        self._total = total
        self._begin = time.monotonic()
        self._progress: Progress | None = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
            said = TextColumn("{task.fields[said]}", markup=False)
            self._progress = Progress(*columns, said, console=Console(stderr=True), transient=True)
            self._progress.add_task(self._what, total=self._total, said="")
            self._timer = threading.Timer(_AFTER, self._progress.start)
            self._timer.daemon = True
            self._timer.start()
        return self

    def advance(self, completed: int, count: int, unit: str) -> None:
        """So much of the total is done, which are so many of these."""
        if self._progress is not None:
            rate = count / max(time.monotonic() - self._begin, 1e-9)
            said = f"{count:,} {unit}, {rate:,.0f} a second"
            fields: dict[str, Any] = {"said": said}
            self._progress.update(self._progress.task_ids[0], completed=completed, **fields)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None and self._progress is not None:
            self._timer.cancel()
            self._timer.join()
            self._progress.stop()
