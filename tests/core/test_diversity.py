"""Maximal marginal relevance compared with its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harrier_core import Chunk, Match, SettingError
from harrier_core.diversity import diverse


def matches_of(vectors: np.ndarray[Any, np.dtype[np.float32]]) -> list[Match]:
    """Return the matches of a search for the first of these unit vectors."""
    scores = vectors @ vectors[0]
    return [
        Match(Chunk(f"r{number}", 0, "", {}, 0, 0), float(score), float(score), vector)
        for number, (score, vector) in enumerate(zip(scores, vectors, strict=True))
    ]


@given(
    count=st.integers(1, 12),
    k=st.integers(1, 12),
    relevance=st.floats(0, 1),
    seed=st.integers(0, 1_000),
)
def test_each_step_picks_the_best_remaining_match(count: int, k: int, relevance: float, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen = diverse(matches_of(vectors), k, relevance)
    assert len(chosen) == len({match.record_id for match in chosen}) == min(k, count)
    numbers = [int(match.record_id[1:]) for match in chosen]
    for place in range(1, len(numbers)):
        left = set(range(count)) - set(numbers[:place])

        def worth(number: int, before: list[int] = numbers[:place]) -> float:
            nearest = max(float(vectors[number] @ vectors[each]) for each in before)
            return relevance * float(vectors[number] @ vectors[0]) - (1 - relevance) * nearest

        assert worth(numbers[place]) >= max(map(worth, left)) - 1e-5


def test_unbounded_scores() -> None:
    """Large BM25 scores do not outweigh similarity between matches."""
    same, other = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    given = [(14.0, same), (13.5, same), (13.0, same), (11.8, other)]
    found = [Match(Chunk(f"r{at}", 0, "", {}, 0, 0), score, None, vector) for at, (score, vector) in enumerate(given)]
    assert [match.record_id for match in diverse(found, 3, 0.5)] == ["r0", "r3", "r1"]
    assert [match.record_id for match in diverse(found, 3, 1.0)] == ["r0", "r1", "r2"]


def test_invalid_settings() -> None:
    assert diverse([], 3, 0.5) == []
    with pytest.raises(SettingError, match="with_vectors=True"):
        diverse([Match(Chunk("r", 0, "", {}, 0, 0), 1.0)], 1, 0.5)
    with pytest.raises(SettingError, match="k must be a positive integer, got 0"):
        diverse([], 0, 0.5)
    with pytest.raises(SettingError, match="relevance must be a number from 0 to 1, got 1.1"):
        diverse([], 1, 1.1)
