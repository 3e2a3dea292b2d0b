"""Qdrant Edge, the engine itself without a server, in a process of its own (`edge.py`)."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harrier_core.errors import SettingError, StoreError, StoreUnavailable, StoreUnsuitable
from harrier_core.records import Chunk
from harrier_core.space import EmbeddingSpace
from harrier_qdrant.filters import Filter
from harrier_qdrant.points import Found, batches, payload_of, redescribed
from harrier_qdrant.schema import Layout, Shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

# A folder is let go of a moment after the process that had it was killed.
_PATIENCE = 10.0
# How often in a row the process may die of one request before that is an error.
_LIVES = 3
_PAGE = 500
_CHILD = Path(__file__).with_name("edge.py")
_SPACE = "harrier_space.json"


class Edge:
    """A collection in a folder, for all stores of this process that have it open."""

    may_race = False  # what writes to the folder is in this process, and waits for `writing`

    def __init__(self, folder: Path, layout: Layout) -> None:
        if layout.shards or layout.replicas or layout.write_consistency or layout.quantization or layout.on_disk:
            raise SettingError("shards, replicas, write_consistency, quantization and on_disk are a server's settings")
        if find_spec("qdrant_edge") is None:
            raise StoreUnavailable(
                "an embedded Qdrant needs the qdrant-edge-py package; run pip install 'harrier-kit[qdrant]'"
            )
        self._layout = layout
        self._child = _shared(folder.expanduser().resolve())

    def writing(self) -> AbstractContextManager[Any]:
        """Held while records are looked at and written."""
        return self._child.writing

    def shape(self) -> Shape | None:
        """The collection as it is, or nothing."""
        space = self._child.space()
        if space is None:
            return None
        self._child.open(self._layout.vector)
        dimensions = EmbeddingSpace.from_json(space).dimensions
        return Shape({self._layout.vector: (dimensions, "Cosine")}, space)

    def create(self, space: EmbeddingSpace) -> None:
        """Make it."""
        self._child.create(space, self._layout)

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors) -> dict[str, str]:
        """Write them; when it returns they are safe."""
        for batch in batches(chunks, vectors.itemsize * vectors.shape[1]):
            own = [chunks[place] for place in batch]
            rows = vectors[batch.start : batch.stop]
            self._child.ask("upsert", [chunk.id for chunk in own], rows, [payload_of(chunk) for chunk in own])
        return {}

    def describe(self, chunks: Sequence[Chunk]) -> None:
        """Change what is said of chunks that are there."""
        self._child.ask("describe", {chunk.id: redescribed(chunk) for chunk in chunks})

    def delete(self, ids: Sequence[str]) -> None:
        """Remove chunks."""
        self._child.ask("delete", list(ids))

    def delete_where(self, where: Filter) -> None:
        """Remove what a filter finds."""
        self._child.ask("delete_where", where)

    def scroll(self, where: Filter | None, fields: Sequence[str] | None, *, with_vectors: bool) -> Iterator[Found]:
        """What a filter finds, a page at a time."""
        offset: str | None = None
        while True:
            listed = None if fields is None else list(fields)
            page, offset = self._child.ask("scroll", where, offset, _PAGE, listed, with_vectors)
            yield from (Found(payload, vector) for payload, vector in page)
            if offset is None:
                return

    def search(
        self, vector: NDArray[np.float32], limit: int, where: Filter | None, *, with_vectors: bool
    ) -> list[Found]:
        """The nearest that a filter finds."""
        found = self._child.ask("search", vector.tolist(), limit, where, with_vectors)
        return [Found(payload, own, score) for payload, own, score in found]

    def count(self, where: Filter | None) -> int:
        """How many a filter finds."""
        number: int = self._child.ask("count", where)
        return number

    def settle(self) -> None:
        """Build an index where there is much to search."""
        self._child.ask("settle")

    def close(self) -> None:
        """The process ends with the last store that has the folder open."""
        _let_go(self._child)

    def __str__(self) -> str:
        return str(self._child.folder)


class _Child:
    """The process that has a folder open; it is started when it is needed, and again when it was killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.users = 0
        self.writing = threading.RLock()
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._vector = ""
        self._new: dict[str, Any] | None = None  # how to make the collection, while it is to be made

    @property
    def inherited(self) -> bool:
        """Whether this process got it by a fork: its pipes are the other one's."""
        return os.getpid() != self._owner

    # -- the collection: the engine's folder, and the space in a file beside it

    def space(self) -> str | None:
        """The space that is stored, or nothing if there is no collection."""
        try:
            return (self.folder / _SPACE).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            if self.folder.exists() and (self.folder.is_file() or any(self.folder.iterdir())):
                raise StoreUnsuitable(
                    f"{self.folder} is not one of this kit's collections: it has no {_SPACE}; use another name"
                ) from None
            return None

    def open(self, vector: str) -> None:
        """Have the engine open what is there."""
        self._vector = vector
        if self._process is None:
            self.ask("count", None)

    def create(self, space: EmbeddingSpace, layout: Layout) -> None:
        """Have the engine make it, unless another process was faster."""
        new = {
            "files": {_SPACE: space.to_json()},
            "dimensions": space.dimensions,
            "precision": layout.precision,
            "indexes": dict(layout.payload_indexes()),
        }
        with self.writing:
            if self.space() is None:
                self.close()
                self._vector, self._new = layout.vector, new
                try:
                    self.ask("count", None)
                finally:
                    self._new = None

    # -- requests

    def ask(self, name: str, *arguments: Any) -> Any:  # noqa: ANN401
        """The answer to one request; a process that died is started again, and asked again."""
        if self.inherited:
            raise StoreUnavailable(f"{self.folder} was opened before this process was forked; open the store after it")
        with self._lock:
            for _ in range(_LIVES):
                try:
                    if self._process is None:
                        self._start()
                    return self._exchange(name, arguments)
                except (EOFError, OSError, pickle.UnpicklingError):
                    continue
        raise StoreUnavailable(f"the process of Qdrant Edge for {self.folder} died {_LIVES} times in a row")

    def _start(self) -> None:
        # -P: the kit's own modules are not to be found by their bare names.
        command = [sys.executable, "-P", str(_CHILD)]
        # In a session of its own: a terminal's Ctrl-C is for us, and it ends when we do.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        try:
            self._exchange("open", (str(self.folder), _PATIENCE, self._vector, self._new))
        except StoreError:
            self._end()
            raise

    def _exchange(self, name: str, arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401
        assert self._process is not None  # noqa: S101  # it was started
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None  # noqa: S101  # both are pipes
        assert answers is not None  # noqa: S101
        try:
            pickle.dump((name, arguments), requests, pickle.HIGHEST_PROTOCOL)
            requests.flush()
            said, answer = pickle.load(answers)
        except BaseException:  # it died, or we were interrupted; the next request must not get this one's answer
            self._end()
            raise
        if said == "busy":
            raise StoreUnavailable(
                f"{self.folder} is open in another process, and Qdrant Edge allows one at a time; close it there, or "
                "run a Qdrant server"
            )
        if said == "error":
            raise StoreError(f"Qdrant Edge refused: {answer}")
        return answer

    def _end(self) -> None:
        """Its input ends, so it writes what it has to disk and goes."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(OSError), process:  # which waits
                pass

    def close(self) -> None:
        """End the process; a request starts another one."""
        with self._lock:
            self._end()


_children: dict[Path, _Child] = {}
_registry = threading.Lock()


def _shared(folder: Path) -> _Child:
    with _registry:
        if folder not in _children or _children[folder].inherited:
            _children[folder] = _Child(folder)
        _children[folder].users += 1
        return _children[folder]


def _let_go(child: _Child) -> None:
    with _registry:
        child.users -= 1
        if child.users:
            return
        if _children.get(child.folder) is child:
            del _children[child.folder]
    child.close()
