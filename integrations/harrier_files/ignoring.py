"""The rules in `.gitignore` and `.harrierignore`, as git reads them."""

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
_MARK = "ps_d"  # the group of pathspec's regular expressions for the slash after a folder's name
_ALL_FOLDERS = re.compile(r"(?:/\*\*)+/ *$")  # all folders in a folder; pathspec would match that folder itself
_MOST = 1 << 20  # bytes of such a file; a larger one is not a list of patterns


@dataclass(frozen=True, slots=True)
class _Patterns:
    """The patterns of one file, which apply to its folder."""

    folder: str
    patterns: tuple[GitIgnoreSpecPattern, ...]  # in reverse order

    def say(self, path: str) -> bool | None:
        """Return whether a path is ignored, or None if no pattern matches. A folder's path must end in a slash."""
        inside = path[len(self.folder) :]
        return next((pattern.include for pattern in self.patterns if _matches(pattern, inside)), None)


@dataclass(frozen=True, slots=True)
class Rules:
    """The ignore rules of a folder, from its own files and those of the folders above it.

    The last matching pattern decides, and those of a deeper folder come last; `.harrierignore` takes precedence over
    `.gitignore`. The contents of an ignored folder cannot be included again: it is not searched.
    """

    own: tuple[_Patterns, ...] = ()
    git: tuple[_Patterns, ...] = ()

    @classmethod
    def above(cls, top: Path, folder: Path) -> Rules:
        """Return the rules that apply in a folder, without its own: from `top` or the repository's root on down.

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
        """Return the rules that apply in a subfolder of this folder. Raise OSError if they cannot be read."""
        own, git = _read(folder / OWN, folder), _read(folder / GIT, folder)
        return Rules(self.own + own, self.git + git) if own or git else self

    def ignore(self, path: Path, *, folder: bool = False) -> bool:
        """Return whether the item with this path in the folder is ignored."""
        if not self.own and not self.git:
            return False
        said = f"{path.as_posix()}/" if folder else path.as_posix()
        for patterns in (*reversed(self.own), *reversed(self.git)):
            if (ignored := patterns.say(said)) is not None:
                return ignored
        return False


def _matches(pattern: GitIgnoreSpecPattern, path: str) -> bool:
    """Return whether a pattern matches exactly this path.

    pathspec's patterns also match everything in a folder, at a marker after its name. Here folders are checked before
    their contents, and a folder that a later rule file includes again must not match once more.
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
    """Return the patterns of a file, if it exists; like git, follow no link here."""
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
        with suppress(ValueError, re.error):  # for a meaningless line, which git ignores
            patterns.append(GitIgnoreSpecPattern(_ALL_FOLDERS.sub("/**/*/", line)))
    return tuple(reversed(patterns))
