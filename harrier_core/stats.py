"""Statistics of an engine: counted as it runs, readable at any time, and reported to OpenTelemetry if installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from harrier_core.token_rows import Row

try:
    from opentelemetry import metrics

    _INSTALLED = True
except ImportError:
    _INSTALLED = False


@dataclass(frozen=True, slots=True)
class Stats:
    """Statistics since the model was loaded, of all encoders that share it; truncations are the encoder's own."""

    texts: int = 0  # texts that ran; equal texts of a call run once
    tokens: int = 0  # tokens that ran; those of an instruction run once
    passes: int = 0
    calls: int = 0  # those whose texts began to run
    padding_avoided: int = 0  # how many more it would be if each pass were padded to its longest text
    queue_wait: float = 0.0  # seconds from a call to its first pass, on average
    busy: float = 0.0  # share of the time since loading during which a pass was under way
    truncations: int = 0
    retries: int = 0  # passes run again: in halves for lack of memory, or in float32 after NaN
    failures: int = 0  # passes that failed: the device did, or others took its memory
    failing: int = 0  # those of them since the last pass that ran


class Meter:
    """The counters of one engine. Its thread writes them, any thread may read them."""

    def __init__(self, model: str) -> None:
        self._loaded = perf_counter()
        self._texts = self._tokens = self._passes = self._padding = self._retries = self._calls = 0
        self._failures = self._failing = 0
        self._waited = self._busy = 0.0
        self._tell = _instruments(model)

    def ran(self, rows: Sequence[Row], seconds: float) -> None:
        """Count a finished pass, and how long it kept its device busy."""
        lengths = [len(row.rest) for row in rows]
        self._texts += len(rows)
        self._tokens += sum(lengths)
        self._padding += len(rows) * max(lengths) - sum(lengths)
        self._passes += 1
        self._busy += seconds
        self._failing = 0
        self._tell("texts", len(rows))
        self._tell("tokens", sum(lengths))
        self._tell("pass.duration", seconds)

    def waited(self, seconds: float) -> None:
        """Count a call whose first rows run now, and how long it waited."""
        self._calls += 1
        self._waited += seconds
        self._tell("queue.wait", seconds)

    def retried(self) -> None:
        """Count a pass that has to run again."""
        self._retries += 1
        self._tell("retries", 1)

    @property
    def failing(self) -> int:
        """How many passes failed since the last one that ran."""
        return self._failing

    def failed(self) -> None:
        """Count a pass that failed."""
        self._failures += 1
        self._failing += 1
        self._tell("failures", 1)

    def read(self, truncations: int) -> Stats:
        """Return the current counters."""
        return Stats(
            texts=self._texts,
            tokens=self._tokens,
            passes=self._passes,
            calls=self._calls,
            padding_avoided=self._padding,
            queue_wait=self._waited / max(1, self._calls),
            busy=self._busy / max(1e-9, perf_counter() - self._loaded),
            truncations=truncations,
            retries=self._retries,
            failures=self._failures,
            failing=self._failing,
        )


def _instruments(model: str) -> Callable[[str, float], None]:
    """Return a function that reports counts and durations to OpenTelemetry, if that is installed."""
    if not _INSTALLED:
        return lambda _name, _amount: None
    meter = metrics.get_meter("harrier_core")
    counters = {name: meter.create_counter(f"harrier.{name}") for name in ("texts", "tokens", "retries", "failures")}
    durations = {name: meter.create_histogram(f"harrier.{name}", unit="s") for name in ("queue.wait", "pass.duration")}
    attributes = {"harrier.model": model}

    def tell(name: str, amount: float) -> None:
        if name in counters:
            counters[name].add(amount, attributes)
        else:
            durations[name].record(amount, attributes)

    return tell
