"""The process in which Qdrant Edge has a collection open (`edge_child.py`), shared by all stores of this process."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

from harrier_core.errors import StoreError, StoreMissing, StoreUnavailable, StoreUnsuitable, StoreWarning
from harrier_core.indexes import Hnsw
from harrier_core.layout import Precision
from harrier_core.lexical import VERSION
from harrier_core.shared import Shared
from harrier_core.space import EmbeddingSpace
from harrier_qdrant.backend import CLOSED
from harrier_qdrant.folder import (
    CONFIG,
    ENGINE,
    EXCHANGE,
    MARK,
    SPACE_FILE,
    WORDS_FILE,
    beside,
    check_place,
    error_of,
    errors_of,
    make_private,
    rights_for,
)
from harrier_qdrant.schema import LAYOUT, LAYOUT_VERSION, WORDS, WORDS_VERSION, Damaged, Layout, Shape, missing

# When a process that had a folder open is killed, its engine still finishes its current work, and writes out its data.
_PATIENCE = 10.0
# How often in a row the process may die from one request before that is an error.
_LIVES = 3
_CHILD = Path(__file__).with_name("edge_child.py")


Identity = tuple[int, int]  # identifies a file


class Pin:
    """The collection that several requests must go to: the one that the first of them used."""

    collection: Identity | None = None


class EdgeProcess:
    """The process that has a collection open; it is started on demand, and again if it was killed."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet. folder: the collection's, resolved."""
        self.folder = folder
        self._writing = threading.RLock()
        self._writer: tuple[int, Pin] | None = None  # the thread that holds `writing`
        self._lock = threading.Lock()
        self._moving = threading.Lock()  # held while another collection gets the folder
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._opened_as: Identity | None = None  # the mark of this opening
        self._collection: Identity | None = None  # the collection that was opened
        self._new: dict[str, Any] | None = None  # how to create the collection, while it is being created
        _started.add(self)

    def drop_pipes(self) -> None:
        """Close the pipes in a forked process: otherwise Edge would wait for this one, too, before it ends."""
        if self._process is not None:
            nothing = os.open(os.devnull, os.O_RDWR)
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None and not pipe.closed:
                    os.dup2(nothing, pipe.fileno(), inheritable=False)
            os.close(nothing)

    # -- the collection: the engine's folder, and the space in a file next to it

    def shape(self) -> Shape | None:
        """Return the collection as it is now, which may be another one than the process has open."""
        with self._moving:
            return self._shape()

    def _shape(self) -> Shape | None:
        text = self._space()
        if text is None:
            return None
        with self._damage(SPACE_FILE):
            layout = json.loads(text).get(LAYOUT)
        with self._damage(f"{ENGINE}/{CONFIG}"):
            config = self._config()
            vectors = {name: (each["size"], each["distance"]) for name, each in config["vectors"].items()}
            sparse = config.get("sparse_vectors", {}).get(WORDS, {}).get("modifier") == "idf"
        return Shape(vectors, text, layout, sparse=sparse, words=self._words())

    def made(self, vector: str) -> tuple[Precision, Hnsw | None]:
        """Return the precision of a vector, and its index's settings, if any were given."""
        if self._space() is None:
            raise missing(str(self.folder))
        with self._damage(f"{ENGINE}/{CONFIG}"):
            own = self._config()["vectors"].get(vector, {})
            said = own.get("hnsw_config")
            hnsw = None if said is None else Hnsw(said["m"] or None, said["ef_construct"] or None)
        return "float16" if own.get("datatype") == "float16" else "float32", hnsw

    def _config(self) -> Any:  # noqa: ANN401
        return json.loads((self.folder / ENGINE / CONFIG).read_text(encoding="utf-8"))

    @contextmanager
    def _damage(self, file: str) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise error_of(self.folder, error.errno, error.strerror, error.filename) from None
        except (OSError, ValueError, LookupError, AttributeError, TypeError):
            raise Damaged(f"{self.folder} is damaged: its {file} cannot be read") from None

    def _space(self) -> str | None:
        with errors_of(self.folder):
            try:
                return (self.folder / SPACE_FILE).read_text(encoding="utf-8")
            except (FileNotFoundError, NotADirectoryError):
                if self.folder.exists() and (self.folder.is_file() or any(self.folder.iterdir())):
                    raise StoreUnsuitable(
                        f"{self.folder} was not created by Harrier Kit: it has no {SPACE_FILE}; use another name"
                    ) from None
                return None

    def _words(self) -> Any:  # noqa: ANN401
        """Return the version of the words that all chunks have, from its own file: the space's is never rewritten."""
        with self._damage(WORDS_FILE):
            try:
                return json.loads((self.folder / WORDS_FILE).read_text(encoding="utf-8")).get(WORDS_VERSION)
            except FileNotFoundError:
                return None

    def create(self, space: EmbeddingSpace, layout: Layout) -> None:
        """Have Edge create the collection, unless another process was faster."""
        files = {SPACE_FILE: {**json.loads(space.to_json()), LAYOUT: LAYOUT_VERSION}}
        if layout.keywords:
            files[WORDS_FILE] = {WORDS_VERSION: VERSION}
        new = {
            "files": {name: json.dumps(said) for name, said in files.items()},
            "vector": layout.vector,
            "sparse": WORDS if layout.keywords else None,
            "dimensions": space.dimensions,
            "precision": layout.precision or "float32",
            "indexes": dict(layout.payload_indexes()),
            "hnsw": (layout.hnsw.m, layout.hnsw.ef_construction) if layout.hnsw else None,
        }
        with self.writing():
            if self._space() is None:
                check_place(self.folder)
                with self._lock:
                    self._end()
                self._new = new
                try:
                    self.ask("count", None)
                finally:
                    self._new = None

    def drop(self) -> None:
        """Have Edge's process remove the collection, if there is one."""
        with self.writing(), suppress(StoreMissing):  # another thread of this process has just removed it
            if self.folder.is_symlink():
                raise StoreUnsuitable(f"{self.folder} is a symbolic link; remove the link and its target by hand")
            if self._space() is not None:
                self.ask("drop", str(self.folder), str(beside(self.folder)))
                with self._lock:
                    self._end()

    def settle(self) -> None:
        """Finish an exchange if a kill interrupted it."""
        if (beside(self.folder) / EXCHANGE).exists():
            self.ask("count", None)  # the next process to open the folder finishes it

    def exchange(self, new: EdgeProcess, kept: Path) -> None:
        """Give this folder to the collection of another process, and the folder `kept` to this one, in one step.

        The caller holds `writing`. Requests wait meanwhile, and then go to the collection that has the folder. If the
        process died, it is started again, and the request repeated unless it was carried out.
        """
        with self._lock, new._lock, self._moving:
            new._end()  # it writes out what it has
            taken = new._found()
            names = str(beside(self.folder)), str(new.folder), str(kept)
            died = ""
            try:
                for _ in range(_LIVES):
                    try:
                        self._open(self.pin())
                        self._exchange("exchange", (*names, SPACE_FILE))
                    except (EOFError, OSError, pickle.UnpicklingError):
                        died = self._end()
                    if self._found() == taken:  # the next process to open the folder gives the other one its name
                        return
            finally:
                self._end()
        raise StoreUnavailable(
            f"the Qdrant Edge process for {self.folder} died {_LIVES} times while it exchanged the folder, the "
            f"last time with {died}; try again"
        )

    # -- requests

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock for all writers; requests of this thread go to a single collection meanwhile, or fail."""
        with self._writing:
            outer, self._writer = self._writer, (threading.get_ident(), Pin())
            try:
                yield
            finally:
                self._writer = outer

    def pin(self) -> Pin:
        """Return the pin of this thread's write, or a new one."""
        writer = self._writer
        return writer[1] if writer is not None and writer[0] == threading.get_ident() else Pin()

    def ask(self, name: str, *arguments: Any, pin: Pin | None = None) -> Any:  # noqa: ANN401
        """Return the answer to one request; if the process died, it is started again, and the request repeated.

        The request goes to the collection that is there now. With a pin, it fails if that is not the pinned one.
        """
        pin = pin or self.pin()
        with self._lock:
            if self._closed:
                raise StoreUnavailable(CLOSED)
            for _ in range(_LIVES):
                try:
                    self._open(pin)
                    return self._exchange(name, arguments)
                except (EOFError, OSError, pickle.UnpicklingError):
                    died = self._end()
                except StoreError:
                    raise
                except BaseException:  # interrupted: the next request must not get this one's answer
                    self._end()
                    raise
        raise StoreUnavailable(
            f"the Qdrant Edge process for {self.folder} died {_LIVES} times in a row, the last time with {died}; "
            "check free disk space and memory"
        )

    def _open(self, pin: Pin) -> None:
        """Make sure that the process has the current collection open; if it has another, it ends without writing."""
        if self._running and self._is_replaced():
            self._end()
        if not self._running:
            if pin.collection is not None and pin.collection != self._found():
                raise self._replaced()
            self._start()
        if pin.collection is None:
            pin.collection = self._collection
        elif pin.collection != self._collection:
            raise self._replaced()

    @property
    def _running(self) -> bool:
        process = self._process
        return process is not None and process.stdin is not None and not process.stdin.closed

    def _found(self) -> Identity | None:
        """Return the identity of the current collection: of its file that is written once, at creation."""
        return _identity(self.folder / SPACE_FILE)

    def _is_replaced(self) -> bool:
        return _identity(self.folder / MARK) != self._opened_as or self._found() != self._collection

    def _replaced(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self.folder} was removed or replaced while it was open here; try again")

    def _start(self) -> None:
        self._end()
        if self._new is None and self._space() is None:  # reading must not create anything
            raise missing(str(self.folder))
        rights = rights_for(self.folder)
        if rights is None:  # root does not change others' files
            make_private(self.folder)
        # -P: the kit's own modules must not be importable by their bare names.
        command = [sys.executable, "-P", str(_CHILD)]
        try:
            # In its own session: a terminal's Ctrl-C is meant for us, and the process ends when we do.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise StoreUnavailable(f"the Qdrant Edge process cannot be started: {error}") from None
        names = str(self.folder), str(beside(self.folder)), ENGINE, MARK
        try:
            self._opened_as, lost = self._exchange("open", (*names, _PATIENCE, self._new, rights))
        except StoreError:
            self._end()
            raise
        self._collection = self._found()
        if self._is_replaced():  # since it was opened
            self._end()
            raise self._replaced()
        if lost:
            warnings.warn(
                f"{lost} chunks in {self.folder} could not be read, because their writer was killed, and were "
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
        """Close the process's input, so that it writes out its data and exits. Return its signal or exit status."""
        if self._process is None:
            return ""
        with suppress(OSError), self._process:  # closing waits; after an interrupt, the next call continues
            pass
        status, self._process = self._process.returncode, None
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"

    def close(self) -> None:
        """End the process for good."""
        with self._lock:
            self._closed = True
            self._end()


def _identity(file: Path) -> Identity | None:
    """Return facts that distinguish a file from others at the same path, as `edge_child.py` does for its mark."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


# By folder. The process ends with the last store that uses it.
processes: Shared[EdgeProcess] = Shared(EdgeProcess.close)

_started: WeakSet[EdgeProcess] = WeakSet()


def _forked() -> None:
    for each in _started:
        each.drop_pipes()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
