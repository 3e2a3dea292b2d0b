"""The files of local PATHs: which source each belongs to, and under which id it is a record.

A folder is a source, named after the folder, and its files are records NAME/path/in/it. A file that is named
individually belongs to the folder that it is in, unless that is within a folder that is named as well. So an id depends
neither on how a path was spelled nor on where the folder is, and no two sources share one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

from harrier_core import SettingError
from harrier_files.choosing import Choice
from harrier_files.files import Account, File, LocalFile, Origin
from harrier_files.ignoring import Rules

LINK_TO_FOLDER = "is a link to a folder elsewhere; pass that folder as a separate PATH, or add --links follow"
LINK_TO_FILE = "is a link to a file elsewhere; pass that file as a separate PATH, or add --links follow"
LINK_TO_NOTHING = "is a broken link"
IGNORED, SPECIAL, LINKS = "ignored", "special", "links"


@dataclass(frozen=True, slots=True)
class _Path:
    """A PATH: the folder that is its source, the real location of that, and the part that is meant."""

    root: Path
    real: Path
    inside: str  # relative to the root; "" or "." is all of it
    folder: bool


@dataclass(slots=True)
class Folders:
    """The files of PATHs."""

    paths: Sequence[str]
    source: str | None  # the name of all of them
    choice: Choice
    account: Account
    follow: bool = False  # links to files and folders elsewhere
    origins: list[Origin] = field(init=False)
    _paths: list[_Path] = field(init=False)
    _named: dict[Path, Origin] = field(init=False)

    def __post_init__(self) -> None:
        placed = [_placed(path) for path in dict.fromkeys(self.paths)]
        folders = [each for each in placed if each.folder]
        self._paths = list(dict.fromkeys(_within(each, folders) for each in placed))
        self._named = {root: self._origin(root) for root in dict.fromkeys(each.root for each in self._paths)}
        self.origins = list(self._named.values())

    def _origin(self, root: Path) -> Origin:
        if self.source is not None:
            return Origin(self.source, str(root), named=True)
        if not root.name:
            raise SettingError(f"{root} has no name for a source; give it one with --source NAME")
        return Origin(root.name, str(root))

    @property
    def whole(self) -> set[str]:
        """The names of the sources whose folders were named as a whole."""
        return {self._named[each.root].name for each in self._paths if each.folder}

    @property
    def alone(self) -> list[File]:
        """The files that were named individually, from sources that were not named as a whole."""
        named = [(self._named[path.root], path) for path in self._paths if not path.folder]
        return [_file(origin, path.real, path.inside) for origin, path in named if origin.name not in self.whole]

    def __iter__(self) -> Iterator[File]:
        seen: set[Path] = set()  # files that are named and also in a named folder; folders behind links
        for path in self._paths:
            origin = self._named[path.root]
            if path.folder:
                yield from _Folder(self, origin, path, seen)
            elif (file := path.real / path.inside) not in seen:
                seen.add(file)
                yield _file(origin, path.real, path.inside)

    def are_to_be_read(self, target: Path) -> bool:
        """Return whether a file or folder is one of the PATHs, or in one of them and not hidden there."""
        for path in self._paths:
            named = _target(path.real / path.inside)
            if target == named:
                return True
            if path.folder and target.is_relative_to(named):
                return not any(each.startswith(".") for each in target.relative_to(named).parts)
        return False


@dataclass(slots=True)
class _Folder:
    """The files of one named folder."""

    folders: Folders
    origin: Origin
    path: _Path
    seen: set[Path]

    def __iter__(self) -> Iterator[File]:
        start = self.path.real / self.path.inside
        try:
            rules = Rules.above(self.path.real, start) if self.folders.choice.ignore else Rules()
        except OSError as error:
            self._unreadable(start, error)
            return
        yield from self._files(start, rules)

    def _files(self, folder: Path, rules: Rules) -> Iterator[File]:
        """Yield the files in a folder, and then those of its subfolders, without recursion: paths may be deep."""
        waiting = [(folder, rules)]
        while waiting:
            folder, rules = waiting.pop()
            try:
                if self.folders.choice.ignore:
                    rules = rules.within(folder)
                with os.scandir(folder) as entries:
                    names = sorted((each.name, _is_folder(each)) for each in entries)
            except OSError as error:
                self._unreadable(folder, error)
                continue
            for name, is_folder in names:
                if not is_folder and self._is_wanted(file := folder / name, rules) and file not in self.seen:
                    self.seen.add(file)
                    yield _file(self.origin, self.path.real, self._inside(file))
            inner = [folder / name for name, is_folder in names if is_folder]
            waiting += [(each, rules) for each in reversed(inner) if self._is_entered(each, rules)]

    def _is_wanted(self, file: Path, rules: Rules) -> bool:
        """Return whether a file is read. A pipe might never end; a broken link is reported when it is opened."""
        left_out = self.folders.choice.leaves_out(self._inside(file))
        if left_out is None and rules.ignore(file):
            left_out = IGNORED
        elif left_out is None and _special(file):
            left_out = SPECIAL
        if file.is_symlink():
            if self.folders.follow:
                self._look_behind(file, wanted=left_out is None)
            elif left_out is None and not self.folders.are_to_be_read(_target(file)):
                left_out = self._link(file, LINK_TO_FILE)
        if left_out is not None:
            self.folders.account.left_out[left_out] += 1
        return left_out is None

    def _is_entered(self, folder: Path, rules: Rules) -> bool:
        """Return whether a folder is searched."""
        left_out = self.folders.choice.leaves_out_folder(self._inside(folder))
        if left_out is None and rules.ignore(folder, folder=True):
            left_out = IGNORED
        target = _target(folder)
        if left_out is None and folder.is_symlink():
            if self.folders.are_to_be_read(target):
                return False  # it is read at its own location
            if not self.folders.follow:
                left_out = self._link(folder, LINK_TO_FOLDER)
        if left_out is not None:
            self.folders.account.left_out[left_out] += 1
        elif self.folders.follow:  # then the same folder may be reached in several ways, or contain itself
            known = len(self.seen)
            self.seen.add(target)
            return len(self.seen) > known
        return left_out is None

    def _link(self, link: Path, reason: str) -> str:
        self.folders.account.links.append((self._name(link), reason))
        return LINKS

    def _look_behind(self, link: Path, *, wanted: bool) -> None:
        """Check a followed link that leads nowhere: it is unknown whether it led to a folder, and to which files."""
        if not link.exists():
            self.folders.account.unknown.append(f"{self._name(link)}/")
            if not wanted:  # otherwise opening it reports that
                self.folders.account.links.append((self._name(link), LINK_TO_NOTHING))

    def _unreadable(self, folder: Path, error: OSError) -> None:
        """Record a folder that cannot be listed, or whose ignore rules cannot be read: its files are unknown."""
        where = Path(str(error.filename)) if error.filename else folder
        self.folders.account.unreadable.append((str(where), f"cannot be read: {error.strerror}"))
        inside = self._inside(folder)
        self.folders.account.unknown.append(self.origin.prefix if inside == "." else f"{self.origin.prefix}{inside}/")

    def _inside(self, path: Path) -> str:
        return path.relative_to(self.path.real).as_posix()

    def _name(self, path: Path) -> str:
        return f"{self.origin.prefix}{self._inside(path)}"


def _file(origin: Origin, real: Path, inside: str) -> File:
    return LocalFile(origin, inside, str(real / inside))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()  # links to folders, too
    except OSError:  # a link to itself
        return False


def _placed(path: str) -> _Path:
    folder = Path(path).is_dir()
    root = _located(path if folder else Path(path).parent)
    return _Path(root, root.resolve(), "" if folder else Path(path).name, folder)


def _located(path: str | Path) -> Path:
    """Return where a folder is, with links resolved; if it is a link itself, its name is the link's."""
    if Path(path).name in ("", ".."):
        return Path(path).resolve()
    return Path(path).parent.resolve() / Path(path).name


def _within(path: _Path, folders: Sequence[_Path]) -> _Path:
    """Return a PATH as part of the outermost of the folders that it is in."""
    whole = path.real / path.inside
    around = min(
        (each for each in folders if whole.is_relative_to(each.real)),
        key=lambda each: len(each.real.parts),
        default=path,
    )
    inside = whole.relative_to(around.real).as_posix()
    return _Path(around.root, around.real, "" if inside == "." else inside, path.folder)


def _target(link: Path) -> Path:
    """Return where a link leads; `Path.resolve` raises for one that leads to itself, before Python 3.13."""
    return Path(os.path.realpath(link))


def _special(file: Path) -> bool:
    try:
        return not S_ISREG(file.stat().st_mode)
    except OSError:
        return False
