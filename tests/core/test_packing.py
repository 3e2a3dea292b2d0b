"""Batches of equal lengths under a budget, each row once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harrier_core.packing import pack, unique

LENGTHS = st.lists(st.integers(1, 40), max_size=60)
ROWS = st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=40)


@given(LENGTHS, st.integers(1, 200))
def test_every_row_once(lengths: list[int], budget: int) -> None:
    """Nothing is lost and nothing runs twice."""
    assert sorted(row for batch in pack(lengths, budget) for row in batch) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 200))
def test_no_padding_and_within_the_budget(lengths: list[int], budget: int) -> None:
    """A batch has one length; more than one row only if they fit together."""
    for batch in pack(lengths, budget):
        [length] = {lengths[row] for row in batch}
        assert len(batch) == 1 or len(batch) * length <= budget


@given(LENGTHS, st.integers(1, 200))
def test_longest_first_and_no_more_batches_than_needed(lengths: list[int], budget: int) -> None:
    """The costliest pass comes first, and all but the last batch of a length are full."""
    batches = pack(lengths, budget)
    heads = [lengths[batch[0]] for batch in batches]
    assert heads == sorted(heads, reverse=True)
    needed = sum(-(-lengths.count(length) // max(1, budget // length)) for length in set(lengths))
    assert len(batches) == needed


@given(ROWS)
def test_equal_rows_are_found(rows: list[list[int]]) -> None:
    """Each row can be had back from the first one like it, and no two of those are alike."""
    firsts, places = unique(rows)
    assert [rows[firsts[place]] for place in places] == rows
    assert len({tuple(rows[first]) for first in firsts}) == len(firsts)
