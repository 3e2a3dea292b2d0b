"""The folder of an embedded Qdrant: its contents, its owner and its permissions.

FOLDER/NAME                   a collection
FOLDER/NAME/harrier_space.json  the space of its vectors, and the layout of its points
FOLDER/NAME/harrier_words.json  the version of the words of its chunks, once all of them have theirs
FOLDER/NAME/harrier_open      exists while a process has the collection open
FOLDER/NAME/edge              the engine's own folder
FOLDER/.harrier/NAME          its lock, and the collection while it is being created; kept when it is removed
FOLDER/.harrier/NAME/exchange  exists while another collection gets the folder
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harrier_core.errors import SettingError, StoreError, StoreFull, StoreUnsuitable

SPACE_FILE, WORDS_FILE = "harrier_space.json", "harrier_words.json"
MARK, BESIDE, EXCHANGE = "harrier_open", ".harrier", "exchange"
ENGINE, CONFIG = "edge", "edge_config.json"

# At the root of a file system.
_OF_A_DISK = "lost+found"
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def resolved(folder: str | Path) -> Path:
    """Return the absolute path of a folder, which need not exist, with symbolic links resolved."""
    said = str(folder)
    if said != ":memory:" and "://" not in said:
        with suppress(OSError, RuntimeError, ValueError):  # a loop of links, a user without a home, a NUL
            return Path(folder).expanduser().resolve()
    raise SettingError(
        f"an embedded Qdrant must be given a folder, got {said!r}; a URL or ':memory:' is for QdrantStore(url)"
    )


def beside(collection: Path) -> Path:
    """Return the folder of a collection's lock."""
    return collection.parent / BESIDE / collection.name


def size_of(collection: Path) -> int:
    """Return how many bytes a collection has on disk."""
    with errors_of(collection):
        return sum(each.stat().st_blocks * 512 for each in collection.rglob("*") if each.is_file())


@contextmanager
def errors_of(folder: Path) -> Iterator[None]:
    """Convert OSErrors to StoreErrors."""
    try:
        yield
    except OSError as error:
        raise error_of(folder, error.errno, error.strerror, error.filename) from None


def error_of(
    folder: Path, number: int | None, said: str | None, filename: object, user: int | None = None
) -> StoreError:
    """Return the StoreError for an error of the operating system; user: who got it, if not this process's user."""
    path = Path(os.fsdecode(filename)) if isinstance(filename, str | bytes) else folder
    if number in (errno.EACCES, errno.EPERM):
        who, owner = _name(_user() if user is None else user), _name(_owner(path))
        return StoreUnsuitable(
            f"{path} cannot be accessed by user {who} (owner: {owner}): {said}; run as its owner, or run a Qdrant "
            "server for several users"
        )
    if number in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"the disk of {path} is full: {said}; free some space and try again")
    return StoreError(f"{path} cannot be used: {said}")


# -- the kit's own files


def check_place(collection: Path) -> None:
    """Raise StoreUnsuitable if a new collection would be created among files that are not this kit's."""
    place = collection.parent
    with errors_of(place):
        if not place.exists():
            return
        if not place.is_dir():
            raise StoreUnsuitable(f"{place} is not a folder; use an empty or new folder")
        names = {each.name for each in place.iterdir()} - {_OF_A_DISK, collection.name}
        if not names or BESIDE in names or any(_is_collection(place / name) for name in names):
            return
    raise StoreUnsuitable(f"{place} is not empty and holds no collection of this kit; use an empty or new folder")


def collections(place: Path) -> list[str]:
    """Return the names of the kit's collections in a folder, which need not exist."""
    with errors_of(place):
        return [each.name for each in place.iterdir() if _is_collection(each)] if place.is_dir() else []


def _is_collection(folder: Path) -> bool:
    with suppress(OSError):  # access denied
        return (folder / SPACE_FILE).is_file()
    return False


# -- the owner


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _owner(path: Path) -> int | None:
    for each in (path, *path.parents):
        with suppress(OSError):  # it does not exist, or its folder is not accessible
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
    """Return the user and group that root must become to leave a collection usable for its owner, or None."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    place = collection.parent
    for each in (collection, place / BESIDE, place):
        with errors_of(each), suppress(FileNotFoundError):
            found = each.lstat()
            if stat.S_ISLNK(found.st_mode) and each != place:  # its maker may lead root to root's own files
                raise StoreUnsuitable(f"{each} is a symbolic link, which root does not follow; remove it")
            if found.st_uid:
                return found.st_uid, found.st_gid
    return None


# -- permissions


def make_private(collection: Path) -> None:
    """Remove other users' permissions, which earlier releases left to the umask, from the files that we own."""
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
    """Close a folder last, so that an interrupted run is repeated; by descriptors, so that no link is followed."""
    for _, _, names, directory in os.fwalk(folder, topdown=False):
        for name in names:
            with suppress(OSError):  # it was removed, or is a link, or cannot be read
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
