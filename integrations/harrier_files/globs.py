"""PATHs with a `*`, which a shell does not expand in quotes or within a URL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path

from harrier_core import SettingError
from harrier_files.files import STANDARD_INPUT
from harrier_files.objects import as_os_error, opened
from harrier_files.walk import is_stored, is_url


def expanded(paths: Iterable[str]) -> list[str]:
    """Return the paths, with each pattern replaced by the files that it matches; one without matches stays."""
    return [each for path in paths for each in _expanded(path)]


def _expanded(path: str) -> Iterator[str]:
    found: list[str] = []
    if "*" in path and path != STANDARD_INPUT:
        if is_stored(path) and "::" not in path:
            system, pattern = opened(path)
            head, fits, _ = path.rpartition(pattern)  # scheme, user and host, which a file system leaves out
            if not fits:
                raise SettingError("a pattern must be at the end of a URL, in its path; use --include")
            try:
                found = [f"{head}{each}" for each in sorted(system.glob(pattern))]
            except Exception as error:  # each package has its own
                raise SettingError(f"a pattern of a URL cannot be listed: {as_os_error(error).strerror}") from None
        elif not is_url(path) and not Path(path).exists():
            found = sorted(glob(path, recursive=True))  # noqa: PTH207  # Path's takes no absolute pattern before 3.13
    yield from found or [path]
