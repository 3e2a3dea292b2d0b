"""A process's use of the server in a folder: it starts or joins it, and leaves it."""

from __future__ import annotations

import marshal
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from harrier_core.errors import SettingError, StoreUnavailable
from harrier_pgvector.postmaster import cluster
from harrier_pgvector.postmaster.cluster import BESIDE, HERE, Account
from harrier_pgvector.postmaster.locks import Lock, wait_for

_PATIENCE = 60.0  # seconds, for another process that starts or stops the server
_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET = 107 if sys.platform == "linux" else 103
_LONGEST_PATH = _LONGEST_SOCKET - len(f"/data/{_SOCKET}")
_PAUSE = 0.01
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # the smallest request of PostgreSQL's protocol
_WATCHER = Path(__file__).with_name("watcher.py")

# Files that an earlier run leaves behind if it is killed, with process ids that may have been reused.
_STALE = ("postmaster.pid", _SOCKET, f"{_SOCKET}.lock")

_SETTINGS = {
    "listen_addresses": "",  # no port, on any address
    "unix_socket_directories": ".",  # the data directory, which no one else can enter
    "unix_socket_permissions": "0700",
    "port": "5432",  # part of the socket's name, not a port
    "logging_collector": "off",
    "log_error_verbosity": "terse",  # the details of an error may quote texts of the index
    "log_min_error_statement": "panic",
}
if sys.platform == "linux":
    # Memory shared by parallel workers, for indexes up to a gigabyte. It is not in /dev/shm, which has 64 MB in a
    # container, and is not in the folder.
    _SETTINGS["dynamic_shared_memory_type"] = "sysv"


