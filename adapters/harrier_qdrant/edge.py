"""The process in which Qdrant Edge runs: a loop that answers its parent, and ends with it.

Edge holds the interpreter's lock for as long as a call takes, up to minutes: in the process that feeds a GPU it would
stop everything. It is run as a file, without the rest of the kit, so that it starts in a moment.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge
from filelock import FileLock, Timeout

# Below it a search that compares all takes some ten milliseconds, and building an index takes minutes.
_UNINDEXED = 50_000

# Beside the engine's folder while a process has it open; what finds it there comes after one that was killed.
_OPEN = "harrier_open"
_ENGINE = "edge"
_LOOKED_AT = 500  # points at once


class BusyError(Exception):
    """Another process has the collection."""


class Shard:
    """What the parent may ask for; each method is a request."""

    def __init__(self) -> None:
        self._shard: edge.EdgeShard | None = None
        self._vector = ""
        self._lock: FileLock | None = None
        self._mark: Path | None = None

    @property
    def _opened(self) -> edge.EdgeShard:
        assert self._shard is not None, "the parent opens it first"  # noqa: S101
        return self._shard

    def open(self, folder: str, patience: float, vector: str, new: dict[str, Any] | None) -> None:
        """The shard of a collection, which is made if it is not there and `new` says how.

        Edge has a lock, but reads the segments before it takes it: whoever waits for that gets them as they were
        before the last one wrote out what it had. So nothing of a collection is touched before a lock of our own.
        """
        collection = Path(folder)
        collection.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(collection.with_name(f".{collection.name}.lock"))
        try:
            self._lock.acquire(patience)
        except Timeout:
            raise BusyError from None
        if new is not None and not collection.joinpath(_ENGINE).exists():
            _make(collection, vector, **new)
        self._vector = vector
        mark = collection / _OPEN
        killed = mark.exists()
        mark.touch()
        try:
            self._shard = edge.EdgeShard.load(str(collection / _ENGINE))
        except Exception as error:  # Edge raises nothing more precise
            if "WAL" in str(error) and "WouldBlock" in str(error):  # something that is not of this kit has it open
                raise BusyError from None
            raise
        if killed:
            self._mend()
        self._mark = mark

    def _mend(self) -> None:
        """Remove the points that a kill in the midst of a write has left unreadable; an ingest writes them again."""
        if lost := list(self._unreadable()):
            # To remove a point Edge reads it: so they get something that can be read.
            self._opened.update(edge.UpdateOperation.overwrite_payload(lost, {}))
            self.delete(lost)
            self._opened.flush()

    def _unreadable(self) -> Iterator[Any]:
        offset = None
        while True:
            request = edge.ScrollRequest(offset=offset, limit=_LOOKED_AT, with_payload=False, with_vector=False)
            found, offset = self._opened.scroll(request)
            yield from self._unreadable_of([each.id for each in found])
            if offset is None:
                return

    def _unreadable_of(self, ids: list[Any]) -> Iterator[Any]:
        """By halves: one that cannot be read fails all that are asked for with it."""
        try:
            self._opened.retrieve(ids, True, True)
        except Exception:  # Edge raises nothing more precise
            if len(ids) == 1:
                yield ids[0]
            else:
                yield from self._unreadable_of(ids[: len(ids) // 2])
                yield from self._unreadable_of(ids[len(ids) // 2 :])

    def upsert(self, ids: Sequence[str], vectors: np.ndarray[Any, Any], payloads: Sequence[dict[str, Any]]) -> None:
        """Write points; when it returns they are in the log on disk."""
        points = [
            edge.Point(id_, {self._vector: vector}, payload)
            for id_, vector, payload in zip(ids, vectors.tolist(), payloads, strict=True)
        ]
        self._opened.update(edge.UpdateOperation.upsert_points(points))

    def describe(self, payloads: dict[str, dict[str, Any]]) -> None:
        """Change payloads of points that are there."""
        for id_, payload in payloads.items():
            self._opened.update(edge.UpdateOperation.set_payload([id_], payload))

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points."""
        self._opened.update(edge.UpdateOperation.delete_points(list(ids)))

    def delete_where(self, where: dict[str, Any]) -> None:
        """Remove points that a filter finds."""
        self._opened.update(edge.UpdateOperation.delete_points_by_filter(_filter(where)))

    def scroll(
        self, where: dict[str, Any] | None, offset: str | None, limit: int, fields: list[str] | None, vectors: bool
    ) -> tuple[list[tuple[dict[str, Any], Any]], str | None]:
        """A page of points by their ids, and where the next one begins."""
        request = edge.ScrollRequest(
            offset=offset,
            limit=limit,
            filter=None if where is None else _filter(where),
            with_payload=True if fields is None else fields,
            with_vector=vectors,
        )
        found, following = self._opened.scroll(request)
        points = [(each.payload or {}, self._own(each.vector)) for each in found]
        return points, None if following is None else str(following)

    def search(
        self, vector: list[float], limit: int, where: dict[str, Any] | None, vectors: bool
    ) -> list[tuple[dict[str, Any], Any, float]]:
        """The nearest points."""
        request = edge.QueryRequest(
            limit=limit,
            query=edge.Query.Nearest(vector, using=self._vector),
            filter=None if where is None else _filter(where),
            with_payload=True,
            with_vector=vectors,
        )
        return [(each.payload or {}, self._own(each.vector), each.score) for each in self._opened.query(request)]

    def _own(self, vectors: Any) -> np.ndarray[Any, Any] | None:  # noqa: ANN401
        return np.array(vectors[self._vector], np.float32) if vectors else None

    def count(self, where: dict[str, Any] | None) -> int:
        """How many points a filter finds."""
        return self._opened.count(edge.CountRequest(exact=True, filter=None if where is None else _filter(where)))

    def settle(self) -> None:
        """Build an index where it is worth its time."""
        info = self._opened.info()
        if info.points_count - info.indexed_vectors_count > _UNINDEXED:
            self._opened.optimize()
        self._opened.flush()

    def close(self) -> None:
        """Write out what is in memory, and let go."""
        if self._shard is not None:
            self._shard.close()
        if self._mark is not None:
            self._mark.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.release()


