"""The files that PATHs name: where each belongs, and under which id it is a record.

A folder is a source, named after the folder, and its files are records NAME/path/in/it. A file that is named by itself
belongs to the folder that it is in, unless that is within a folder that is named as well. So an id depends on neither
how a path was spelled nor where the folder lies, and no two sources share one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

from harrier_core import SettingError

STANDARD_INPUT = "-"
_PIPED = "stdin"  # the source of what comes through standard input

LINK_TO_FOLDER = "is a link to a folder elsewhere; name that folder as a PATH of its own"
LINK_TO_FILE = "is a link to a file elsewhere; name that file as a PATH of its own"


@dataclass(frozen=True, slots=True)
class Origin:
    """What owns records: a source by its name, and what it is made from, if that has a place."""

    name: str
    root: str | None = None
    named: bool = False  # by the user: then it may lie anywhere, and records do not say where it was


@dataclass(frozen=True, slots=True)
class File:
    """A file to read."""

    origin: Origin
    inside: str  # its path within the source
    path: str

    @property
    def name(self) -> str:
        """The id of its record, or what the ids of its rows begin with."""
        return f"{self.origin.name}/{self.inside}"


@dataclass(frozen=True, slots=True)
class _Path:
    """A PATH: the folder that is its source, where that really is, and what of it is meant."""

    root: Path
    real: Path
    inside: str  # of the root; "" or "." is all of it
    folder: bool


@dataclass(slots=True)
class Walk:
    """The files of PATHs, and what is left out."""

    paths: Sequence[str]
    source: str | None = None  # the name of all of them
    suffixes: frozenset[str] | None = None  # of files in folders that are read; None for all
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # (folder, reason)
    links: list[tuple[str, str]] = field(default_factory=list)  # (link, why it is left out)
    left_out: int = 0  # files of other kinds, pipes and the like, and links
    unknown: list[str] = field(default_factory=list)  # what ids begin with of which nobody knows whether they are gone
    origins: list[Origin] = field(init=False)
    whole: set[str] = field(init=False)  # names of the sources of which all was named
    _paths: list[_Path] = field(init=False)
    _named: dict[Path, Origin] = field(init=False)

    def __post_init__(self) -> None:
        if self.source is not None and (not self.source.strip() or "/" in self.source or "\0" in self.source):
            raise SettingError(f"--source must be a name without slashes, got {self.source!r}")
        placed = [_placed(path) for path in dict.fromkeys(self.paths) if path != STANDARD_INPUT]
        folders = [each for each in placed if each.folder]
        self._paths = list(dict.fromkeys(_within(each, folders) for each in placed))
        roots = list(dict.fromkeys(each.root for each in self._paths))
        piped = STANDARD_INPUT in self.paths
        if self.source is not None and len(roots) + piped > 1:
            raise SettingError("--source names one folder, and there are several PATHs; ingest each by itself")
        self._named = {root: self._origin(root) for root in roots}
        self.origins = [*self._named.values(), *([Origin(self.source or _PIPED)] if piped else [])]
        _refuse_equal_names(self.origins)
        alone = {self._named[each.root].name for each in self._paths if not each.folder}
        self.whole = {each.name for each in self.origins} - alone
        self.whole |= {self._named[each.root].name for each in self._paths if each.folder}

    def _origin(self, root: Path) -> Origin:
        if self.source is not None:
            return Origin(self.source, str(root), named=True)
        if not root.name:
            raise SettingError(f"{root} has no name for a source; give it one with --source NAME")
        return Origin(root.name, str(root))

    @property
    def alone(self) -> list[File]:
        """The files that were named by themselves, of sources of which nothing else was."""
        named = [(self._named[path.root], path) for path in self._paths if not path.folder]
        return [
            File(origin, path.inside, str(path.real / path.inside))
            for origin, path in named
            if origin.name not in self.whole
        ]

    def __iter__(self) -> Iterator[File]:
        seen: set[Path] = set()  # of files that are named, and in a folder that is named, too
        for path in self._paths:
            origin = self._named[path.root]
            if path.folder:
                yield from self._folder(origin, path, seen)
            elif (file := path.real / path.inside) not in seen:
                seen.add(file)
                yield File(origin, path.inside, str(file))
        if STANDARD_INPUT in self.paths:
            yield File(self.origins[-1], STANDARD_INPUT, STANDARD_INPUT)

    def _folder(self, origin: Origin, path: _Path, seen: set[Path]) -> Iterator[File]:
        top = path.real

        def no_folder(error: OSError) -> None:
            self.unreadable.append((str(error.filename), f"cannot be read: {error.strerror}"))
            self.unknown.append("/".join([origin.name, *Path(error.filename).relative_to(top).parts, ""]))

        for folder, folders, files in os.walk(top / path.inside, onerror=no_folder):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            for each in folders:  # of which os.walk follows no links
                self._link(origin, top, Path(folder, each))
            for each in sorted(each for each in files if not each.startswith(".")):
                file = Path(folder, each)
                if self._read(origin, top, file) and file not in seen:
                    seen.add(file)
                    yield File(origin, file.relative_to(top).as_posix(), str(file))

    def _read(self, origin: Origin, top: Path, file: Path) -> bool:
        """Whether a file of a folder is read. A pipe might never end; a broken link is told of by who opens it."""
        if _special(file) or not (self.suffixes is None or file.suffix.lower() in self.suffixes):
            self.left_out += 1
            return False
        if file.is_symlink() and not self._is_named(_target(file)):
            self.links.append((f"{origin.name}/{file.relative_to(top).as_posix()}", LINK_TO_FILE))
            self.left_out += 1
            return False
        return True

    def _link(self, origin: Origin, top: Path, folder: Path) -> None:
        """What a link elsewhere leads to is not read, and may be stored; within the folders it is read anyway."""
        if folder.is_symlink() and not self._is_named(_target(folder)):
            name = f"{origin.name}/{folder.relative_to(top).as_posix()}"
            self.links.append((name, LINK_TO_FOLDER))
            self.unknown.append(f"{name}/")
            self.left_out += 1

    def _is_named(self, target: Path) -> bool:
        """Whether a file or folder is one of the PATHs, or in one of them and not hidden there."""
        for path in self._paths:
            named = _target(path.real / path.inside)
            if target == named:
                return True
            if path.folder and target.is_relative_to(named):
                return not any(each.startswith(".") for each in target.relative_to(named).parts)
        return False


def _placed(path: str) -> _Path:
    folder = Path(path).is_dir()
    root = _located(path if folder else Path(path).parent)
    return _Path(root, root.resolve(), "" if folder else Path(path).name, folder)


def _located(path: str | Path) -> Path:
    """Where a folder is, whatever links lead there; if it is a link itself, its name is the link's."""
    if Path(path).name in ("", ".."):
        return Path(path).resolve()
    return Path(path).parent.resolve() / Path(path).name


def _within(path: _Path, folders: Sequence[_Path]) -> _Path:
    """The same as a part of the largest of the folders that it is in."""
    whole = path.real / path.inside
    around = min(
        (each for each in folders if whole.is_relative_to(each.real)),
        key=lambda each: len(each.real.parts),
        default=path,
    )
    inside = whole.relative_to(around.real).as_posix()
    return _Path(around.root, around.real, "" if inside == "." else inside, path.folder)


def _refuse_equal_names(origins: Sequence[Origin]) -> None:
    first: dict[str, Origin] = {}
    for origin in origins:
        if origin.name in first:
            raise SettingError(
                f"{first[origin.name].root} and {origin.root or 'standard input'} would both be the source "
                f"{origin.name!r}; ingest one of them by itself, with --source NAME"
            )
        first[origin.name] = origin


def _target(link: Path) -> Path:
    """Where a link leads to; `Path.resolve` raises for one that leads to itself, before Python 3.13."""
    return Path(os.path.realpath(link))


def _special(file: Path) -> bool:
    try:
        return not S_ISREG(file.stat().st_mode)
    except OSError:
        return False
