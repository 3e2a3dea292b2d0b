"""The process in which Qdrant Edge runs: a loop that answers its parent, and ends with it.

Edge holds the GIL for as long as a call takes, up to minutes: in the process that feeds a GPU it would stop everything.
This file is run directly, without the rest of the kit, so that it starts in a moment.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import shutil
import signal
import sys
import uuid  # noqa: F401  # Edge imports it later, when this process may have lost the permission to read it
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge
from filelock import FileLock, Timeout

# With fewer points, a search that compares all takes about ten milliseconds, and building an index takes minutes.
_UNINDEXED = 50_000

_LOOKED_AT = 500  # points per request

_DROPPED = "dropped"  # where a collection is while it is being removed
_EXCHANGE = "exchange"  # which two folders are being exchanged, until that is done

# Edge's defaults for an index, which takes all of them or none.
_M, _EF_CONSTRUCT, _FULL_SCAN_KB = 16, 100, 10_000


_Words = tuple[list[int], list[float]]  # the ids of terms, and their weights


class BusyError(Exception):
    """Another process has the collection open."""


class Shard:
    """The requests that the parent can make; each method is one."""

    def __init__(self) -> None:
        self._shard: edge.EdgeShard | None = None
        self._lock: FileLock | None = None  # released when the process ends, for whatever reason
        self._mark = Path()
        self._opened_as: tuple[int, int] | None = None
        self._whole = False

    @property
    def _opened(self) -> edge.EdgeShard:
        assert self._shard is not None, "the parent opens it first"  # noqa: S101
        return self._shard

    def open(
        self,
        folder: str,
        beside: str,
        engine: str,
        mark: str,
        patience: float,
        new: dict[str, Any] | None,
        rights: tuple[int, int] | None,
    ) -> tuple[tuple[int, int] | None, int]:
        """Open a collection; create it if it does not exist and `new` says how.

        beside: a folder for the collection before it exists; it stays when the collection is removed. engine: Edge's
        own folder inside the collection's. mark: a file that exists while a process has the collection open; if it
        already exists, the previous process was killed. rights: the user and group to become, for root.
        Return the identity of this opening's mark, and how many points could not be read.

        Edge has a lock, but reads the segments before it takes it: a process that waits for it sees them as they were
        before the previous one wrote out its data. So nothing of a collection is touched before our own lock is held.
        """
        if rights is not None:  # not at the start, because they may not include reading the interpreter's own files
            os.setgroups([])
            os.setgid(rights[1])
            os.setuid(rights[0])
        Path(beside).mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(Path(beside, "lock"), mode=0o600)
        try:
            self._lock.acquire(patience)
        except Timeout:
            raise BusyError from None
        shutil.rmtree(Path(beside, _DROPPED), ignore_errors=True)  # left by a process killed while removing it
        _finish_exchange(Path(beside, _EXCHANGE), Path(folder))
        if new is not None and not Path(folder, engine).exists():
            _make(Path(beside, "making"), engine, **new).replace(folder)
        self._mark = Path(folder, mark)
        killed = self._mark.exists()
        self._mark.touch()  # before loading, because that writes as well
        self._opened_as = _identity(self._mark)
        try:
            self._shard = edge.EdgeShard.load(str(Path(folder, engine)))
        except Exception as error:  # Edge raises nothing more specific
            if "WAL" not in str(error) or "WouldBlock" not in str(error):
                raise
            if not killed:
                self._mark.unlink()
            raise BusyError from None  # a program other than this kit has it open
        lost = self._mend() if killed else 0
        self._whole = True
        return self._opened_as, lost

    def _mend(self) -> int:
        """Remove the points that a kill during a write has left unreadable; an ingest writes them again."""
        if lost := list(self._unreadable()):
            # Edge reads a point to remove it, so the points first get a readable payload.
            self._opened.update(edge.UpdateOperation.overwrite_payload(lost, {}))
            self.delete(lost)
            self._opened.flush()
        return len(lost)

    def _unreadable(self) -> Iterator[Any]:
        offset = None
        while True:
            request = edge.ScrollRequest(offset=offset, limit=_LOOKED_AT, with_payload=False, with_vector=False)
            found, offset = self._opened.scroll(request)
            yield from self._unreadable_of([each.id for each in found])
            if offset is None:
                return

    def _unreadable_of(self, ids: list[Any]) -> Iterator[Any]:
        """Find unreadable points by bisection: one of them makes any request that includes it fail."""
        try:
            self._opened.retrieve(ids, True, True)
        except Exception:  # Edge raises nothing more specific
            if len(ids) == 1:
                yield ids[0]
            else:
                yield from self._unreadable_of(ids[: len(ids) // 2])
                yield from self._unreadable_of(ids[len(ids) // 2 :])

    def upsert(
        self,
        name: str,
        ids: Sequence[str],
        vectors: np.ndarray[Any, Any],
        payloads: Sequence[dict[str, Any]],
        sparse: str,
        words: Sequence[_Words] | None,
    ) -> None:
        """Write points, with their words in the vector `sparse`; when it returns, they are in the log on disk."""
        named: list[dict[str, Any]] = [{name: vector} for vector in vectors.tolist()]
        if words is not None:
            named = [{**each, sparse: edge.SparseVector(*own)} for each, own in zip(named, words, strict=True)]
        points = [edge.Point(*each) for each in zip(ids, named, payloads, strict=True)]
        self._opened.update(edge.UpdateOperation.upsert_points(points))

    def add_words(self, name: str) -> None:
        """Let points have a sparse vector of that name."""
        self._opened.update(edge.UpdateOperation.create_sparse_vector(name, edge.Modifier.Idf))

    def remove_words(self, name: str) -> None:
        """Remove a vector from all points."""
        self._opened.update(edge.UpdateOperation.delete_vector_name(name))

    def write_words(self, name: str, ids: Sequence[str], words: Sequence[_Words]) -> None:
        """Write the words of existing points."""
        vectors = [edge.PointVectors(id_, {name: edge.SparseVector(*own)}) for id_, own in zip(ids, words, strict=True)]
        self._opened.update(edge.UpdateOperation.update_vectors(vectors))

    def mark_words(self, name: str, text: str | None) -> None:
        """Write a file next to the engine's folder, atomically, after flushing all earlier writes; None removes it."""
        file = self._mark.with_name(name)
        if text is None:
            file.unlink(missing_ok=True)
            return
        self._opened.flush()
        _write(file.with_name(f"{name}.new"), text)
        file.with_name(f"{name}.new").replace(file)

    def set_payloads(self, payloads: dict[str, dict[str, Any]]) -> None:
        """Change payloads of existing points."""
        for id_, payload in payloads.items():
            self._opened.update(edge.UpdateOperation.set_payload([id_], payload))

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points."""
        self._opened.update(edge.UpdateOperation.delete_points(list(ids)))

    def delete_where(self, where: dict[str, Any]) -> None:
        """Remove the points that match a filter."""
        self._opened.update(edge.UpdateOperation.delete_points_by_filter(_filter(where)))

    def scroll(
        self,
        where: dict[str, Any] | None,
        offset: str | int | None,
        limit: int,
        fields: list[str] | None,
        name: str | None,
        words: str | None,
    ) -> tuple[list[tuple[str, dict[str, Any], Any, _Words | None]], str | int | None]:
        """Return a page of points by their ids, with the vectors of these names, and where the next page begins."""
        request = edge.ScrollRequest(
            offset=offset,
            limit=limit,
            filter=None if where is None else _filter(where),
            with_payload=True if fields is None else fields,
            with_vector=[each for each in (name, words) if each is not None] or False,
        )
        found, following = self._opened.scroll(request)
        vectors = [each.vector for each in found]  # once, because each access makes lists of all numbers
        points = [
            (str(each.id), each.payload or {}, _own(own, name), _words(own, words))
            for each, own in zip(found, vectors, strict=True)
        ]
        # Points of other programs may have integer ids. Edge's UUIDs cannot be pickled.
        return points, following if following is None or isinstance(following, int) else str(following)

    def search(
        self,
        name: str,
        words: str,
        queries: list[tuple[list[float] | _Words, int, dict[str, Any] | None, bool, int | None, bool]],
    ) -> list[list[tuple[str, dict[str, Any], Any, float]]]:
        """Return the best points for each query: vector or terms, limit, filter, exact, candidates, with vectors."""
        requests = [
            edge.QueryRequest(
                limit=limit,
                query=_query(asked, name, words),
                filter=None if where is None else _filter(where),
                with_payload=True,
                with_vector=[name] if with_vectors else False,
                params=_of_living() if isinstance(asked, tuple) else _params(exact, ef),
            )
            for asked, limit, where, exact, ef, with_vectors in queries
        ]
        answers = self._opened.query_batch(edge.QueryBatchRequest(requests))
        owns = [name if with_vectors else None for *_, with_vectors in queries]
        return [
            [(str(each.id), each.payload or {}, _own(each.vector, own), each.score) for each in found]
            for own, found in zip(owns, answers, strict=True)
        ]

    def count(self, where: dict[str, Any] | None) -> int:
        """Return how many points match a filter."""
        return self._opened.count(edge.CountRequest(exact=True, filter=None if where is None else _filter(where)))

    def payload_schema(self) -> dict[str, str]:
        """Return the paths that have an index, and the kind of each."""
        found = self._opened.info().payload_schema.items()
        return {path: str(each.data_type).rpartition(".")[2].lower() for path, each in found}

    def build_indexes(self) -> None:
        """Build an index if it is worth the time."""
        info = self._opened.info()
        if info.points_count - info.indexed_vectors_count > _UNINDEXED:
            self._opened.optimize()
        self._opened.flush()

    def drop(self, folder: str, beside: str) -> None:
        """Remove the collection: for others it disappears at once, and the lock is held until this process ends."""
        self._opened.close()
        self._shard = None
        Path(folder).replace(Path(beside, _DROPPED))
        shutil.rmtree(Path(beside, _DROPPED))

    def exchange(self, beside: str, new: str, kept: str, told_by: str) -> None:
        """Give the collection's folder to the new collection, and its own files to `kept`; the lock is held until then.

        At each instant one of the two has the folder. If this process is killed in between, the next process that opens
        the folder finishes the exchange. told_by: a file of each collection that distinguishes it from others.
        """
        folder = self._mark.parent
        self.close()
        self._shard = None
        file = Path(beside, _EXCHANGE)
        _write(file, json.dumps({"new": new, "kept": kept, "told_by": told_by, "id": _identity(Path(new, told_by))}))
        _swap(folder, Path(new))
        _finish_exchange(file, folder)

    def close(self) -> None:
        """Write out the data in memory and release it. Write nothing if the folder has been replaced."""
        if self._shard is None:
            return
        if _identity(self._mark) != self._opened_as:
            os._exit(0)  # Edge would write even when it is deleted
        self._shard.close()
        if self._whole:
            self._mark.unlink()


def _identity(mark: Path) -> tuple[int, int] | None:
    try:
        found = mark.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _finish_exchange(file: Path, folder: Path) -> None:
    """If a folder was exchanged, give its former files their new name."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no exchange, or a process was killed while it wrote this, before it did anything
        file.unlink(missing_ok=True)
        return
    new, kept = Path(said["new"]), Path(said["kept"])
    if _identity(folder / said["told_by"]) == tuple(said["id"]) and new.exists() and not kept.exists():
        new.rename(kept)
    file.unlink()


