"""The memory of an ingest of files from one run to the next, in an SQLite file that processes share."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

log = logging.getLogger(__name__)

_FILE = "files.sqlite"
_DAYS = 90  # for which an entry is kept after its last use
_AT_ONCE = 500  # parameters of a statement, of which old releases of SQLite accept 999
_WAIT = 5.0  # seconds to wait for another writing process
_DAY = 86_400

_TABLE = "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB, day INTEGER) WITHOUT ROWID"


class Forgetful:
    """A memory that recalls nothing from earlier runs, and keeps new entries."""

    def __init__(self, memory: FileMemory) -> None:
        self.mset = memory.mset

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return None for each key."""
        return [None] * len(keys)


class FileMemory:
    """A store of bytes under names, for `Index.ingest(memory=...)`.

    Threads and processes may share its file. It loses entries rather than raise errors; forgotten work is done again.
    Entries that were not used in 90 days are removed.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a file, or create it. Only its owner can read it."""
        self.path = Path(path)
        self._lock = threading.Lock()
        self._day = int(time.time()) // _DAY
        self._told = False
        self._connection = self._opened()

    @classmethod
    def of_user(cls) -> FileMemory:
        """Open the user's own file, in HARRIER_CACHE, or else in harrier-kit in XDG_CACHE_HOME or ~/.cache."""
        if own := os.environ.get("HARRIER_CACHE"):
            return cls(Path(own, _FILE))
        try:
            cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        except RuntimeError:  # a user without a home
            return cls(os.devnull)
        return cls(cache / "harrier-kit" / _FILE)

    def _opened(self) -> sqlite3.Connection | None:
        connection = None
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_TABLE)
            connection.execute("DELETE FROM entries WHERE day < ?", [self._day - _DAYS])
        except (sqlite3.Error, OSError) as error:
            self._tell(error)
            if connection is not None:
                connection.close()
            return None
        return connection

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return what is remembered under each key, or None."""
        found: dict[str, bytes] = {}
        with self._lock:
            try:
                for begin in range(0, len(keys), _AT_ONCE):
                    found |= self._found(keys[begin : begin + _AT_ONCE])
            except sqlite3.Error as error:
                self._tell(error)
        return [found.get(key) for key in keys]

    def _found(self, keys: Sequence[str]) -> dict[str, bytes]:
        if self._connection is None:
            return {}
        marks = ", ".join("?" * len(keys))
        rows = self._connection.execute(
            f"SELECT key, value, day FROM entries WHERE key IN ({marks})",  # noqa: S608  # question marks only
            list(keys),
        ).fetchall()
        old = [(self._day, key) for key, _, day in rows if day < self._day]
        if old:
            self._connection.executemany("UPDATE entries SET day = ? WHERE key = ?", old)
        return {key: value for key, value, _ in rows}

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Remember these entries."""
        rows = [(key, value, self._day) for key, value in key_value_pairs]
        with self._lock:
            if self._connection is None:
                return
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    self._connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._tell(error)

    def close(self) -> None:
        """Close the file; nothing is remembered after that."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            with closing(connection):
                connection.execute("PRAGMA optimize")

    def _tell(self, error: Exception) -> None:
        """Report once that nothing is remembered, and why."""
        if not self._told:
            self._told = True
            log.warning("the state of files in %s cannot be kept (%s); each run reads them all", self.path, error)
