"""What `.gitignore` and `.harrierignore` say, as git reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from harrier_core.extras import require

if TYPE_CHECKING:
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

OWN, GIT = ".harrierignore", ".gitignore"
_MARK = "ps_d"  # the group of pathspec's regular expressions that matches the slash after a folder's name
_MOST = 1 << 20  # bytes of such a file; more is no list of patterns


@dataclass(frozen=True, slots=True)
class _Patterns:
    """The patterns of one file, for what is in its folder."""

    folder: str
    patterns: tuple[GitIgnoreSpecPattern, ...]  # the last one first

    def say(self, path: str) -> bool | None:
        """Return whether a path is ignored, or None if no pattern matches. A folder's path ends in a slash."""
        inside = path[len(self.folder) :]
        return next((pattern.include for pattern in self.patterns if _matches(pattern, inside)), None)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a folder ignores, by its own files and those of the folders above it.

    The last pattern that matches decides, and those of a deeper folder come last; `.harrierignore` counts more than
    `.gitignore`. What is in an ignored folder cannot be named again: nobody looks into it.
    """

    own: tuple[_Patterns, ...] = ()
    git: tuple[_Patterns, ...] = ()

    @classmethod
    def above(cls, top: Path, folder: Path) -> Rules:
        """Return those that hold in a folder, its own excepted: from `top` or the repository's own folder on down.

        Raise OSError if one of their files cannot be read.
        """
        repository = next((each for each in (top, *top.parents) if (each / ".git").exists()), None)
        rules = cls()
        if repository is not None:
            rules = cls(git=_read(repository / ".git" / "info" / "exclude", repository))
        first = repository or top
        for each in reversed([each for each in folder.parents if each.is_relative_to(first)]):
            rules = rules.within(each)
        return rules

    def within(self, folder: Path) -> Rules:
        """Return those that hold in a folder of the one that these are of. Raise OSError if they cannot be read."""
        own, git = _read(folder / OWN, folder), _read(folder / GIT, folder)
        return Rules(self.own + own, self.git + git) if own or git else self

    def ignore(self, path: Path, *, folder: bool = False) -> bool:
        """Return whether what is in the folder under this path is ignored."""
        if not self.own and not self.git:
            return False
        said = f"{path.as_posix()}/" if folder else path.as_posix()
        for patterns in (*reversed(self.own), *reversed(self.git)):
            if (ignored := patterns.say(said)) is not None:
                return ignored
        return False


def _matches(pattern: GitIgnoreSpecPattern, path: str) -> bool:
    """Return whether a pattern is of this very path.

    pathspec's also match all that is in a folder, at the mark that they have after its name. Here folders are asked
    about before what is in them, and one that was named again by a later file of rules must not be matched again.
    """
    regex = pattern.regex
    if regex is None:  # a comment
        return False
    if _MARK not in regex.groupindex:  # all files, or all in a folder
        return regex.search(path.removesuffix("/")) is not None
    if regex.pattern == f"(?P<{_MARK}>/)":  # all folders
        return path.endswith("/")
    return regex.fullmatch(path) is not None


def _read(file: Path, folder: Path) -> tuple[_Patterns, ...]:
    """Return the patterns of a file, if it is there; git follows no link here either."""
    try:
        found = file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    if not S_ISREG(found.st_mode):
        return ()
    with file.open("rb") as content:
        lines = content.read(_MOST).removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape").split("\n")
    base = folder.as_posix()
    patterns = _patterns(file, lines)
    return (_Patterns(base if base.endswith("/") else f"{base}/", patterns),) if patterns else ()


def _patterns(file: Path, lines: Iterable[str]) -> tuple[GitIgnoreSpecPattern, ...]:
    if not (lines := [line for line in lines if line.strip() and not line.startswith("#")]):
        return ()
    require(f"{os.fspath(file)} (or --no-ignore)", "pathspec")
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    patterns = []
    for line in lines:
        with suppress(ValueError, re.error):  # of a line that means nothing, which git passes over
            patterns.append(GitIgnoreSpecPattern(line))
    return tuple(reversed(patterns))