class Server:
    """The server of a folder, used by this process until it leaves."""

    def __init__(self, folder: Path, *, create: bool) -> None:
        """Join the server, and start it if it is not running; with `create`, make the index if it does not exist."""
        self._folder = folder
        self._data = Path()
        self._directory = -1  # the data directory, open
        self._lock: Lock | None = None
        self.users = 0  # within this process
        self._check(create=create)
        missing = [path for path in (folder / BESIDE, folder) if not path.exists()]
        try:
            with _starting(folder) as beside:
                try:
                    self._enter(beside)
                except BaseException:
                    _remove_unused(folder, missing)
                    raise
        except BaseException:
            self._close()
            raise

    @property
    def folder(self) -> Path:
        """The folder of the index."""
        return self._folder

    @property
    def is_there(self) -> bool:
        """Whether the folder is still the one that was opened."""
        try:
            return os.path.samestat(self._data.stat(), os.fstat(self._directory))
        except OSError:
            return False

    def _check(self, *, create: bool) -> None:
        """Do all checks that are possible before anything is made."""
        if not create:
            cluster.check_index(self._folder)
        elif cluster.data_of(self._folder) is None:
            cluster.check_unused(self._folder)
        if not HERE.exists() and not _is_plain(self._folder / "data"):
            raise SettingError(
                f"the path of an embedded Postgres must have at most {_LONGEST_PATH} bytes and no comma, got "
                f"{str(self._folder)!r}; use another folder"
            )
        cluster.check_account()
        cluster.program("postgres")

    def _enter(self, beside: int) -> None:
        cluster.remove_leftovers(beside)
        if cluster.data_of(self._folder) is None:
            cluster.make(self._folder, beside)
        self._data = cluster.data_of(self._folder) or Path()
        self._directory = os.open(self._data, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        # Folders above them may have been renamed in the meantime.
        inside = "." if self._data == self._folder else ".."
        if not os.path.samestat(os.stat(inside, dir_fd=self._directory), os.stat("..", dir_fd=beside)):
            raise StoreUnavailable(f"the folder {self._folder} was replaced while it was being opened; try again")
        account = cluster.account_for(self._directory, self._folder)
        cluster.check_version(self._directory, self._data)
        cluster.hand_over(self._directory, account)
        self._lock = Lock("users", beside)
        wait_for(self._lock.shared, _PATIENCE, self._is_stopping)
        self._ensure(beside, account)

    def ensure(self) -> None:
        """Start the server again if it has ended, which only the system's administrator can cause."""
        with _starting(self._folder) as beside:
            # Without checking that it is alive, which would cost as much as a connection does.
            self._ensure(beside, cluster.account_for(self._directory, self._folder), ask=False)

    @property
    def conninfo(self) -> str:
        """The connection string. The port is part of the socket's name; by default, libpq would take it from PGPORT."""
        return f"postgresql://postgres@/postgres?host={quote(self._host)}&port=5432"

    @property
    def _host(self) -> str:
        """The socket's folder; if libpq cannot use its path, our descriptor takes its place for as long as we live."""
        return str(self._data) if _is_plain(self._data) else f"/proc/{os.getpid()}/fd/{self._directory}"

    @property
    def _is_stopping(self) -> str:
        return f"the embedded Postgres in {self._folder} is still shutting down after {_PATIENCE:.0f} s; try again"

    # -- starting

    def _ensure(self, beside: int, account: Account, *, ask: bool = True) -> None:
        until = time.monotonic() + _PATIENCE
        with Lock("server", beside) as server:
            while not server.exclusive():
                with Lock("watcher", beside) as watcher:
                    watched = not watcher.exclusive()
                if watched and (not ask or self._answers()):
                    return
                if not watched:
                    self._interrupt()
                if time.monotonic() > until:
                    raise StoreUnavailable(self._is_stopping)
                time.sleep(_PAUSE)
            with Lock("watcher", beside) as watcher, Lock("users", beside) as users:
                wait_for(watcher.exclusive, _PATIENCE, self._is_stopping)
                self._start(account, {"server": server, "watcher": watcher, "users": users})

    def _answers(self) -> bool:
        """Return whether the server is alive: the kernel also accepts connections for one that was just killed."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_PATIENCE)
            try:
                client.connect(f"{self._host}/{_SOCKET}")
                client.sendall(_SSL_REQUEST)
                return client.recv(1) == b"N"  # there is no TLS on a Unix socket
            except OSError:
                return False

    def _interrupt(self) -> None:
        """Stop a server whose watcher was killed, where the kernel does not do so."""
        if sys.platform != "linux":
            with suppress(OSError, ValueError, IndexError):
                os.kill(int((self._data / "postmaster.pid").read_text().split()[0]), signal.SIGINT)

    def _start(self, account: Account, locks: dict[str, Lock]) -> None:
        """Start the watcher, which starts the server, and wait until that is ready."""
        self._check_no_other()
        answer, status = os.pipe()
        with open(answer, "rb", buffering=0) as answers:  # noqa: PTH123
            try:
                self._start_watcher(account, {name: lock.descriptor for name, lock in locks.items()}, status)
            finally:
                os.close(status)
            # Do not wait for the pipe's end, which another thread's forked child may keep open.
            said = b"".join(iter(lambda: answers.read(1).strip(b"\0"), b"")).decode(errors="replace")
        if said == "ready":
            return
        if "cannot run" in said:
            raise cluster.not_run(said.rpartition(": ")[2].strip(), account if os.geteuid() == 0 else None)
        log = self._data / "log"
        more = f"; see {log}" if log.exists() else ""
        raise cluster.failure(f"the embedded Postgres in {self._folder} did not start", said, more)

    def _start_watcher(self, account: Account, descriptors: dict[str, int], status: int) -> None:
        place = HERE if HERE.exists() else self._data
        options = _SETTINGS | {"hba_file": f"{place}/pg_hba.conf", "ident_file": f"{place}/pg_ident.conf"}
        settings = {
            "command": [str(cluster.program("postgres")), "-D", str(place)]
            + [part for name, value in options.items() for part in ("-c", f"{name}={value}")],
            "become": [account.uid, account.gid] if os.geteuid() == 0 else None,
            "files": _access(account),
            # No one holds the server's lock, so these belong to one that was killed.
            "stale": _STALE if HERE.exists() else (),
            "data": self._directory,
            "status": status,
            **descriptors,
        }
        done = subprocess.run(
            [sys.executable, "-I", "-S", _WATCHER, self._folder],
            input=marshal.dumps(settings),
            env=cluster.environment(),
            pass_fds=(*descriptors.values(), status, self._directory),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise StoreUnavailable(f"the watcher of the embedded Postgres cannot be started by {sys.executable!r}")

    def _check_no_other(self) -> None:
        """Raise if a server runs in the data directory that does not use our locks."""
        with suppress(OSError, ValueError, IndexError):
            process = int((self._data / "postmaster.pid").read_text().split()[0])
            if Path(f"/proc/{process}/cwd").samefile(self._data):
                raise StoreUnavailable(
                    f"another PostgreSQL, not started by this kit, runs in {self._folder}; stop it: kill -INT {process}"
                )

    # -- leaving

    def leave(self) -> None:
        """Stop using the server; if it has no other user, return once it has stopped."""
        self._close()
        until = time.monotonic() + _PATIENCE
        with suppress(OSError), ExitStack() as stack:  # the folder may be gone, or be another one by now
            beside = stack.enter_context(_beside(self._folder))
            users, server = (stack.enter_context(Lock(name, beside)) for name in ("users", "server"))
            while not _is_over(users, server) and time.monotonic() < until:
                time.sleep(_PAUSE)

    def _close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1


def _is_over(users: Lock, server: Lock) -> bool:
    """Return whether the server has stopped, or has other users."""
    if server.exclusive():
        return True
    if users.exclusive():  # it has no users; the watcher is about to notice
        users.release()
        return False
    if users.shared():
        users.release()
        return True
    return False  # the watcher is stopping it


def _access(account: Account) -> dict[str, str]:
    """Return PostgreSQL's access rules: only its own user and root, as identified by the kernel, may connect."""
    names = dict.fromkeys(name for each in (account, Account(0, 0)) if (name := each.name))
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    return {
        "pg_hba.conf": "local all all peer map=harrier\nlocal replication all peer map=harrier\n",
        "pg_ident.conf": "".join(f"harrier {name} all\n" for name in quoted),
    }


def _is_plain(folder: Path) -> bool:
    """Return whether libpq accepts it as the folder of a socket: a comma would end it."""
    name = os.fsencode(folder / _SOCKET)
    return len(name) <= _LONGEST_SOCKET and b"," not in name and str(folder).isprintable()


@contextmanager
def _beside(folder: Path) -> Iterator[int]:
    """Open the folder of the locks, and yield its descriptor."""
    descriptor = os.open(folder / BESIDE, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _starting(folder: Path) -> Iterator[int]:
    """Open the folder of the locks, made if missing, while no other process starts or joins the server."""
    with ExitStack() as stack:
        until, beside, locked = time.monotonic() + _PATIENCE, -1, False
        while not locked:
            # If it has disappeared, it was removed by a process that failed to make an index.
            with suppress(FileNotFoundError), ExitStack() as attempt:
                _make_beside(folder)
                beside = attempt.enter_context(_beside(folder))
                lock = attempt.enter_context(Lock("start", beside))
                busy = f"another process has been starting the embedded Postgres in {folder} for {_PATIENCE:.0f} s"
                wait_for(lock.exclusive, until - time.monotonic(), f"{busy}; try again")
                if locked := lock.is_file("start", beside):
                    stack.enter_context(attempt.pop_all())
        yield beside


def _make_beside(folder: Path) -> None:
    folder.mkdir(0o700, parents=True, exist_ok=True)
    try:
        (folder / BESIDE).mkdir(0o700)
    except FileExistsError:
        return
    if os.geteuid() == 0:  # in another user's folder, whose owner must be able to use it
        with _beside(folder) as beside:
            os.fchown(beside, folder.stat().st_uid, -1)


def _remove_unused(folder: Path, made: list[Path]) -> None:
    """Remove the folders that this process created before it failed to make an index in them."""
    if cluster.data_of(folder) is None:
        for path in made:
            if path.name == BESIDE:
                shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):
                path.rmdir()
