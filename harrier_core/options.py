"""What a caller wants of a search, checked before the model runs, and applied to what the store found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Literal

from harrier_core.checks import check_integer, shown
from harrier_core.diversity import check_relevance, diverse
from harrier_core.errors import SettingError
from harrier_core.filters import Condition
from harrier_core.query import Search
from harrier_core.records import Match

if TYPE_CHECKING:
    from harrier_core.types import Vectors

Expand = int | Literal["record"]

_MOST = 2**31  # beyond it the stores have errors of their own


@dataclass(frozen=True, slots=True)
class Options:
    """How each query of a search is answered."""

    k: int
    where: Condition | None
    offset: int = 0
    min_score: float | None = None
    exact: bool = False
    ef: int | None = None
    expand: Expand = 0
    with_vectors: bool = False
    among: int | None = None  # choose the k from so many, so that they say different things
    relevance: float = 1.0

    def __post_init__(self) -> None:
        if type(self.k) is not int or self.k < 1:
            raise SettingError(f"k is a whole number above zero, not {self.k!r}")
        check_integer("offset", self.offset, 0)
        if self.k + self.offset >= _MOST:
            raise SettingError(f"k is a whole number below 2**31, offset included, not {self.k + self.offset}")
        for name, value in (("ef", self.ef), ("among", self.among)):
            if value is not None:
                check_integer(name, value, 1)
                if value >= _MOST:
                    raise SettingError(f"{name} must be below 2**31, got {value}")
        if self.expand != "record" and (type(self.expand) is not int or self.expand < 0):
            raise SettingError(f"expand must be 'record' or an integer of at least 0, got {shown(self.expand)}")
        self._check_min_score()
        if self.among is not None:
            check_relevance(self.relevance)

    def _check_min_score(self) -> None:
        least: object = self.min_score
        if least is not None and (isinstance(least, bool) or not isinstance(least, Real) or math.isnan(least)):
            raise SettingError(f"min_score must be a number, got {shown(least)}")

    def search(self, vectors: Vectors) -> Search:
        """Return what to ask of a store for these queries."""
        diverse = self.among is not None
        k = max(self.k, self.among or 0) + self.offset
        return Search(vectors, k, self.where, self.exact, self.with_vectors or diverse, self.ef)

    def chosen(self, found: Sequence[Match]) -> list[Match]:
        """Return those of one query's matches, best first, that the caller wants."""
        least = self.min_score
        kept = [match for match in found if least is None or match.score >= least]
        if self.among is not None:
            return diverse(kept, self.k, self.relevance)
        return kept[self.offset : self.offset + self.k]
