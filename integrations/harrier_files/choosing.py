"""The choice of files in a folder: what the user includes and excludes, hidden files, and other kinds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from harrier_core import SettingError
from harrier_core.extras import require

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

HIDDEN, EXCLUDED, NOT_INCLUDED, NO_SUFFIX = "hidden", "excluded", "not included", "without suffix"


@dataclass(slots=True)
class Choice:
    """Patterns of what to read, in the syntax of .gitignore, by paths within the source."""

    suffixes: frozenset[str] | None = None  # those of files that are read if no pattern applies; None for all
    include: Sequence[str] = ()  # if there are any, only matching files are read
    exclude: Sequence[str] = ()
    ignore: bool = True  # as .gitignore and .harrierignore say
    _include: GitIgnoreSpec | None = field(init=False)
    _exclude: GitIgnoreSpec | None = field(init=False)
    _dotted: tuple[str, ...] = field(init=False)  # parts of `include` that name hidden files or folders

    def __post_init__(self) -> None:
        self._include = _spec("include", self.include)
        self._exclude = _spec("exclude", self.exclude)
        parts = (part for each in self.include for part in each.split("/"))
        self._dotted = tuple(part for part in parts if part.startswith("."))

    def leaves_out(self, inside: str) -> str | None:
        """Return a word for the reason why a file is not read, or None if it is."""
        if self._is_hidden(inside):
            return HIDDEN
        if self._exclude and self._exclude.match_file(inside):
            return EXCLUDED
        if self._include:
            return None if self._include.match_file(inside) else NOT_INCLUDED
        return self.of_other_kind(PurePosixPath(inside).suffix.lower())

    def leaves_out_folder(self, inside: str) -> str | None:
        """Return a word for the reason why a folder is not searched, or None if it is."""
        if self._is_hidden(inside):
            return HIDDEN
        return EXCLUDED if self._exclude and self._exclude.match_file(f"{inside}/") else None

    def leaves_out_page(self, inside: str) -> str | None:
        """Return why a page is not read, as far as its URL shows; on the web, a leading dot does not hide anything."""
        if self._exclude and self._exclude.match_file(inside):
            return EXCLUDED
        return NOT_INCLUDED if self._include and not self._include.match_file(inside) else None

    def of_other_kind(self, suffix: str) -> str | None:
        """Return the suffix if files with it are not read."""
        return None if self.suffixes is None or suffix in self.suffixes else suffix or NO_SUFFIX

    def _is_hidden(self, inside: str) -> bool:
        """Return whether its name begins with a dot, unless a pattern's does too, as in shells."""
        name = PurePosixPath(inside).name
        return name.startswith(".") and not any(fnmatchcase(name, each) for each in self._dotted)


def _spec(option: str, patterns: Sequence[str]) -> GitIgnoreSpec | None:
    if not patterns:
        return None
    require(f"--{option}", "pathspec")
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(patterns)
    except (ValueError, re.error) as error:
        raise SettingError(f"--{option} must be a pattern as in .gitignore: {error}") from None
