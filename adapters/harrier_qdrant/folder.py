"""The folder of an embedded Qdrant: what is ours in it, whose it is, and who may read it.

FOLDER/NAME                   a collection
FOLDER/NAME/harrier_space.json  the space of its vectors
FOLDER/NAME/harrier_open      is there while a process has the collection open
FOLDER/NAME/edge              the engine's own folder
FOLDER/.harrier/NAME          its lock, and what there is of it before it is whole; it stays when the collection goes
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harrier_core.errors import SettingError, StoreError, StoreFull, StoreUnsuitable

SPACE, MARK, ENGINE, CONFIG, BESIDE = "harrier_space.json", "harrier_open", "edge", "edge_config.json", ".harrier"

# In the root of a disk of its own; it is nobody's document.
_OF_A_DISK = "lost+found"
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def resolved(folder: str | Path) -> Path:
    """The folder itself, without links; it need not be there."""
    said = str(folder)
    if said != ":memory:" and "://" not in said:
        with suppress(OSError, RuntimeError, ValueError):  # a loop of links, a user without a home, a NUL
            return Path(folder).expanduser().resolve()
    raise SettingError(
        f"an embedded Qdrant must be given a folder, got {said!r}; a URL or ':memory:' is for QdrantStore(url)"
    )


def beside(collection: Path) -> Path:
    """Where the lock of a collection is."""
    return collection.parent / BESIDE / collection.name


@contextmanager
def errors_of(folder: Path) -> Iterator[None]:
    """Errors of the operating system become those of a store."""
    try:
        yield
    except OSError as error:
        raise error_of(folder, error.errno, error.strerror, error.filename) from None


def error_of(folder: Path, number: int | None, said: str | None, filename: object) -> StoreError:
    """An error of the operating system, as users see it."""
    path = Path(os.fsdecode(filename)) if isinstance(filename, str | bytes) else folder
    if number in (errno.EACCES, errno.EPERM):
        return StoreUnsuitable(
            f"{path} is not accessible to user {_name(_user())} (owner: {_name(_owner(path))}): {said}; run as its "
            "owner, or run a Qdrant server for several users"
        )
    if number in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"the disk of {path} is full: {said}; make room and run the same again")
    return StoreError(f"{path} cannot be used: {said}")


# -- what is ours


def check_place(collection: Path) -> None:
    """Whether a collection may be made: not among the files of somebody else."""
    place = collection.parent
    with errors_of(place):
        if not place.exists():
            return
        if not place.is_dir():
            raise StoreUnsuitable(f"{place} is not a folder; give an empty or new folder")
        names = {each.name for each in place.iterdir()} - {_OF_A_DISK, collection.name}
        if not names or BESIDE in names or any((place / name / SPACE).is_file() for name in names):
            return
    raise StoreUnsuitable(
        f"{place} holds files and no collection of this kit, so none is made among them; give an empty or new folder"
    )


# -- whose it is


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _owner(path: Path) -> int | None:
    for each in (path, *path.parents):
        with suppress(OSError):  # it is not there, or in a folder that may not be entered
            return each.stat().st_uid
    return None


def _name(user: int | None) -> str:
    if user is None:
        return "unknown"
    try:
        import pwd

        return repr(pwd.getpwuid(user).pw_name)
    except (ImportError, KeyError):  # Windows; a container whose users have no names
        return str(user)


def rights_for(collection: Path) -> tuple[int, int] | None:
    """The user and group that root has to be so that what it writes stays its owner's; None: as who we are."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    for each in (collection, collection.parent / BESIDE):
        with errors_of(each), suppress(FileNotFoundError):
            found = each.stat()
            return (found.st_uid, found.st_gid) if found.st_uid else None
    return None


# -- who may read it


def make_private(collection: Path) -> None:
    """Take away the rights of others, which an earlier release left to the umask, from what is ours and our own."""
    if not hasattr(os, "fwalk"):  # Windows
        return
    for folder in (beside(collection), collection, collection.parent / BESIDE):
        with suppress(OSError):
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_mode & _OF_OTHERS and _is_own(found):
                _close(folder)


def _is_own(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid()


def _close(folder: Path) -> None:
    """From the leaves up, so that an interrupted one begins again; by descriptors, which no link can lead elsewhere."""
    for _, _, names, directory in os.fwalk(folder, topdown=False):
        for name in names:
            with suppress(OSError):  # it is gone by now, or a link, or it cannot be read
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
                try:
                    found = os.fstat(file)
                    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and _is_own(found):
                        os.fchmod(file, stat.S_IMODE(found.st_mode) & ~_OF_OTHERS)
                finally:
                    os.close(file)
        found = os.fstat(directory)
        if _is_own(found):
            os.fchmod(directory, stat.S_IMODE(found.st_mode) & ~_OF_OTHERS)
