"""The source of a copy: the records of a store, whole, in windows of bounded size."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from harrier_core.contents import Contents
from harrier_core.layout import StoreLayout
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Hashes, IngestStore, LaidOut, Stored, VectorStore

# The limits of a window. Several windows are in memory at once.
MOST_CHUNKS, MOST_BYTES = 1_000, 8 * 2**20
_FIRST = 100  # chunks, before their size is known
_IDS, _HASHES = 250, 10_000  # records and chunks whose hashes are looked up at once
_CHOSEN = 10  # chunks that are read at once, with those that their records have under each other's numbers

Key = tuple[str, int]  # of a chunk: its record's id, and its number


@dataclass(frozen=True, slots=True)
class Window:
    """Some complete records: their hashes, and a function that reads the chunks of some of them."""

    hashes: Mapping[str, Hashes]
    read: Callable[[Collection[str]], Iterable[Stored]]

    @property
    def chunks(self) -> int:
        """The number of chunks that its records have."""
        return sum(map(len, self.hashes.values()))


class Source(Protocol):
    """Anything that can be copied."""

    @property
    def space(self) -> EmbeddingSpace:
        """The space of its vectors."""

    @property
    def layout(self) -> StoreLayout:
        """Its layout."""

    def count(self) -> int:
        """Return how many chunks there are."""

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records, each once, in any order."""

    def hashes(self) -> Iterator[Mapping[str, Hashes]]:
        """Yield the hashes of all records, some records at a time, each once and complete."""

    def windows(self) -> Iterator[Window]:
        """Yield all records, each once. Windows may be read on any thread, in any order."""

    def chosen(self, keys: Sequence[Key]) -> dict[Key, Stored]:
        """Return the chunks with these keys; missing ones are left out."""


class StoreSource:
    """A store as a source."""

    def __init__(self, store: VectorStore) -> None:
        """Open the store. Raise StoreMissing if nothing is stored."""
        self.space = Contents(store).space()
        self.layout = store.layout() if isinstance(store, LaidOut) else StoreLayout()
        self._opened = store.open(self.space)
        self._size = Size()

    def count(self) -> int:
        """Return how many chunks there are."""
        return self._opened.count()

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records, each once, in any order."""
        return self._opened.record_ids()

    def windows(self) -> Iterator[Window]:
        """Yield all records; those that are written meanwhile may be among them."""
        for hashes in self.hashes():
            window: dict[str, Hashes] = {}
            chunks = 0
            for record_id, own in hashes.items():
                if window and chunks + len(own) > self._size.most:
                    yield Window(window, self._read)
                    window, chunks = {}, 0
                window[record_id] = own
                chunks += len(own)
            if window:
                yield Window(window, self._read)

    def hashes(self) -> Iterator[Mapping[str, Hashes]]:
        """Yield the hashes of all records, some records at a time."""
        ids = self._opened.record_ids()
        most = _IDS
        while batch := list(islice(ids, most)):
            hashes = self._opened.known(batch)
            yield hashes
            chunks = sum(map(len, hashes.values()))
            most = max(1, min(_IDS, _HASHES * len(batch) // max(1, chunks)))

    def _read(self, record_ids: Collection[str]) -> Iterator[Stored]:
        for stored in self._opened.read(list(record_ids)):
            self._size.learn(stored)
            yield stored

    def chosen(self, keys: Sequence[Key]) -> dict[Key, Stored]:
        """Return the chunks with these keys; missing ones are left out."""
        return chosen(self._opened, keys)


def chosen(store: IngestStore, keys: Sequence[Key]) -> dict[Key, Stored]:
    """Return the chunks of a store that have these keys; missing ones are left out."""
    wanted = set(keys)
    found: dict[Key, Stored] = {}
    for begin in range(0, len(keys), _CHOSEN):
        some = keys[begin : begin + _CHOSEN]
        ids, numbers = list(dict.fromkeys(id_ for id_, _ in some)), sorted({number for _, number in some})
        found |= {key_of(each): each for each in store.read(ids, None, numbers) if key_of(each) in wanted}
    return found


def key_of(stored: Stored) -> Key:
    """Return the key of a chunk."""
    return stored.chunk.record_id, stored.chunk.number


class Size:
    """The number of chunks in a window, by the size of those that were read. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks = self._bytes = 0

    @property
    def most(self) -> int:
        """The number of chunks that a window should have."""
        with self._lock:
            if not self._chunks:
                return _FIRST
            return max(1, min(MOST_CHUNKS, MOST_BYTES * self._chunks // max(1, self._bytes)))

    def learn(self, stored: Stored) -> None:
        """Learn from the size of a chunk."""
        with self._lock:
            self._chunks += 1
            self._bytes += stored.vector.nbytes + len(stored.chunk.text)
