"""Fusion of two lists is deterministic, and consistent with their common order."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harrier_core.fusion import fused
from harrier_core.ranking import _CODES

LISTS = st.lists(st.integers(0, 20), unique=True, max_size=15)


def keys(dense: list[int], words: list[int], weight: float) -> list[int]:
    return [key for key, _ in fused(dense, words, weight)]


def test_first_places() -> None:
    found = fused("abc", "xay", 0.5)
    assert [key for key, _ in found] == ["a", "b", "c", "x", "y"]
    assert found[0][1] == pytest.approx((1 / 2 + 0.5 / 3) / 0.75)


def test_a_code_that_only_words_find() -> None:
    assert keys([1, 2, 3], [9], 3)[0] == 9
    assert keys([1, 2, 3], [9], 0.5)[0] == 1


def test_a_code_is_before_its_near_miss() -> None:
    """It wins although the near miss is first by vector and second by word."""
    assert keys([9, 8, 7], [1, 9], _CODES)[0] == 1


def test_ties_are_broken_by_the_dense_list() -> None:
    assert keys([1, 2], [2, 1], 1) == [1, 2]
    assert keys([1], [2], 1) == [1, 2]


@given(dense=LISTS, words=LISTS, weight=st.floats(0.01, 10))
def test_fused(dense: list[int], words: list[int], weight: float) -> None:
    found = fused(dense, words, weight)
    assert sorted(key for key, _ in found) == sorted({*dense, *words})
    scores = [score for _, score in found]
    assert all(0 < score <= 1 + 1e-9 for score in scores)
    assert all(before >= after - 1e-9 for before, after in pairwise(scores))
    assert fused(dense, words, weight) == found


@given(dense=LISTS, words=LISTS, weight=st.floats(0.01, 10))
def test_the_order_common_to_both_lists_is_kept(dense: list[int], words: list[int], weight: float) -> None:
    order = keys(dense, words, weight)
    both = [key for key in dense if key in words]
    for one, other in combinations(both, 2):
        if words.index(one) < words.index(other):
            assert order.index(one) < order.index(other)


@given(dense=LISTS)
def test_one_list_alone(dense: list[int]) -> None:
    assert keys(dense, [], 0.5) == dense
    assert keys([], dense, 0.5) == dense


def test_no_weight() -> None:
    """With weight 0, matches found only by words are left out."""
    assert fused(["a", "b"], ["c", "b"], 0) == [("a", 1.0), ("b", pytest.approx(2 / 3))]
