"""The number of tokens that one pass takes. Pure: statistics of passes in, a number out."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

# On a CPU more gains no speed: activations leave the caches, and a query that arrives waits for the pass to end.
_ON_CPU = 1_024

# On a GPU it is measured: doubled as long as that pays.
_FIRST_ON_GPU, _MOST_ON_GPU = 4_096, 131_072
_PAYS = 1.05
_SAMPLES = 4  # full passes; the first may compile or allocate, which the median ignores


class Budget:
    """The token budget of one engine: the one asked for, or the fastest on this device, never one that did not fit."""

    def __init__(self, *, on_cpu: bool) -> None:
        self._found = _ON_CPU if on_cpu else _FIRST_ON_GPU
        self._climbing = not on_cpu
        self._rates: list[float] = []
        self._rate_before = 0.0
        self._fits = _MOST_ON_GPU

    @property
    def fits(self) -> int:
        """The most tokens that a pass may have, as far as memory is known."""
        return self._fits

    def tokens(self, asked: int | None) -> int:
        """Return the budget of a pass, given the one that its call asked for, if any."""
        return min(asked or self._found, self._fits)

    def ran(self, lengths: Sequence[int], seconds: float) -> None:
        """Record that a pass with texts of these lengths ran."""
        tokens = sum(lengths)
        full = 0.9 * self._found <= tokens <= self._found
        if not (self._climbing and full):
            return
        self._rates.append(tokens / max(seconds, 1e-9))
        if len(self._rates) < _SAMPLES:
            return
        rate = median(self._rates)
        pays = rate >= _PAYS * self._rate_before
        self._climbing = pays and 2 * self._found <= min(_MOST_ON_GPU, self._fits)
        if self._climbing:
            self._found *= 2
        elif not pays:
            self._found //= 2
        self._rate_before, self._rates = rate, []

    def did_not_fit(self, tokens: int) -> None:
        """Record that a pass of this many tokens ran out of memory: later passes are at most half its size."""
        self._fits = max(1, min(self._fits, tokens // 2))

    def forget(self, fits: int) -> None:
        """Let passes be as large again as they were: memory was short only because others used it."""
        self._fits = fits