def _make(
    collection: Path, vector: str, *, files: dict[str, str], dimensions: int, precision: str, indexes: dict[str, str]
) -> None:
    """Elsewhere, and put in place whole: killed in the midst, it is not there."""
    making = collection.with_name(f"{collection.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    (making / _ENGINE).mkdir(parents=True)
    for name, text in files.items():
        (making / name).write_text(text, encoding="utf-8")
    kind = edge.VectorStorageDatatype.Float16 if precision == "float16" else edge.VectorStorageDatatype.Float32
    params = edge.EdgeVectorParams(size=dimensions, distance=edge.Distance.Cosine, datatype=kind)
    shard = edge.EdgeShard.create(str(making / _ENGINE), edge.EdgeConfig(vectors={vector: params}))
    for field, type_ in indexes.items():
        schema = getattr(edge.PayloadSchemaType, type_.capitalize())
        shard.update(edge.UpdateOperation.create_field_index(field, schema))
    shard.close()
    making.replace(collection)


def _filter(where: dict[str, Any]) -> edge.Filter:
    """From the JSON of Qdrant's REST interface."""
    parts: dict[str, Any] = {clause: [_condition(each) for each in conditions] for clause, conditions in where.items()}
    return edge.Filter(**parts)


def _condition(said: dict[str, Any]) -> Any:  # noqa: ANN401
    if "is_null" in said:
        return edge.IsNullCondition(said["is_null"]["key"])
    if "key" not in said:
        return _filter(said)
    if "range" in said:
        return edge.FieldCondition(said["key"], range=edge.RangeFloat(**said["range"]))
    match = said["match"]
    if "any" in match:
        return edge.FieldCondition(said["key"], match=edge.MatchAny(match["any"]))
    value = match["value"]
    told: Any = _Truth(value) if isinstance(value, bool) else value
    return edge.FieldCondition(said["key"], match=edge.MatchValue(told))


class _Truth:
    """A bool that Edge takes for one: Python's own, and that of numpy 1, it takes for the numbers 1 and 0.

    Its binding knows a bool by its name, and asks nothing else of it.
    """

    def __init__(self, value: bool) -> None:
        self._value = value

    def __bool__(self) -> bool:
        return self._value


_Truth.__module__, _Truth.__name__, _Truth.__qualname__ = "numpy", "bool", "bool"


def main() -> None:
    """Answer requests from standard input until it ends."""
    # Whatever else in this process prints, the parent must not read.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    shard = Shard()
    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)  # its own parent wrote it
        except (EOFError, pickle.UnpicklingError):  # the parent has closed it, or was killed
            break
        method: Callable[..., Any] = getattr(shard, name)
        try:
            answer: tuple[str, Any] = "ok", method(*arguments)
        except BusyError:
            answer = "busy", None
        except Exception as error:  # Edge raises nothing more precise
            answer = "error", str(error)
        try:
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
        except BrokenPipeError:  # the parent was killed
            break
    shard.close()


if __name__ == "__main__":
    main()