def _swap(one: Path, other: Path) -> None:
    """Exchange two folders in one step."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        failed = libc.renamex_np(*names, 2)  # RENAME_SWAP
    else:
        failed = libc.renameat2(-100, names[0], -100, names[1], 2)  # AT_FDCWD, RENAME_EXCHANGE
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))


def _make(
    making: Path,
    engine: str,
    *,
    files: dict[str, str],
    vector: str,
    sparse: str | None,
    dimensions: int,
    precision: str,
    indexes: dict[str, str],
    hnsw: tuple[int | None, int | None] | None,
) -> Path:
    """Create a collection to be moved into place as a whole, so that a killed process leaves nothing there."""
    shutil.rmtree(making, ignore_errors=True)
    (making / engine).mkdir(parents=True)
    for name, text in files.items():
        _write(making / name, text)
    kind = edge.VectorStorageDatatype.Float16 if precision == "float16" else edge.VectorStorageDatatype.Float32
    params = edge.EdgeVectorParams(
        size=dimensions,
        distance=edge.Distance.Cosine,
        datatype=kind,
        hnsw_config=hnsw and edge.HnswIndexConfig(hnsw[0] or _M, hnsw[1] or _EF_CONSTRUCT, _FULL_SCAN_KB),
    )
    words = {sparse: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)} if sparse is not None else None
    config = edge.EdgeConfig(vectors={vector: params}, sparse_vectors=words)
    shard = edge.EdgeShard.create(str(making / engine), config)
    for field, type_ in indexes.items():
        schema = getattr(edge.PayloadSchemaType, type_.capitalize())
        shard.update(edge.UpdateOperation.create_field_index(field, schema))
    shard.close()
    return making


def _write(file: Path, text: str) -> None:
    with file.open("w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


def _query(asked: list[float] | _Words, name: str, words: str) -> Any:  # noqa: ANN401
    if isinstance(asked, tuple):
        return edge.Query.Nearest(edge.SparseVector(*asked), using=words)
    return edge.Query.Nearest(asked, using=name)


def _params(exact: bool, ef: int | None) -> edge.SearchParams | None:
    return edge.SearchParams(exact=True) if exact else edge.SearchParams(hnsw_ef=ef) if ef else None


def _of_living() -> edge.SearchParams:
    """Return parameters that count a term's rarity among existing points; by default Edge includes deleted ones."""
    return edge.SearchParams(idf=edge.IdfParams(corpus=edge.Filter()))


