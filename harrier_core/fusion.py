"""Merge two ranked lists by rank: what is at the top of either comes first. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

# The smaller it is, the more the first places of a list count. Larger values, such as the 60 of the original paper,
# drown an identifier that only one list can find.
_CONSTANT = 2


def fused(dense: Sequence[Key], words: Sequence[Key], weight: float) -> list[tuple[Key, float]]:
    """Return all keys, best first, each with its share of the highest possible score, from 0 to 1.

    weight: that of the list `words`, which is ignored at 0; the weight of `dense` is 1. Ties are broken by the rank in
    `dense`, then by that in `words`, so the order is the same in every run.
    """
    in_dense, in_words = _places(dense), _places(words if weight else ())
    best = (1 + weight) / _CONSTANT
    scores = {
        key: (_share(in_dense.get(key)) + weight * _share(in_words.get(key))) / best
        for key in dict.fromkeys([*in_dense, *in_words])
    }
    last = len(dense) + len(words)

    def order(key: Key) -> tuple[float, int, int]:
        return -round(scores[key], 12), in_dense.get(key, last), in_words.get(key, last)

    return [(key, scores[key]) for key in sorted(scores, key=order)]


def _places(keys: Sequence[Key]) -> dict[Key, int]:
    return {key: place for place, key in reversed(list(enumerate(keys)))}


def _share(place: int | None) -> float:
    return 0.0 if place is None else 1 / (_CONSTANT + place)
