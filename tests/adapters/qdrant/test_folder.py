"""The folder of Qdrant Edge: permissions, ownership, and where it is not created."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from harrier_qdrant import QdrantStore
from ingesting import Hashing

from harrier_core import Index, Record, SettingError, StoreError, StoreMissing, StoreUnsuitable
from harrier_core.testing import build_model

RECORDS = [Record(f"r{number}", f"text number {number}", {"n": number}) for number in range(300)]
SPACE = Hashing().space
POSIX = pytest.mark.skipif(os.name != "posix", reason="other systems have no umask")


def index(folder: Path, collection: str = "docs") -> Index:
    return Index(QdrantStore.embedded(folder, collection=collection), Hashing())


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def open_to_others(folder: Path) -> list[Path]:
    """Return the files in a folder that others than the owner may read or write."""
    return [each for each in (folder, *folder.rglob("*")) if each.lstat().st_mode & 0o077]


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return everything in a folder, with permissions, owner and content."""
    paths = [folder, *sorted(folder.rglob("*"))]
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_uid,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in paths
    }


@POSIX
@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022])
def test_private_regardless_of_the_umask(tmp_path: Path, mask: int) -> None:
    """Files are private while they are written, while they are open, and after closing."""
    place = tmp_path / "above" / "place"
    with umask(mask), index(place) as mine:
        mine.ingest(RECORDS)
        assert open_to_others(place) == []
        mine.ingest(RECORDS[:100], prune=True)
        assert len(mine.search("text", k=5)) == 5
        assert open_to_others(tmp_path / "above") == []
    assert open_to_others(tmp_path / "above") == []
    assert (place / ".harrier" / "docs" / "lock").is_file()
    assert stat.S_IMODE((place / "docs" / "harrier_space.json").stat().st_mode) == 0o600


@POSIX
def test_the_folder_above_is_the_users(tmp_path: Path) -> None:
    """In an existing folder, only the files that the kit creates are private."""
    (tmp_path / "place").mkdir(mode=0o755)
    with index(tmp_path / "place") as mine:
        mine.ingest(RECORDS[:3])
    assert stat.S_IMODE((tmp_path / "place").stat().st_mode) == 0o755
    assert open_to_others(tmp_path / "place") == [tmp_path / "place"]


def opened_up(folder: Path) -> None:
    """Set the permissions that an earlier release would have left to the umask."""
    for each in (folder, *folder.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)


@POSIX
def test_a_folder_of_an_earlier_release(tmp_path: Path) -> None:
    """Opening it removes access of others; links and foreign files are left alone."""
    place, outside = tmp_path / "place", tmp_path / "outside.txt"
    with index(place) as mine:
        mine.ingest(RECORDS[:3])
    with index(place, "other") as mine:
        mine.ingest(RECORDS[:3])
    outside.write_text("mine")
    (place / "notes.txt").write_text("mine")
    (place / "docs" / "link").symlink_to(outside)
    for each in (place, outside):
        opened_up(each)
    with index(place) as mine:
        assert mine.count() == 3
    others = {place / "other", *(place / "other").rglob("*")}  # it was not opened
    assert {*open_to_others(place)} - others == {place, place / "notes.txt", place / "docs" / "link"}
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


def test_among_the_users_documents(tmp_path: Path) -> None:
    """Nothing is created in a folder with the user's documents."""
    (tmp_path / "handbook").mkdir()
    (tmp_path / "handbook" / "chapter.md").write_text("text")
    before = tree(tmp_path)
    for collection, remedy in (("documents", "use an empty or new folder"), ("handbook", "use another name")):
        with index(tmp_path, collection) as mine, pytest.raises(StoreUnsuitable, match=remedy):
            mine.ingest(RECORDS[:3])
        with index(tmp_path, collection) as mine, pytest.raises(StoreUnsuitable, match=remedy):
            mine.store.open(SPACE, create=True)
    assert tree(tmp_path) == before


