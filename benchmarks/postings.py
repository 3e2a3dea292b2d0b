"""Stores in memory, fast enough for thousands of queries with many constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harrier_core.lexical import document_terms
from harrier_core.query import WordSearch
from harrier_core.records import Match
from harrier_core.store import Lists, Stored
from harrier_core.testing import MemoryStore
from harrier_core.types import Vectors


class Postings(MemoryStore):
    """A MemoryStore with an inverted index. It ignores conditions, and must not change after the first search."""

    def __init__(self) -> None:
        super().__init__(keywords=True)
        self._stored_now: list[Stored] = []
        self._having: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}

    def forget(self) -> None:
        """Extract the terms again at the next search, because the analyzer has changed."""
        self._having = {}

    def search_words(self, search: WordSearch) -> list[Lists]:
        """Return the best chunks by the sum of their term weights."""
        if not self._having:
            self._count()
        number = len(self._stored_now)
        near: Sequence[list[Match]] = [[] for _ in search.terms] if search.near is None else self.search(search.near)
        found: list[list[Match]] = []
        for asked in search.terms:
            scores = np.zeros(number)
            for term, boost in zip(asked.ids, asked.weights, strict=True):
                if term in self._having:
                    rows, weights = self._having[term]
                    scores[rows] += boost * np.log(1 + (number - len(rows) + 0.5) / (len(rows) + 0.5)) * weights
            best = np.argsort(-scores, kind="stable")[: search.k]
            found.append([Match(self._stored_now[at].chunk, float(scores[at])) for at in best if scores[at]])
        return list(zip(found, near, strict=True))

    def _count(self) -> None:
        self._stored_now = list(self.read())
        terms = [document_terms(each.chunk.text) for each in self._stored_now]
        ids = np.array([term for each in terms for term in each.ids])
        weights = np.array([weight for each in terms for weight in each.weights])
        rows = np.repeat(np.arange(len(terms)), [len(each.ids) for each in terms])
        order = np.argsort(ids, kind="stable")
        ids, weights, rows = ids[order], weights[order], rows[order]
        unique, starts = np.unique(ids, return_index=True)
        parts = zip(np.split(rows, starts[1:]), np.split(weights, starts[1:]), strict=True)
        self._having = dict(zip(unique.tolist(), parts, strict=True))


class Recorded(MemoryStore):
    """A store that returns the same lists for any search."""

    def __init__(self, lists: Sequence[Lists], vectors: Vectors) -> None:
        super().__init__(keywords=True)
        self._lists = list(lists)
        self.vectors = vectors

    def search_words(self, search: WordSearch) -> list[Lists]:  # noqa: ARG002
        """Return the recorded lists."""
        return self._lists

    def narrowed(self, share: float) -> Recorded:
        """Return a store whose cosines are squeezed into this share of their range."""
        if share == 1:
            return self
        lists = [(words, [replace(m, score=1 - share + share * m.score) for m in near]) for words, near in self._lists]
        return Recorded(lists, self.vectors)
