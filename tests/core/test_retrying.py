"""Pauses between attempts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harrier_core.retrying import Backoff


@given(st.floats(0.001, 10), st.floats(1, 1_000), st.integers(1, 40))
def test_pauses_grow_to_the_longest(first: float, more: float, attempts: int) -> None:
    """Pauses double, with jitter, up to the longest, and start again after a success."""
    longest = first * more
    backoff = Backoff(first, longest)
    for attempt in range(attempts):
        most = min(first * 2.0**attempt, longest)
        assert most / 2 <= backoff.pause() <= most
    backoff.reset()
    assert backoff.pause() <= first
