"""A caller's options for a search: checked before the model runs, and applied to the store's results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Literal, get_args

from harrier_core.checks import check_integer, shown
from harrier_core.errors import SettingError
from harrier_core.filters import Condition
from harrier_core.query import Mode, Search
from harrier_core.records import Match
from harrier_core.reranking import Diverse, Reranker, as_reranker, reranked

if TYPE_CHECKING:
    from harrier_core.types import Vectors

Expand = int | Literal["record"]

_MOST = 2**31  # beyond it, each store raises its own error

# How many matches each of two lists has for one of k: what is in the middle of both lists may be near the front of the
# merged one. They grow in steps, so that the pages of a search are mostly cut from the same list.
_DEPTH, _LEAST_DEPTH, _STEP = 4, 50, 4
_AMONG = 50  # by default, for a reranker to choose from

_MODES: tuple[str, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class Options:
    """The options for answering each query of a search."""

    k: int
    where: Condition | None
    offset: int = 0
    min_score: float | None = None
    exact: bool = False
    ef: int | None = None
    expand: Expand = 0
    with_vectors: bool = False
    mode: Mode = "dense"
    keyword_weight: float | None = None  # of the word list, relative to the vector list; None depends on the query
    rerank: Reranker | Diverse | None = None
    among: int | None = None  # how many `rerank` chooses from

    def __post_init__(self) -> None:
        if type(self.k) is not int or self.k < 1:
            raise SettingError(f"k must be a positive integer, got {self.k!r}")
        check_integer("offset", self.offset, 0)
        if self.k + self.offset >= _MOST:
            raise SettingError(f"k must be an integer below 2**31, offset included, got {self.k + self.offset}")
        for name, value in (("ef", self.ef), ("among", self.among)):
            if value is not None:
                check_integer(name, value, 1)
                if value >= _MOST:
                    raise SettingError(f"{name} must be below 2**31, got {value}")
        if self.expand != "record" and (type(self.expand) is not int or self.expand < 0):
            raise SettingError(f"expand must be 'record' or an integer of at least 0, got {shown(self.expand)}")
        self._check_min_score()
        self._check_mode()
        self._check_rerank()

    def _check_min_score(self) -> None:
        least: object = self.min_score
        if least is not None and (isinstance(least, bool) or not isinstance(least, Real) or math.isnan(least)):
            raise SettingError(f"min_score must be a number, got {shown(least)}")

    def _check_mode(self) -> None:
        if self.mode not in _MODES:
            raise SettingError(f"mode must be one of {', '.join(map(repr, _MODES))}, got {self.mode!r}")
        weight: object = self.keyword_weight
        if weight is None:
            return
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise SettingError(f"keyword_weight must be a number of at least 0, got {shown(weight)}")
        if self.mode != "hybrid":
            raise SettingError(f"keyword_weight needs mode='hybrid', got mode={self.mode!r}")

    def _check_rerank(self) -> None:
        chooser: object = self.rerank
        if chooser is None:
            if self.among is not None:
                raise SettingError("among needs rerank, got among alone")
        elif not isinstance(chooser, Diverse):
            as_reranker(chooser, "rerank")

    @property
    def by_vector(self) -> bool:
        """Whether queries need their vectors."""
        return self.mode != "keyword"

    @property
    def wants_vectors(self) -> bool:
        """Whether matches must carry their vectors."""
        return self.with_vectors or isinstance(self.rerank, Diverse)

    @property
    def depth(self) -> int:
        """How many matches to ask the store for, in each list."""
        among = 0 if self.rerank is None else _AMONG if self.among is None else self.among
        last = self.k + self.offset
        if self.mode != "hybrid":
            return max(last, among)
        depth = _LEAST_DEPTH
        while depth < max(_DEPTH * last, among):
            depth *= _STEP
        return min(depth, _MOST - 1)

    def search(self, vectors: Vectors) -> Search:
        """Return what to ask of a store for these queries."""
        return Search(vectors, self.depth, self.where, self.exact, self.wants_vectors, self.ef)

    def chosen(self, query: str, found: Sequence[Match]) -> list[Match]:
        """Return the matches of one query that the caller wants, best first."""
        last = self.offset + self.k
        if self.rerank is None:
            return self._good(found)[self.offset : last]
        among = list(found[: max(_AMONG if self.among is None else self.among, last)])
        if isinstance(self.rerank, Diverse):
            return reranked(query, self._good(among), last, self.rerank)[self.offset :]
        return self._good(reranked(query, among, last, self.rerank))[self.offset :]

    def _good(self, found: Sequence[Match]) -> list[Match]:
        """Return the matches with a high enough score."""
        least = self.min_score
        return [match for match in found if least is None or match.score >= least]
