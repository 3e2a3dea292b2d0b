"""Rows of token ids: duplicates, shared prefixes and groups by length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harrier_core.token_rows import Row, by_length, split, unique, windows

IDS = st.lists(st.integers(0, 2), min_size=1, max_size=6)
ROWS = st.builds(Row, rest=IDS, shared=st.lists(st.integers(0, 1), max_size=2).map(tuple))


TEXTS = st.lists(st.text("ab", max_size=3), max_size=40)


@given(TEXTS)
def test_equal_texts_are_found(texts: list[str]) -> None:
    """Texts map to distinct ones, in order of their first occurrence."""
    distinct, places = unique(texts)
    assert [distinct[place] for place in places] == texts
    assert distinct == sorted(set(texts), key=texts.index)


@given(st.lists(st.integers(0, 1_200_000) | st.just(0), min_size=1, max_size=40), st.integers(1, 3_000))
def test_windows(lengths: list[int], repeats: int) -> None:
    """Every text is in one window, and windows are as large as the limit allows."""
    texts = ["x" * length for length in lengths] + ["y"] * repeats
    found = [texts[window] for window in windows(texts)]
    assert [text for window in found for text in window] == texts
    for window, following in zip(found, [*found[1:], [""]], strict=True):
        assert len(window) == 1 or (len(window) <= 1_000 and sum(map(len, window)) <= 1_000_000)
        full = len(window) == 1_000 or sum(map(len, window)) + len(following[0]) > 1_000_000
        assert full or following == [""]


@given(IDS, IDS)
def test_a_shared_prefix_changes_no_id(ids: list[int], beginning: list[int]) -> None:
    """A prefix is shared only if the row continues after it, and the ids stay the same."""
    row = split(ids, tuple(beginning))
    assert row.ids == ids
    assert len(row.rest) > 0
    shares = ids[: len(beginning)] == beginning and len(ids) > len(beginning)
    assert row.shared == (tuple(beginning) if shares else ())


@given(st.lists(ROWS, max_size=40))
def test_equal_lengths_together(rows: list[Row]) -> None:
    """Every row is in one group by length and prefix."""
    groups = list(by_length(rows))
    assert sorted(number for group in groups for number in group) == list(range(len(rows)))
    kinds = [{(len(rows[number].rest), rows[number].shared) for number in group} for group in groups]
    assert all(len(kind) == 1 for kind in kinds)
    assert len({kind.pop() for kind in kinds}) == len(groups)
