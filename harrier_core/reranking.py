"""A second look at the results of a search: by a model that reads query and text together, or for diversity. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from harrier_core.diversity import check_relevance, diverse
from harrier_core.errors import SettingError

if TYPE_CHECKING:
    from harrier_core.records import Match


@runtime_checkable
class Reranker(Protocol):
    """Anything that can tell how well texts answer a query."""

    def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """Return a number for each text; higher is better."""


@dataclass(frozen=True, slots=True)
class Diverse:
    """Chooses matches that say different things (maximal marginal relevance).

    relevance: 1 considers only a match's score, 0 only its difference.
    """

    relevance: float = 0.5

    def __post_init__(self) -> None:
        check_relevance(self.relevance)


def as_reranker(given: object, name: str = "reranker") -> Reranker:
    """Return the argument as a Reranker. Raise SettingError if it is not one, including if it is only a class."""
    if isinstance(given, type) or not isinstance(given, Reranker):
        kind = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
        raise SettingError(f"{name} must be an object with scores(query, texts), got {kind}")
    if iscoroutinefunction(given.scores):
        raise SettingError(f"{name}.scores must return numbers, got a coroutine of {type(given).__name__}")
    return given


def reranked(query: str, matches: Sequence[Match], k: int, chooser: Reranker | Diverse) -> list[Match]:
    """Return the best k of these matches in the chooser's order; a Reranker's number becomes a match's score."""
    if isinstance(chooser, Diverse):
        return diverse(matches, k, chooser.relevance)
    order = best_texts(query, [match.text for match in matches], k, chooser)
    return [replace(matches[at], score=score) for at, score in order]


def best_texts(query: str, texts: Sequence[str], k: int, reranker: Reranker) -> list[tuple[int, float]]:
    """Return the positions of the best k texts, best first, and their scores; equal ones keep their order.

    Blank texts, which other libraries' retrievers find, are left out.
    """
    usable = [at for at, text in enumerate(texts) if text.strip()]
    if not usable:
        return []
    scores = [float(score) for score in reranker.scores(query, [texts[at] for at in usable])]
    if len(scores) != len(usable):
        raise SettingError(
            f"{type(reranker).__name__}.scores must return a number for each text, got {len(scores)} for {len(usable)}"
        )
    if bad := next((score for score in scores if math.isnan(score)), None):
        raise SettingError(f"{type(reranker).__name__}.scores must return numbers, got {bad}")
    order = sorted(range(len(usable)), key=lambda at: -scores[at])
    return [(usable[at], scores[at]) for at in order[:k]]
