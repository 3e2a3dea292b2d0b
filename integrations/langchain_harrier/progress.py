"""Progress bars, by tqdm, which is installed with huggingface_hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from harrier_core.errors import positions_of_all
from harrier_core.extras import require
from harrier_core.progress import Progress, ProgressBar
from harrier_core.texts import listed

# Texts between two steps of a bar: many full passes on any device, and a few seconds of long texts on a CPU.
_WINDOW = 256


def _bar(total: int, unit: str) -> Any:
    """Return a progress bar. The environment variable HF_HUB_DISABLE_PROGRESS_BARS turns it off."""
    require("show_progress", "huggingface_hub")
    from huggingface_hub.utils import tqdm

    return tqdm(total=total, unit=unit)


@contextmanager
def windows_of(texts: Iterable[str]) -> Iterator[Iterator[list[str]]]:
    """Yield the texts in windows, with a bar that advances when the next window is requested.

    Positions in an error about one window are those among all texts.
    """
    given, begin = listed(texts), 0
    with _bar(len(given), " texts") as bar, positions_of_all(lambda position: begin + position):

        def windows() -> Iterator[list[str]]:
            nonlocal begin
            for begin in range(0, len(given), _WINDOW):
                window = given[begin : begin + _WINDOW]
                yield window
                bar.update(len(window))

        yield windows()


@contextmanager
def told(on_progress: Progress | None, *, show: bool, total: int | None) -> Iterator[Progress | None]:
    """Yield a function to call with each report of an ingest: it advances a bar, if one is shown."""
    if not show:
        yield on_progress
        return
    with ProgressBar(total, on_progress) as bar:
        yield bar
