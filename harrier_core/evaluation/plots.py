"""Dots with intervals, and histograms, as SVG that fills its container: lengths are shares of the width. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from harrier_core.evaluation.intervals import Estimate

_STEPS = (1, 2, 2.5, 5, 10)
_TICKS = 6  # or one more
_NARROWEST = 0.01
_ROW, _AXIS, _BARS = 24, 20, 56  # pixels: heights


@dataclass(frozen=True, slots=True)
class Scale:
    """A mapping of numbers to places along an axis."""

    low: float
    high: float
    step: float

    @classmethod
    def around(cls, estimates: Sequence[Estimate], *also: float) -> Scale:
        """Return a scale that shows all intervals."""
        return cls.of(min([*also, *(each.low for each in estimates)]), max([*also, *(each.high for each in estimates)]))

    @classmethod
    def of(cls, low: float, high: float) -> Scale:
        """Return a scale from round number to round number."""
        if high - low < _NARROWEST:
            low, high = (low + high - _NARROWEST) / 2, (low + high + _NARROWEST) / 2
        rough = (high - low) / (_TICKS - 1)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(each * power for each in _STEPS if each * power >= rough * 0.999)
        return cls(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step)

    def at(self, value: float) -> str:
        """Return a place as a share of the width."""
        share = (value - self.low) / (self.high - self.low)
        return f"{100 * min(max(share, 0), 1):.2f}%"

    @property
    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield round numbers and their labels."""
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        decimals += (self.step * 10**decimals) % 1 > 1e-6
        for number in range(round((self.high - self.low) / self.step) + 1):
            value = self.low + number * self.step
            yield value, f"{value + 0.0:.{decimals}f}" if abs(value) > 1e-9 else "0"


def interval(estimate: Estimate, scale: Scale, kind: str, zero: float | None = None) -> str:
    """Return a dot on its interval. kind: a class of the style sheet. zero: where a line marks no difference."""
    middle = _ROW // 2
    parts = [
        f'<line class="grid" x1="{scale.at(value)}" x2="{scale.at(value)}" y2="{_ROW}"/>' for value, _ in scale.ticks
    ]
    if zero is not None:
        parts.append(f'<line class="zero" x1="{scale.at(zero)}" x2="{scale.at(zero)}" y2="{_ROW}"/>')
    low, mean, high = (scale.at(each) for each in (estimate.low, estimate.mean, estimate.high))
    parts.append(f'<line class="reach" x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>')
    parts += [f'<line class="reach" x1="{end}" x2="{end}" y1="{middle - 4}" y2="{middle + 4}"/>' for end in (low, high)]
    parts.append(f'<circle class="dot" cx="{mean}" cy="{middle}" r="5"/>')
    return _svg(_ROW, "".join(parts), str(estimate), f"strip {kind}")


def axis(scale: Scale) -> str:
    """Return the labels below rows that share a scale."""
    ticks = list(scale.ticks)
    parts = []
    for number, (value, said) in enumerate(ticks):
        anchor = "start" if not number else "end" if number == len(ticks) - 1 else "middle"
        parts.append(f'<text x="{scale.at(value)}" y="14" text-anchor="{anchor}">{escape(said)}</text>')
    return _svg(_AXIS, "".join(parts), None, "axis")


def histogram(shares: Sequence[float], edges: Sequence[float], scale: Scale, floor: float, kind: str) -> str:
    """Return bars of shares between edges, with a line at the floor."""
    most = max(*shares, 1e-9)
    parts = []
    for share, begin, end in zip(shares, edges, edges[1:], strict=False):
        if share:
            height = max(1.0, share / most * (_BARS - 4))
            wide = f"{float(scale.at(end)[:-1]) - float(scale.at(begin)[:-1]):.2f}%"
            parts.append(f'<rect x="{scale.at(begin)}" width="{wide}" y="{_BARS - height:.1f}" height="{height:.1f}"/>')
    parts.append(f'<line class="floor" x1="{scale.at(floor)}" x2="{scale.at(floor)}" y2="{_BARS}"/>')
    return _svg(_BARS, "".join(parts), None, f"bars {kind}")


def _svg(height: int, inner: str, label: str | None, kind: str) -> str:
    said = 'aria-hidden="true"' if label is None else f'role="img" aria-label="{escape(label)}"'
    return f'<svg class="{kind}" width="100%" height="{height}" {said}>{inner}</svg>'
