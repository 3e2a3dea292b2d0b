"""QdrantStore: chunks and vectors in one collection of Qdrant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from harrier_core.errors import SettingError, StoreMissing, StoreUnsuitable
from harrier_core.filters import Condition, meets
from harrier_core.records import Match, chunk_id
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Hashes, Stored, Write, Written
from harrier_qdrant.connection import Connection
from harrier_qdrant.embedded import Edge
from harrier_qdrant.filters import CHUNKS, both, compile_condition, of_hashes, of_records
from harrier_qdrant.folder import resolved
from harrier_qdrant.place import Place
from harrier_qdrant.points import HASH, NUMBER, RECORD, TOLD_BY
from harrier_qdrant.schema import Layout
from harrier_qdrant.server import Server

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray
    from qdrant_client import QdrantClient

    Vectors = NDArray[np.float32]

_RECORDS = 1_000  # of one look-up: a filter that names them all


class QdrantStore:
    """A collection of chunks in Qdrant. Making one connects to nothing; any number of threads may use it at once."""

    def __init__(
        self,
        url: str | QdrantClient,
        *,
        collection: str = "documents",
        api_key: str | None = None,
        retry_for: float = 60.0,
        timeout: float = 30.0,
        **layout: Any,  # noqa: ANN401
    ) -> None:
        """A collection on the server at a URL, or of a client, which stays its owner's.

        url: http://host:6333, host:6333, a QdrantClient (of a server or in local mode), or ":memory:" for a client in
        local mode that is closed with the store. For a collection in a folder, use `QdrantStore.embedded(folder)`.
        retry_for: how many seconds a server may be away before a request is given up; timeout: of one request.
        layout: how a new collection is made, as `harrier_qdrant.Layout` lists it: vector, precision, quantization,
        on_disk, indexes, shards, replicas, write_consistency.
        """
        _check_name(collection)
        own = _layout(layout)
        connection = Connection(url, api_key=api_key, retry_for=retry_for, timeout=timeout)
        self._use(Server(connection, collection, own), own)

    @classmethod
    def embedded(cls, folder: str | Path, *, collection: str = "documents", **layout: Any) -> Self:  # noqa: ANN401
        """A collection in a folder, by Qdrant Edge: the engine itself, for one process at a time."""
        _check_name(collection)
        store, own = cls.__new__(cls), _layout(layout)
        store._use(Edge(resolved(folder) / collection, own), own)
        return store

    def _use(self, place: Place, layout: Layout) -> None:
        self._place = place
        self._layout = layout
        self._space: EmbeddingSpace | None = None
        self._closed = False

    # -- opening

    def open(self, space: EmbeddingSpace, *, write: bool) -> None:
        """Make sure that the collection's vectors are of this space; to write, make it if there is none."""
        shape = self._place.shape()
        if shape is None:
            if not write:
                raise StoreMissing(f"there is no collection {self._place}; ingest something into it first")
            self._place.create(space)
            shape = self._place.shape()
        if shape is None:
            raise StoreUnsuitable(f"collection {self._place} was removed by somebody else; try again")
        shape.check(str(self._place), self._layout.vector, space)
        self._space = space

    # -- writing

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """The hashes of the chunks of those records that are there."""
        found: dict[str, Hashes] = {}
        for begin in range(0, len(record_ids), _RECORDS):
            where = of_records(record_ids[begin : begin + _RECORDS])
            for each in self._place.scroll(where, TOLD_BY, with_vectors=False):
                if not each.alien(TOLD_BY):
                    own = found.setdefault(each.payload[RECORD], {})
                    own[each.payload[NUMBER]] = bytes.fromhex(each.payload[HASH])
        return found

    def write(self, write: Write) -> Written:
        """The new chunks until they are safe, and only then the removal of what their records no longer have.

        Qdrant has no transactions. Where others may write at the same time, what became of the records is looked at
        once more: whoever finds a mixture plans anew, so the last one leaves each record whole.
        """
        with self._place.writing():
            after = write.after()
            stored = self.known(list(write.sizes)) if any(write.known.values()) or not self._place.may_race else {}
            changed = {
                record_id
                for record_id, known in write.known.items()
                if stored.get(record_id, {}) not in (known, after[record_id])
            }
            rejected = self._upsert(write, changed)
            left_out = changed | rejected.keys()
            self._describe(write, left_out)
            stale = [
                chunk_id(record_id, number)
                for record_id, numbers in stored.items()
                if record_id not in left_out
                for number in numbers
                if number >= write.sizes[record_id]
            ]
            if stale:
                self._place.delete(stale)
            if self._place.may_race:
                changed |= self._mixed(after, left_out)
            return Written(len(stale), sorted(changed), rejected)

    def _upsert(self, write: Write, changed: set[str]) -> dict[str, str]:
        """Why records were refused. Their new chunks are taken back; an ingest writes anew what was overwritten."""
        import numpy as np

        wrong = np.flatnonzero(~np.isfinite(write.vectors).all(axis=1))
        refused = {write.encoded[row].record_id: "gets a vector that is not finite" for row in wrong.tolist()}
        left_out = changed | refused.keys()
        rows = [row for row, chunk in enumerate(write.encoded) if chunk.record_id not in left_out]
        chunks = [write.encoded[row] for row in rows]
        if chunks:
            refused |= self._place.upsert(chunks, write.vectors[rows])
        new = [
            each.id for each in chunks if each.record_id in refused and each.number not in write.known[each.record_id]
        ]
        if new:
            self._place.delete(new)
        return refused

    def _describe(self, write: Write, left_out: set[str]) -> None:
        chunks = [chunk for chunk in write.described if chunk.record_id not in left_out]
        if chunks:
            self._place.describe(chunks)

    def _mixed(self, after: dict[str, Hashes], left_out: set[str]) -> set[str]:
        """Records that are not as they were just written; mostly there are none, which two counts tell."""
        wanted = {record_id: hashes for record_id, hashes in after.items() if record_id not in left_out}
        where = of_records(list(wanted))
        hashes = sorted({hash_.hex() for own in wanted.values() for hash_ in own.values()})
        number = sum(map(len, wanted.values()))
        if number == self._place.count(where) == self._place.count(both(where, of_hashes(hashes))):
            return set()
        now = self.known(list(wanted))
        return {record_id for record_id, own in wanted.items() if now.get(record_id, {}) != own}

    def settle(self) -> None:
        """Build what searches need and a load should not wait for; a server does so by itself."""
        self._place.settle()

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records; how many chunks that were."""
        number = 0
        with self._place.writing():
            for begin in range(0, len(record_ids), _RECORDS):
                where = of_records(record_ids[begin : begin + _RECORDS])
                if found := self._place.count(where):
                    self._place.delete_where(where)
                    number += found
        return number

    # -- reading

    def search(
        self, vectors: Vectors, k: int, where: Condition | None, *, with_vectors: bool = False
    ) -> list[list[Match]]:
        """For each vector the k nearest chunks that meet the condition, best first."""
        return [self._search(vector, k, where, with_vectors) for vector in vectors]

    def _search(self, vector: NDArray[np.float32], k: int, where: Condition | None, with_vectors: bool) -> list[Match]:
        compiled = compile_condition(where)
        limit, own = k, compiled.filter
        while True:
            found = self._place.search(vector, limit, own, with_vectors=with_vectors)
            chunks = [each for each in found if not each.alien()]
            met = chunks if compiled.exact else [each for each in chunks if meets(each.metadata, where)]
            if len(met) >= k or len(found) < limit:
                return [each.match() for each in met[:k]]
            if len(chunks) < len(found) and own is compiled.filter:  # only then: the filter has a cost
                own = both(compiled.filter, CHUNKS)
            else:
                limit *= 4

    def read(self, record_ids: Sequence[str] | None = None, where: Condition | None = None) -> Iterator[Stored]:
        """The chunks of those records, or of all, that meet the condition, as they are needed."""
        compiled = compile_condition(where)
        lists = [None] if record_ids is None else _parts(record_ids, _RECORDS)
        for ids in lists:
            own = both(None if ids is None else of_records(ids), compiled.filter)
            for each in self._place.scroll(own, None, with_vectors=True):
                if each.alien() or each.vector is None:
                    continue
                if compiled.exact or meets(each.metadata, where):
                    yield each.stored()

    def audit(self, tell: Callable[[tuple[str, str]], None]) -> Iterator[Stored]:
        """Read all chunks; call `tell` with the id of each point that another program wrote, and the reason."""
        for each in self._place.scroll(None, None, with_vectors=True):
            why = each.alien() or (f"no vector {self._layout.vector!r}" if each.vector is None else None)
            if why:
                tell((each.id, f"is not a chunk that an Index wrote: it has {why}; it is ignored"))
            else:
                yield each.stored()

    def record_ids(self) -> Iterator[str]:
        """The ids of all records, each once, in any order."""
        seen: set[int] = set()  # hashes: some 70 bytes a record
        for each in self._place.scroll(None, TOLD_BY, with_vectors=False):
            if not each.alien(TOLD_BY) and hash(each.payload[RECORD]) not in seen:
                seen.add(hash(each.payload[RECORD]))
                yield each.payload[RECORD]

    def count(self) -> int:
        """How many chunks there are."""
        return self._place.count(CHUNKS)

    # -- life

    def close(self) -> None:
        """Let go of connections; an embedded Qdrant ends with the last store that has its folder open."""
        if not self._closed:
            self._closed = True
            self._place.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"QdrantStore({self._place})"


def _parts(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (ids[begin : begin + size] for begin in range(0, len(ids), size))


def _layout(settings: dict[str, Any]) -> Layout:
    """Check the names of layout settings, and return the layout."""
    known = [field.name for field in fields(Layout)]
    for name in settings:
        if name not in known:
            instead = "use collection=" if name == "collection_name" else f"it takes {', '.join(known)}"
            raise TypeError(f"QdrantStore got an unexpected keyword argument {name!r}; {instead}")
    return Layout(**settings)


def _check_name(collection: str) -> None:
    if not collection or collection in (".", "..") or set(collection) & set('/\\\0:*?"<>|') or len(collection) > 255:
        raise SettingError(f"a collection's name has no slashes or other marks of paths: {collection!r} has")