def _words(vectors: Any, name: str | None) -> _Words | None:  # noqa: ANN401
    own = (vectors or {}).get(name)
    return None if own is None else (list(own.indices), list(own.values))


def _own(vectors: Any, name: str | None) -> np.ndarray[Any, Any] | None:  # noqa: ANN401
    own = (vectors or {}).get(name)  # a point of another program may have no such vector
    return None if own is None else np.array(own, np.float32)


def _filter(where: dict[str, Any]) -> edge.Filter:
    """Return a filter from the JSON of Qdrant's REST interface."""
    parts: dict[str, Any] = {clause: [_condition(each) for each in conditions] for clause, conditions in where.items()}
    return edge.Filter(**parts)


def _condition(said: dict[str, Any]) -> Any:  # noqa: ANN401, PLR0911  # a kind a line
    if "is_null" in said:
        return edge.IsNullCondition(said["is_null"]["key"])
    if "is_empty" in said:
        return edge.IsEmptyCondition(said["is_empty"]["key"])
    if "has_id" in said:
        return edge.HasIdCondition(set(said["has_id"]))
    if "has_vector" in said:
        return edge.HasVectorCondition(said["has_vector"])
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
    """A bool that Edge takes for a bool.

    Its MatchValue tries an integer before a bool, and in Python True is one: MatchValue(True) finds the number 1, and
    not true. A value that is not an integer and whose type is called numpy.bool, it takes for a bool (PyO3 accepts
    numpy's, and recognizes it by its name alone). A test will show when Edge no longer needs this.
    """

    def __init__(self, value: bool) -> None:
        self._value = value

    def __bool__(self) -> bool:
        return self._value


_Truth.__module__, _Truth.__name__, _Truth.__qualname__ = "numpy", "bool", "bool"


def main() -> None:
    """Answer requests from standard input until it ends."""
    os.umask(0o077)  # the files hold texts: no other user may read them
    # SIGTERM, which ends all processes of a service at once, is ignored: our parent ends us, after we have written
    # everything out.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The parent must not read anything else that is printed in this process.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    shard = Shard()
    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)  # written by its own parent
        except (EOFError, pickle.UnpicklingError):  # the parent closed it, was interrupted, or was killed
            break
        method: Callable[..., Any] = getattr(shard, name)
        try:
            answer: tuple[str, Any] = "ok", method(*arguments)
        except BusyError:
            answer = "busy", None
        except OSError as error:
            user = os.geteuid() if hasattr(os, "geteuid") else None
            answer = "denied", (error.errno, error.strerror, error.filename, user)
        except Exception as error:  # Edge raises nothing more specific
            answer = "error", str(error)
        try:
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
        except BrokenPipeError:  # the parent was killed
            break
    shard.close()


if __name__ == "__main__":
    main()
