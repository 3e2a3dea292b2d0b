"""One block of an ingest of many parts: ingested by any process that unpickles the part."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Self

from harrier_core.checks import check_integer
from harrier_core.chunking import Cuts
from harrier_core.chunking import cut as cut_record
from harrier_core.ingest import Ingest
from harrier_core.records import Deferred, Ingestible, IngestReport, Record, id_hash, to_json
from harrier_core.store import Hashes, Stored, Write, Written

if TYPE_CHECKING:
    from harrier_core.filters import Condition
    from harrier_core.index import Index
    from harrier_core.progress import Progress
    from harrier_core.space import EmbeddingSpace
    from harrier_core.store import IngestStore

ID_BYTES, CONTENT_BYTES = 8, 4


@dataclass(frozen=True, slots=True)
class PartReport:
    """The report of a part of an ingest. It can be pickled, and two of them can be added."""

    report: IngestReport = field(default_factory=IngestReport)
    rows: int = 0  # given to it, valid or not
    ids: bytes = b""  # hashes of the ids that occurred, 8 bytes each
    contents: bytes = b""  # hashes of the content of each, 4 bytes each; zero if it was rejected
    nameless: tuple[str, ...] = ()  # why records without an id were rejected
    space: EmbeddingSpace | None = None  # of its vectors
    remembered: tuple[tuple[str, bytes], ...] = ()  # for a memory

    @classmethod
    def given_up(cls, record_id: str, reason: str) -> Self:
        """Return the report of a part with one record, which was not ingested."""
        ids, contents = id_hash(record_id).to_bytes(ID_BYTES), bytes(CONTENT_BYTES)
        return cls(IngestReport(records=1, rejected=[(record_id, reason)]), 1, ids, contents)

    def __add__(self, other: PartReport) -> PartReport:
        """Return the report of both parts."""
        names = ("report", "rows", "ids", "contents", "nameless", "remembered")
        added = {name: getattr(self, name) + getattr(other, name) for name in names}
        return PartReport(**added, space=self.space or other.space)


class IngestPart:
    """Ingests one block of records into an index per call. Pruning and building indexes are left to `finish`.

    It pickles as the settings of the index. A process keeps the index open from its first block on, so the model is
    loaded once, however many copies are unpickled there. Any number of threads may call it at once: with two, the model
    does not wait between blocks.
    """

    def __init__(self, index: Index, *, connections: int = 2) -> None:
        """Take an index. connections: how many connections to the store a process uses at most."""
        check_integer("connections", connections, 1)
        self.index = index
        self.connections = connections
        self._opened: _Opened | None = None

    def __call__(
        self,
        records: Iterable[Ingestible],
        *,
        cuts: Mapping[str, Cuts] | None = None,
        on_progress: Progress | None = None,
        remember: bool = False,
    ) -> PartReport:
        """Ingest a block. Doing so again changes nothing.

        cuts: where the records of these ids are cut, as `cut` returns it. remember: also return what a memory
        must keep of Deferred records.
        """
        index, (space, store) = self.index, self._open().store
        contents: dict[int, bytes] = {}
        kept = _Kept()

        def note(record: Record) -> None:
            contents[id_hash(record.id)] = content_of(record)

        memory = kept if remember else None
        ingest = Ingest(index.encoder, index.chunking, on_progress, memory, cuts=cuts, note=note, journal=False)
        given = _Counted(records)
        report = ingest.run(store, given, build_indexes=False)
        ids = list(ingest.seen)
        return PartReport(
            report,
            given.number,
            b"".join([each.to_bytes(ID_BYTES) for each in ids]),
            b"".join([contents.get(each, bytes(CONTENT_BYTES)) for each in ids]),
            tuple(ingest.nameless),
            space,
            tuple(kept.pairs),
        )

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the vectors. Opens the store, and creates it if it does not exist."""
        return self._open().store[0]

    def close(self) -> None:
        """Close the index in this process; the next call opens it again."""
        with _lock:
            opened, self._opened = self._opened, None
            for key in [key for key, each in _open.items() if each is opened]:
                del _open[key]
        if opened is not None:
            opened.index.close()

    def _open(self) -> _Opened:
        if self._opened is None:
            with _lock:
                self._opened = self._opened or _Opened(self.index, self.connections)
        return self._opened

    def __getstate__(self) -> bytes:
        return pickle.dumps((self.index, self.connections))

    def __setstate__(self, state: bytes) -> None:
        with _lock:
            if state not in _open:
                index, connections = pickle.loads(state)  # noqa: S301  # pickled by `__getstate__`
                _open[state] = _Opened(index, connections)
            self._opened = _open[state]
        self.index, self.connections = self._opened.index, self._opened.connections


_lock = threading.RLock()


class _Opened:
    """An index that this process has open for its parts."""

    def __init__(self, index: Index, connections: int) -> None:
        self.index = index
        self.connections = connections
        self._lock = threading.Lock()
        self._store: tuple[EmbeddingSpace, _Bounded] | None = None

    @property
    def store(self) -> tuple[EmbeddingSpace, _Bounded]:
        """The store and its space, opened at the first call."""
        with self._lock:
            if self._store is None:
                space = self.index.encoder.space
                opened = self.index.store.open(space, create=True)
                self._store = space, _Bounded(opened, threading.Semaphore(self.connections))
            return self._store


_open: dict[bytes, _Opened] = {}  # by the pickled settings


class _Bounded:
    """An open store that only a few threads use at a time."""

    def __init__(self, store: IngestStore, free: threading.Semaphore) -> None:
        self._store = store
        self._free = free

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """Return the hashes of the chunks of those records that are stored."""
        with self._free:
            return self._store.known(record_ids)

    def write(self, write: Write) -> Written:
        """Write some records."""
        with self._free:
            return self._store.write(write)

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records."""
        with self._free:
            return self._store.delete(record_ids)

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records."""
        return self._store.record_ids()

    def read(
        self,
        record_ids: Sequence[str] | None = None,
        where: Condition | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[Stored]:
        """Yield chunks."""
        return self._store.read(record_ids, where, numbers)

    def build_indexes(self) -> None:
        """Build nothing: `finish` builds the indexes."""


class _Counted:
    """Records, counted as they are read."""

    def __init__(self, records: Iterable[Ingestible]) -> None:
        self._records = records
        self.number = 0

    def __iter__(self) -> Iterator[Ingestible]:
        for each in self._records:
            self.number += 1
            yield each


class _Kept:
    """A memory that holds nothing at first, and collects what is written to it."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, bytes]] = []

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return None for each key."""
        return [None] * len(keys)

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Collect the pairs."""
        self.pairs += key_value_pairs


@dataclass(frozen=True, slots=True)
class Held:
    """The `read` function of a Deferred record that was read already."""

    record: Record

    def __call__(self) -> Record:
        """Return the record."""
        return self.record


def held(deferred: Deferred, record: Record) -> Deferred:
    """Return a Deferred record that was read, which can be pickled if the record can."""
    return replace(deferred, read=Held(record))


def content_of(record: Record) -> bytes:
    """Return a hash of a record's text and metadata that is never zero."""
    said = blake2b(to_json(record.metadata), digest_size=CONTENT_BYTES - 1)
    said.update(record.text.encode())
    return said.digest() + b"\1"


def cut(record: Record, index: Index) -> Cuts:
    """Return where the chunks of a record begin and end, for the `cuts` of a part.

    One core cuts about a million tokens a second: with many GPUs, leave the cutting to other processes than theirs.
    """
    return cut_record(record, index.chunking, index.encoder.count_tokens)