@pytest.mark.slow
def test_the_command_among_the_users_documents(tmp_path: Path) -> None:
    """`harrier ingest` names the folder, and leaves it unchanged."""
    model = build_model(tmp_path / "model", vectors="words")
    handbook = tmp_path / "handbook"
    handbook.mkdir()
    (handbook / "chapter.md").write_text("a text")
    command = [sys.executable, "-m", "harrier_cli", "ingest", str(handbook), "--to", f"qdrant:{handbook}"]
    environment = {**os.environ, "HARRIER_MODEL": str(model), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode == 3
    assert f"{handbook} is not empty and holds no collection of this kit; use an empty or new folder" in done.stderr
    assert [each.name for each in handbook.iterdir()] == ["chapter.md"]


@pytest.mark.parametrize("there", ["nothing", "an empty folder", "lost+found", "an empty collection", "a copy"])
def test_accepted_folders(tmp_path: Path, there: str) -> None:
    """New and empty folders, a disk's root, and folders with a collection of the kit are accepted."""
    place = tmp_path / "place"
    if there != "nothing":
        place.mkdir()
    if there == "lost+found":
        (place / "lost+found").mkdir()
    elif there == "an empty collection":
        (place / "docs").mkdir()
    elif there == "a copy":
        with index(tmp_path / "elsewhere", "copied") as mine:
            mine.ingest(RECORDS[:3])
        shutil.copytree(tmp_path / "elsewhere" / "copied", place / "copied")
    for collection in ("docs", "more"):
        with index(place, collection) as mine:
            assert mine.ingest(RECORDS[:3]).written == 3


def test_reading_creates_nothing(tmp_path: Path) -> None:
    """Reading creates nothing in a user's folder, an empty one, or a missing one."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("text")
    (tmp_path / "empty" / "docs").mkdir(parents=True)
    before = tree(tmp_path)
    uses: list[Callable[[Index], Any]] = [
        lambda own: own.search("text"),
        lambda own: own.count(),
        lambda own: own.verify(),
        lambda own: list(own.read()),
        lambda own: list(own.record_ids()),
        lambda own: own.build_indexes(),
        lambda own: own.store.open(SPACE),
        lambda own: own.store.describe(),
    ]
    for place in ("notes", "empty", "none"):
        for use in uses:
            with index(tmp_path / place) as mine, pytest.raises(StoreMissing, match="there is no collection .*/docs; "):
                use(mine)
    assert tree(tmp_path) == before


def test_places_that_are_not_folders(tmp_path: Path) -> None:
    """A file, a path that is too long, and an unknown home raise the kit's errors."""
    (tmp_path / "file").write_text("text")
    with index(tmp_path / "file") as mine, pytest.raises(StoreUnsuitable, match="file is not a folder"):
        mine.ingest(RECORDS[:3])
    with index(tmp_path, "é" * 200) as mine, pytest.raises(StoreError, match="name too long"):
        mine.ingest(RECORDS[:3])
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for wrong in ("~no-such-user-here/index", "a\0b", ":memory:", "http://localhost:6333", tmp_path / "loop"):
        with pytest.raises(SettingError, match="an embedded Qdrant must be given a folder"):
            QdrantStore.embedded(wrong)
    assert [each.name for each in tmp_path.iterdir() if each.name not in ("file", "loop")] == []


# -- other users

AS = """
import sys
from pathlib import Path
from test_folder import RECORDS, index
from harrier_core import HarrierError
with index(Path(sys.argv[1])) as mine:
    try:
        print(mine.ingest(RECORDS[:50]).unchanged, mine.count(), flush=True)
        sys.stdin.readline()
    except HarrierError as error:
        print(type(error).__name__, error, flush=True)
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return a folder that all users can reach."""
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def interpreter_of(who: dict[str, Any]) -> str:
    """Return a Python of this version that the user may run."""
    for each in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        with suppress(OSError):
            subprocess.run([each, "-c", ""], **who, check=True, capture_output=True, cwd="/")
            return each
    pytest.skip(f"user {who['user']} may run no interpreter of this version")


def start_as(user: str, folder: Path) -> subprocess.Popen[str]:
    """Start an ingest as another user, which keeps the folder open until its input ends."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can be another user")
    who: dict[str, Any] = {"user": user, "group": "nogroup" if user == "nobody" else user, "extra_groups": []}
    path = [each for each in sys.path if not each.startswith(sys.base_prefix)]
    environment = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join([*path, str(Path(__file__).parent)])}
    command = [interpreter_of(who), "-W", "ignore", "-c", AS, str(folder)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **who, **pipes, env=environment, cwd="/")


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.slow
def test_another_user(shared: Path) -> None:
    """Another user can neither read nor open it; the error names the owner and what to do."""
    shared.chmod(0o777)
    with start_as("nobody", shared / "place") as owner:
        assert said(owner) == "0 50\n"
        for end in (False, True):
            if end:
                owner.communicate("\n")
            with start_as("games", shared / "place") as other:
                answer = said(other)
                assert answer.startswith("StoreUnsuitable ")
                assert "cannot be accessed by user 'games' (owner: 'nobody')" in answer
                assert "run a Qdrant server for several users" in answer
    place = shared / "place"
    assert {each.lstat().st_uid for each in (place, *place.rglob("*"))} == {place.stat().st_uid} != {0}


def test_a_lock_of_another_user(shared: Path) -> None:
    """In a folder open to all, the lock file still belongs to its owner."""
    shared.chmod(0o777)
    with start_as("nobody", shared / "mine") as owner:
        assert said(owner) == "0 50\n"
        for each in (shared / "mine", *(shared / "mine").rglob("*")):
            if each.is_dir():
                each.chmod(0o777)
        for each in (shared / "mine" / "docs").rglob("*"):
            if each.is_file():
                each.chmod(0o666)
        with start_as("games", shared / "mine") as other:
            assert "lock cannot be accessed by user 'games' (owner: 'nobody')" in said(other)
        owner.communicate("\n")


@pytest.mark.slow
def test_root_in_a_folder_of_another_user(shared: Path) -> None:
    """Root writes with the owner's rights, so the owner can open the folder afterwards."""
    shared.chmod(0o777)
    place = shared / "place"
    with start_as("nobody", place) as owner:
        assert said(owner) == "0 50\n"
        owner.communicate("\n")
    uid = place.stat().st_uid
    with index(place) as mine:
        assert mine.ingest(RECORDS).written == 250
        assert len(mine.search("text", k=7)) == 7
    with index(place, "more") as mine:
        assert mine.ingest(RECORDS[:3]).written == 3
    assert {each.lstat().st_uid for each in (place, *place.rglob("*"))} == {uid}
    with start_as("nobody", place) as owner:
        assert said(owner) == "50 300\n"
        owner.communicate("\n")


def test_root_where_the_owner_has_no_access(shared: Path) -> None:
    """The error is about the owner's rights, with which root works."""
    shared.chmod(0o777)
    with start_as("nobody", shared / "place") as owner:
        assert said(owner) == "0 50\n"
        owner.communicate("\n")
    shared.chmod(0o700)
    with index(shared / "place") as mine, pytest.raises(StoreUnsuitable, match="cannot be accessed by user 'nobody'"):
        mine.count()
    assert (shared / "place" / "docs").stat().st_uid == (shared / "place").stat().st_uid != 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user")
def test_root_in_an_empty_folder_of_another_user(shared: Path) -> None:
    """The owner owns everything that root creates, and can open it."""
    shared.chmod(0o777)
    place = shared / "place"
    place.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(place, nobody.pw_uid, nobody.pw_gid)
    with index(place) as mine:
        assert mine.ingest(RECORDS[:50]).written == 50
    assert {each.lstat().st_uid for each in (place, *place.rglob("*"))} == {nobody.pw_uid}
    with start_as("nobody", place) as owner:
        assert said(owner) == "50 50\n"
        owner.communicate("\n")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user")
def test_root_follows_no_link_of_another_user(shared: Path) -> None:
    """A link could lead to root's files, which would be locked and made private."""
    target = shared / "root"
    (target / "docs").mkdir(parents=True)
    (target / "docs" / "lock").write_text("of somebody")
    (target / "docs" / "lock").chmod(0o644)
    before = {each: each.lstat().st_mode for each in (target, *target.rglob("*"))}
    place = shared / "place"
    place.mkdir()
    os.chown(place, pwd.getpwnam("nobody").pw_uid, -1)
    (place / ".harrier").symlink_to(target)
    with index(place) as mine, pytest.raises(StoreUnsuitable, match="is a symbolic link, which root does not follow"):
        mine.ingest(RECORDS[:3])
    assert {each: each.lstat().st_mode for each in (target, *target.rglob("*"))} == before
