"""A search in progress: the next queries, as answers may contain points that do not count, and the results so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harrier_core.filters import Condition, meets
from harrier_core.query import BM25_DECIMALS, COSINE_DECIMALS, Search, WordSearch
from harrier_core.records import Match
from harrier_qdrant.backend import Query
from harrier_qdrant.filters import CHUNKS, Compiled, Filter, both, compile_condition, of_ids
from harrier_qdrant.points import Found

# Qdrant returns equal scores in varying order, and any of them at the cut-off. So more are requested than are wanted,
# until the last score is lower, or too many are equal.
_SPARE, _MOST_EQUAL = 10, 250

# How many chunks, with their texts, an answer may have because others did not count; or this many times k.
_LARGEST, _TIMES = 10_000, 4


class Loop(ABC):
    """Queries that are answered together. Those whose answers contain too many other points are repeated.

    Those that would need an answer of more than that are left for `scanning.scan`.
    """

    _decimals: int  # to which scores are compared

    def __init__(self, queries: Mapping[int, Query], number: int, k: int, most: int, where: Condition | None) -> None:
        """Take queries by the positions of their matches, `number` in all; their filters are made here.

        most: how many chunks with the best scores the k best are among, if they are found in parts.
        """
        self._k = k
        self._most = most
        self._longest = k + _MOST_EQUAL
        self._where = where
        self._compiled: Compiled = compile_condition(where)
        self._rows = list(queries)  # those still being searched for
        self.matches: list[list[Match]] = [[] for _ in range(number)]
        self.queries = [replace(each, filter=self._compiled.filter) for each in queries.values()]
        self.left: dict[int, Query] = {}  # by the positions of their matches
        self._added: dict[int, list[Found]] = {}  # the best of those, as far as they were searched

    @property
    def filter(self) -> Filter | None:
        """The filter for all that may meet the condition."""
        return self._compiled.filter

    def meets(self, found: Found) -> bool:
        """Return whether a chunk meets the condition."""
        return self._compiled.exact or meets(found.metadata, self._where)

    def among(self, rows: Sequence[int], ids: Sequence[str]) -> list[Query]:
        """Return queries for the best of these chunks; exact, because an index finds few of so few."""
        own = of_ids(ids)
        return [replace(self.left[row], filter=own, limit=self._most, exact=True) for row in rows]

    def add(self, rows: Sequence[int], answers: Sequence[Sequence[Found]]) -> None:
        """Take the answers to such queries, whose chunks were in no other ones."""
        for row, found in zip(rows, answers, strict=True):
            own = [*self._added.get(row, []), *(each for each in found if self.meets(each))]
            self._added[row] = sorted(own, key=lambda each: -each.score)[: self._most]

    def end(self) -> None:
        """Take what was added for the matches."""
        for row, found in self._added.items():
            self.matches[row] = self._best(found)

    @abstractmethod
    def _match(self, found: Found) -> Match:
        """Return a chunk as a match."""

    def _is_done(self, query: Query, found: Sequence[Found], met: Sequence[Found]) -> bool:
        """Return whether enough was found, although there may be more."""
        if len(met) < self._k:
            return False
        return self._score(found[-1]) < self._score(met[self._k - 1]) or query.limit >= self._longest

    def _best(self, met: Sequence[Found]) -> list[Match]:
        """Return the best of the chunks that meet the condition; equal ones are in the order of their keys."""
        matches = [self._match(each) for each in met]
        return sorted(matches, key=self._order)[: self._k]

    def _order(self, match: Match) -> tuple[float, str, int]:
        return -round(match.score, self._decimals), match.record_id, match.number

    def _score(self, found: Found) -> float:
        return round(found.score, self._decimals)

    def goes_on(self, answers: Sequence[Sequence[Found]]) -> bool:
        """Take the answers to `queries`, and return whether there are more in `queries` now."""
        rows: list[int] = []
        queries: list[Query] = []
        for row, query, found in zip(self._rows, self.queries, answers, strict=True):
            again = self._taken(row, query, found)
            if again is not None:
                rows.append(row)
                queries.append(again)
        self._rows, self.queries = rows, queries
        return bool(queries)

    def _taken(self, row: int, query: Query, found: Sequence[Found]) -> Query | None:
        """Take the answer to one query, and return the next query to make, if one is needed."""
        compiled = self._compiled
        chunks = [each for each in found if not each.alien()]
        met = [each for each in chunks if self.meets(each)]
        if len(found) < query.limit or self._is_done(query, found, met):
            self.matches[row] = self._best(met)
            return None
        if len(chunks) < len(found) and query.filter is compiled.filter:  # only then, because the filter has a cost
            return replace(query, filter=both(compiled.filter, CHUNKS))
        if (limit := self._next(query.limit)) <= query.limit:
            self.left[row] = query
            return None
        return replace(query, limit=limit)

    def _next(self, limit: int) -> int:
        """Return the next limit; a lower one, or the same, if an answer would become too large.

        It is no higher than needed to finish, because each point brings its text.
        """
        return min(4 * limit, self._longest if limit < self._longest else max(_LARGEST, _TIMES * self._k))


class SearchLoop(Loop):
    """A search by vector. One more is requested than is wanted, which is equal to the last hardly ever."""

    _decimals = COSINE_DECIMALS

    def __init__(self, search: Search) -> None:
        queries = {
            row: Query(vector, search.k + 1, None, search.exact, search.with_vectors, search.ef)
            for row, vector in enumerate(search.vectors)
        }
        super().__init__(queries, len(search.vectors), search.k, search.k + _SPARE, search.where)

    def _match(self, found: Found) -> Match:
        return found.match()


class WordLoop(Loop):
    """A search by word; a query without terms finds nothing, and is not sent."""

    _decimals = BM25_DECIMALS

    def __init__(self, search: WordSearch) -> None:
        limit = search.k + _SPARE
        queries = {
            row: Query(terms, limit, None, exact=False, with_vectors=search.with_vectors)
            for row, terms in enumerate(search.terms)
            if terms
        }
        super().__init__(queries, len(search.terms), search.k, search.k + _MOST_EQUAL, search.where)

    def _match(self, found: Found) -> Match:
        return found.match_by_words()
