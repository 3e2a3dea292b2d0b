"""Matches that are near the query but not near each other: maximal marginal relevance. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harrier_core.checks import shown
from harrier_core.errors import SettingError
from harrier_core.records import Match

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def diverse(matches: Sequence[Match], k: int, relevance: float) -> list[Match]:
    """Return k of these matches, which carry their vectors, in the order in which they were chosen.

    Each is the one with the highest `relevance` * its score - (1 - `relevance`) * its cosine to the nearest of those
    chosen before. If there are scores above 1, all are divided by the highest. A relevance of 1 is an ordinary search;
    0 looks only for difference, once the nearest is chosen.
    """
    check_relevance(relevance)
    if k < 1:
        raise SettingError(f"k must be a positive integer, got {k!r}")
    if not matches:
        return []
    import numpy as np

    vectors = np.stack([_unit(match) for match in matches])  # (matches, dimensions)
    scores = np.array([match.score for match in matches])
    scores /= max(1.0, scores.max())  # BM25 scores would outweigh any difference
    nearest = np.full(len(matches), -1.0)  # of those chosen, to each
    left = np.ones(len(matches), dtype=bool)
    chosen = [int(scores.argmax())]
    left[chosen] = False
    while len(chosen) < min(k, len(matches)):
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
        worth = np.where(left, relevance * scores - (1 - relevance) * nearest, -np.inf)
        chosen.append(int(worth.argmax()))
        left[chosen[-1]] = False
    return [matches[each] for each in chosen]


def check_relevance(relevance: float) -> None:
    """Raise SettingError unless it is a number from 0 to 1."""
    if not isinstance(relevance, int | float) or not 0 <= relevance <= 1:
        raise SettingError(f"relevance must be a number from 0 to 1, got {shown(relevance)}")


def _unit(match: Match) -> NDArray[np.float32]:
    if match.vector is None:
        raise SettingError("matches are compared with each other by their vectors; search with with_vectors=True")
    return match.vector / max(float((match.vector @ match.vector) ** 0.5), 1e-12)
