"""Rows of ids: equal ones found, beginnings shared by ids, equal lengths together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harrier_core.packing import Row, by_length, split, unique

IDS = st.lists(st.integers(0, 2), min_size=1, max_size=6)
ROWS = st.builds(Row, rest=IDS, shared=st.lists(st.integers(0, 1), max_size=2).map(tuple))


@given(st.lists(IDS, max_size=40))
def test_equal_rows_are_found(rows: list[list[int]]) -> None:
    """Each row can be had back from the first one like it, and no two of those are alike."""
    firsts, places = unique(rows)
    assert [rows[firsts[place]] for place in places] == rows
    assert len({tuple(rows[first]) for first in firsts}) == len(firsts)


@given(IDS, IDS)
def test_a_shared_beginning_changes_no_id(ids: list[int], beginning: list[int]) -> None:
    """It is shared if the row has it and something behind it, and the ids are those of before in any case."""
    row = split(ids, tuple(beginning))
    assert row.ids == ids
    assert len(row.rest) > 0
    shares = ids[: len(beginning)] == beginning and len(ids) > len(beginning)
    assert row.shared == (tuple(beginning) if shares else ())


@given(st.lists(ROWS, max_size=40))
def test_equal_lengths_together(rows: list[Row]) -> None:
    """Every row once, in groups of one length behind one beginning, and no two groups of the same."""
    groups = list(by_length(rows))
    assert sorted(number for group in groups for number in group) == list(range(len(rows)))
    kinds = [{(len(rows[number].rest), rows[number].shared) for number in group} for group in groups]
    assert all(len(kind) == 1 for kind in kinds)
    assert len({kind.pop() for kind in kinds}) == len(groups)
