"""A second look at what a search found: by a model that reads query and text together, or for difference. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from harrier_core.diversity import check_relevance, diverse
from harrier_core.errors import SettingError

if TYPE_CHECKING:
    from harrier_core.records import Match


@runtime_checkable
class Reranker(Protocol):
    """Whatever can tell how well texts answer a query."""

    def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """Return a number for each text; higher is better."""


@dataclass(frozen=True, slots=True)
class Diverse:
    """Chooses matches that say different things (maximal marginal relevance).

    relevance: 1 looks at a match's score only, 0 at difference only.
    """

    relevance: float = 0.5

    def __post_init__(self) -> None:
        check_relevance(self.relevance)


def reranked(query: str, matches: Sequence[Match], k: int, chooser: Reranker | Diverse) -> list[Match]:
    """Return the best k of these matches in the chooser's order; a Reranker's number is then a match's score."""
    if isinstance(chooser, Diverse):
        return diverse(matches, k, chooser.relevance)
    if not matches:
        return []
    scores = [float(score) for score in chooser.scores(query, [match.text for match in matches])]
    if len(scores) != len(matches):
        raise SettingError(
            f"{type(chooser).__name__}.scores must return a number for each text, got {len(scores)} for {len(matches)}"
        )
    if bad := next((score for score in scores if math.isnan(score)), None):
        raise SettingError(f"{type(chooser).__name__}.scores must return numbers, got {bad}")
    order = sorted(range(len(matches)), key=lambda at: -scores[at])  # of equal ones the first stays first
    return [replace(matches[at], score=scores[at]) for at in order[:k]]
