"""Pauses between attempts. Pure except for randomness."""

from __future__ import annotations

import random


class Backoff:
    """Pauses that grow: each is up to twice as long as the previous one, from the first to the longest.

    A part of each is random, so that clients that collided do not collide again.
    """

    def __init__(self, first: float, longest: float) -> None:
        """Begin with a pause of at most `first` seconds."""
        self._first = first
        self._longest = longest
        self._next = first

    def pause(self) -> float:
        """Return the seconds until the next attempt."""
        seconds = self._next * random.uniform(0.5, 1.0)  # noqa: S311
        self._next = min(2 * self._next, self._longest)
        return seconds

    def reset(self) -> None:
        """Begin again, after an attempt that succeeded."""
        self._next = self._first
