"""A store in memory: exact, small, gone with the process. Other stores are compared with it."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from heapq import nsmallest
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from harrier_core.errors import SettingError, StoreMissing, StoreUnsuitable, WrongSpace
from harrier_core.filters import Condition, meets
from harrier_core.layout import StoreLayout
from harrier_core.lexical import Terms, document_terms
from harrier_core.query import BM25_DECIMALS, COSINE_DECIMALS, Search, WordSearch
from harrier_core.records import Chunk, Match
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Facts, Hashes, Lists, Stored, Write, Written

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MemoryStore:
    """A VectorStore without a database. Its place is the object itself, so `open` returns it."""

    def __init__(self, *, keywords: bool | None = None) -> None:
        """Create an empty store. keywords: whether to keep the words of chunks for search."""
        self._keywords = keywords
        self._words: dict[bytes, Terms] = {}  # of texts, by their hashes
        self._lock = threading.Lock()
        self._space: EmbeddingSpace | None = None
        self._stored: dict[str, dict[int, tuple[Chunk, NDArray[np.float32]]]] = {}
        self._ingested: datetime | None = None

    # -- the place

    def open(self, space: EmbeddingSpace, *, create: bool = False) -> MemoryStore:
        """Open the store and return it. The first space that creates the store becomes its space."""
        with self._lock:
            if self._space is None and create:
                self._space = space
            if self._space is None:
                raise _missing()
            if self._space != space:
                raise WrongSpace(f"this store is of another space: {self._space.explain(space)}; use another store")
        return self

    def layout(self) -> StoreLayout:
        """Return the layout: float32 vectors, and whether words are kept."""
        return StoreLayout("float32", keywords=bool(self._keywords))

    def adopt(self, layout: StoreLayout) -> None:
        """Adopt the layout's choice to keep words or not, if the store is new and was created without one."""
        if self._space is None and self._keywords is None:
            self._keywords = layout.keywords

    def space(self) -> EmbeddingSpace | None:
        """Return the space of the store, or None before it is created."""
        return self._space

    def describe(self) -> Facts:
        """Return the store's space and size."""
        if self._space is None:
            raise _missing()
        records = len(list(self.record_ids()))
        return Facts(self._space, self.count(), records=records, keywords=bool(self._keywords), ingested=self._ingested)

    def note_ingest(self, when: datetime) -> None:
        """Record when an ingest last changed something."""
        self._ingested = when

    def drop(self) -> None:
        """Forget everything, including the space."""
        with self._lock:
            self._space = None
            self._stored = {}

    def close(self) -> None:
        """Do nothing: another Index may continue to use it."""

    def __repr__(self) -> str:
        return "MemoryStore()"

    def __str__(self) -> str:
        return f"MemoryStore() at {id(self):#x}"  # two of them are two places

    def __reduce__(self) -> NoReturn:
        raise SettingError("a MemoryStore cannot be pickled: what is stored is in this process; use another store")

    @property
    def _records(self) -> dict[str, dict[int, tuple[Chunk, NDArray[np.float32]]]]:
        """The stored records. Raise StoreMissing if the store was dropped after it was opened."""
        if self._space is None:
            raise _missing()
        return self._stored

    # -- writing

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """Return the hashes of the chunks of those records that are there."""
        with self._lock:
            return self._known(record_ids)

    def _known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        return {
            record_id: {number: chunk.hash for number, (chunk, _) in self._records[record_id].items()}
            for record_id in record_ids
            if record_id in self._records
        }

    def write(self, write: Write) -> Written:
        """Write everything under one lock."""
        with self._lock:
            split = write.split(self._known(list(write.sizes)))
            for chunk, vector in zip(split.write.encoded, split.write.vectors, strict=True):
                self._records.setdefault(chunk.record_id, {})[chunk.number] = chunk, vector
            for chunk in split.write.described:
                own = self._records[chunk.record_id]
                own[chunk.number] = chunk, own[chunk.number][1]
            for record_id, number in split.stale:
                del self._records[record_id][number]
                if not self._records[record_id]:
                    del self._records[record_id]
        return Written(len(split.stale), split.changed)

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records, and return how many chunks they had."""
        with self._lock:
            return sum(len(self._records.pop(record_id, ())) for record_id in set(record_ids))

    def build_indexes(self) -> None:
        """Do nothing: there are no indexes."""

    # -- reading

    def search(self, search: Search) -> list[list[Match]]:
        """Compare the queries with all chunks."""
        stored = list(self.read(None, search.where))
        if not stored:
            return [[] for _ in search.vectors]
        cosines = search.vectors @ np.stack([each.vector for each in stored]).T  # (queries, chunks)
        keys = [_key(each.chunk) for each in stored]
        found = []
        for row in cosines.tolist():
            best = nsmallest(search.k, range(len(keys)), key=lambda at: (-round(row[at], COSINE_DECIMALS), keys[at]))
            found.append([_match(stored[at], row[at], with_vector=search.with_vectors) for at in best])
        return found

    def keywords_problem(self) -> str | None:
        """Return None if the store keeps the words of chunks, or else what to do."""
        if self._keywords:
            return None
        return (
            "this store was created without keywords=True; add words to its chunks with add_keywords() or `harrier "
            "keywords PLACE`, which need no model"
        )

    def add_keywords(self, tell: Callable[[int], None]) -> None:
        """Keep the words of chunks from now on."""
        self._keywords = True
        tell(self.count())

    def wrong_keywords(self) -> Iterator[Chunk]:
        """Yield nothing: words are computed from the texts on demand."""
        return iter(())

    def search_words(self, search: WordSearch) -> list[Lists]:
        """Compare the queries with all chunks."""
        if problem := self.keywords_problem():
            raise StoreUnsuitable(problem)
        near = [[] for _ in search.terms] if search.near is None else self.search(search.near)
        every = list(self.read())
        terms = [self._terms(each.chunk) for each in every]
        rarity = _rarity(terms)
        met = [at for at, each in enumerate(every) if meets(each.chunk.metadata, search.where)]
        found = []
        for asked in search.terms:
            scores = {at: _bm25(asked, terms[at], rarity) for at in met}
            having = [at for at, score in scores.items() if score]
            order = {at: (-round(scores[at], BM25_DECIMALS), _key(every[at].chunk)) for at in having}
            best = nsmallest(search.k, having, key=order.__getitem__)
            found.append([_worded(every[at], scores[at], search) for at in best])
        return list(zip(found, near, strict=True))

    def _terms(self, chunk: Chunk) -> Mapping[int, float]:
        if chunk.text_hash not in self._words:
            self._words[chunk.text_hash] = document_terms(chunk.text)
        words = self._words[chunk.text_hash]
        return dict(zip(words.ids, words.weights, strict=True))

    def read(
        self,
        record_ids: Sequence[str] | None = None,
        where: Condition | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[Stored]:
        """Yield the chunks that are stored now."""
        with self._lock:
            ids = self._records if record_ids is None else dict.fromkeys(record_ids)
            stored = [each for id_ in ids for each in self._records.get(id_, {}).values()]
        return (
            Stored(chunk, vector)
            for chunk, vector in stored
            if meets(chunk.metadata, where) and (numbers is None or chunk.number in numbers)
        )

    def record_ids(self) -> Iterator[str]:
        """Yield the ids that are stored now."""
        with self._lock:
            return iter(list(self._records))

    def count(self) -> int:
        """Return how many chunks there are."""
        with self._lock:
            return sum(map(len, self._records.values()))


def _missing() -> StoreMissing:
    return StoreMissing("there is nothing in this store; ingest something into it first")


def _key(chunk: Chunk) -> tuple[str, int]:
    return chunk.record_id, chunk.number


def _rarity(terms: Sequence[Mapping[int, float]]) -> Mapping[int, float]:
    """Return the inverse document frequency of each term, as defined by Lucene and Qdrant."""
    number = len(terms)
    chunks = Counter(term for own in terms for term in own)
    return {term: math.log(1 + (number - with_it + 0.5) / (with_it + 0.5)) for term, with_it in chunks.items()}


def _bm25(asked: Terms, own: Mapping[int, float], rarity: Mapping[int, float]) -> float:
    shared = ((term, boost) for term, boost in zip(asked.ids, asked.weights, strict=True) if term in own)
    return sum(boost * rarity[term] * own[term] for term, boost in shared)


def _worded(stored: Stored, score: float, search: WordSearch) -> Match:
    return Match(stored.chunk, score, None, stored.vector if search.with_vectors else None)


def _match(stored: Stored, cosine: float, *, with_vector: bool) -> Match:
    return Match(stored.chunk, cosine, cosine, stored.vector if with_vector else None)
