"""The process in which Qdrant Edge has a folder open (`edge.py`), as all stores of this process share it."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

from harrier_core.errors import StoreError, StoreMissing, StoreUnavailable, StoreUnsuitable, StoreWarning
from harrier_core.space import EmbeddingSpace
from harrier_qdrant.folder import (
    CONFIG,
    ENGINE,
    MARK,
    SPACE,
    beside,
    check_place,
    error_of,
    errors_of,
    make_private,
    rights_for,
)
from harrier_qdrant.schema import Layout, Shape
from harrier_qdrant.wire import CLOSED

# When the process that had a folder was killed, its engine still finishes what it is at, and writes out what it has.
_PATIENCE = 10.0
# How often in a row the process may die of one request before that is an error.
_LIVES = 3
_CHILD = Path(__file__).with_name("edge.py")


class Engine:
    """The process that has a folder open; it is started when it is needed, and again when it was killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.users = 0
        self.writing = threading.RLock()
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._opened_as: tuple[int, int] | None = None
        self._new: dict[str, Any] | None = None  # how to make the collection, while it is to be made

    @property
    def inherited(self) -> bool:
        """Whether this process got it by a fork: the engine is the other one's."""
        return os.getpid() != self._owner

    def let_go_of_pipes(self) -> None:
        """In a forked process: else the engine would wait for this one too before it ends."""
        if self._process is not None:
            nothing = os.open(os.devnull, os.O_RDWR)
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None and not pipe.closed:
                    os.dup2(nothing, pipe.fileno(), inheritable=False)
            os.close(nothing)

    # -- the collection: the engine's folder, and the space in a file beside it

    def shape(self) -> Shape | None:
        """As it is now: it may be another one than when the engine opened it."""
        space = self._space()
        if space is None:
            return None
        with self._lock:
            self._end_if_replaced()
        try:
            config = json.loads((self.folder / ENGINE / CONFIG).read_text(encoding="utf-8"))
            vectors = {name: (each["size"], each["distance"]) for name, each in config["vectors"].items()}
        except PermissionError as error:
            raise error_of(self.folder, error.errno, error.strerror, error.filename) from None
        except (OSError, ValueError, LookupError):
            raise StoreUnsuitable(f"{self.folder} is damaged: its {ENGINE}/{CONFIG} cannot be read") from None
        return Shape(vectors, space)

    def _space(self) -> str | None:
        with errors_of(self.folder):
            try:
                return (self.folder / SPACE).read_text(encoding="utf-8")
            except (FileNotFoundError, NotADirectoryError):
                if self.folder.exists() and (self.folder.is_file() or any(self.folder.iterdir())):
                    raise StoreUnsuitable(
                        f"{self.folder} is not one of this kit's collections: it has no {SPACE}; use another name"
                    ) from None
                return None

    def create(self, space: EmbeddingSpace, layout: Layout) -> None:
        """Have the engine make it, unless another process was faster."""
        new = {
            "files": {SPACE: space.to_json()},
            "vector": layout.vector,
            "dimensions": space.dimensions,
            "precision": layout.precision,
            "indexes": dict(layout.payload_indexes()),
        }
        with self.writing:
            if self._space() is None:
                check_place(self.folder)
                self.end()
                self._new = new
                try:
                    self.ask("count", None)
                finally:
                    self._new = None

    # -- requests

    def ask(self, name: str, *arguments: Any) -> Any:  # noqa: ANN401
        """The answer to one request; a process that died is started again, and asked again."""
        with self._lock:
            if not self.users:
                raise StoreUnavailable(CLOSED)
            if self._end_if_replaced():
                raise StoreUnavailable(f"{self.folder} was removed or replaced while it was open here; try again")
            for _ in range(_LIVES):
                try:
                    if not self._running:
                        self._start()
                    return self._exchange(name, arguments)
                except (EOFError, OSError, pickle.UnpicklingError):
                    died = self._end()
                except StoreError:
                    raise
                except BaseException:  # interrupted: the next request must not get this one's answer
                    self._end()
                    raise
        raise StoreUnavailable(
            f"the process of Qdrant Edge for {self.folder} died {_LIVES} times in a row, of {died} in the end; a full "
            "disk, or too little memory, can be why"
        )

    @property
    def _running(self) -> bool:
        process = self._process
        return process is not None and process.stdin is not None and not process.stdin.closed

    def _end_if_replaced(self) -> bool:
        """Whether the engine has open what is not there any more: it ends, and writes nothing into what is."""
        replaced = self._running and _identity(self.folder / MARK) != self._opened_as
        if replaced:
            self._end()
        return replaced

    def _start(self) -> None:
        self._end()
        if self._new is None and self._space() is None:  # reading must not create anything
            raise StoreMissing(f"there is no collection {self.folder}; ingest something into it first")
        rights = rights_for(self.folder)
        if rights is None:  # root does not change files of others
            make_private(self.folder)
        # -P: the kit's own modules are not to be found by their bare names.
        command = [sys.executable, "-P", str(_CHILD)]
        try:
            # In a session of its own: a terminal's Ctrl-C is for us, and it ends when we do.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise StoreUnavailable(f"the process of Qdrant Edge cannot be started: {error}") from None
        names = str(self.folder), str(beside(self.folder)), ENGINE, MARK
        try:
            self._opened_as, lost = self._exchange("open", (*names, _PATIENCE, self._new, rights))
        except StoreError:
            self._end()
            raise
        if lost:
            warnings.warn(
                f"{lost} chunks in {self.folder} could not be read, because who wrote them was killed, and were "
                "removed; ingest them again",
                StoreWarning,
                stacklevel=2,
            )

    def _exchange(self, name: str, arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401
        assert self._process is not None  # noqa: S101  # it was started
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None  # noqa: S101  # both are pipes
        assert answers is not None  # noqa: S101
        pickle.dump((name, arguments), requests, pickle.HIGHEST_PROTOCOL)
        requests.flush()
        said, answer = pickle.load(answers)
        if said == "busy":
            raise StoreUnavailable(
                f"{self.folder} is open in another process, and Qdrant Edge allows one at a time; close it there, or "
                "run a Qdrant server"
            )
        if said == "denied":
            raise error_of(self.folder, *answer)
        if said == "error":
            raise StoreError(f"Qdrant Edge refused: {answer}")
        return answer

    def _end(self) -> str:
        """Its input ends, so it writes what it has to disk and goes; of what it died, if it did."""
        if self._process is None:
            return ""
        with suppress(OSError), self._process:  # which waits; if that is interrupted, the next one waits on
            pass
        status, self._process = self._process.returncode, None
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"

    def end(self) -> None:
        """End the process."""
        with self._lock:
            self._end()


def _identity(mark: Path) -> tuple[int, int] | None:
    """As the engine tells it (`edge.py`)."""
    try:
        found = mark.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


class _Engines:
    """The engines of this process, by their folders, and how many use each."""

    def __init__(self) -> None:
        self._all: WeakSet[Engine] = WeakSet()
        self._forked()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """None is this process's own."""
        self._lock = threading.Lock()
        self._used: dict[Path, Engine] = {}
        for engine in self._all:
            engine.let_go_of_pipes()

    def use(self, folder: Path) -> Engine:
        """One user more."""
        with self._lock:
            if folder not in self._used:
                self._used[folder] = Engine(folder)
                self._all.add(self._used[folder])
            self._used[folder].users += 1
            return self._used[folder]

    def let_go(self, engine: Engine) -> None:
        """One user fewer; the last one ends it."""
        if engine.inherited:
            return
        with self._lock:
            engine.users -= 1
            if engine.users:
                return
            del self._used[engine.folder]
        engine.end()


engines = _Engines()
