"""A server's counters for Prometheus: requests and texts by role, times, and pending work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from harrier_core import Stats

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counters of one server."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self._requests = Counter("harrier_requests", "Requests that were answered", ["route", "status"], registry=own)
        self._texts = Counter("harrier_texts", "Texts that were encoded", ["role"], registry=own)
        self._tokens = Counter("harrier_tokens", "Tokens that were encoded", ["role"], registry=own)
        took = "Seconds from a request's admission to its vectors"
        self._seconds = Histogram("harrier_encode_seconds", took, ["role"], buckets=_SECONDS, registry=own)
        waiting = "Characters of requests that are not answered yet"
        self._waiting = Gauge("harrier_waiting_characters", waiting, registry=own)

        # Labels are looked up once, because that takes longer than counting.
        self._answered = cache(lambda route, status: self._requests.labels(route, str(status)))
        self._by_role = cache(lambda counter, role: counter.labels(role))

    def answered(self, route: str, status: int) -> None:
        """Count an answer."""
        self._answered(route, status).inc()

    def encoded(self, role: str, texts: int, tokens: int) -> None:
        """Count texts of a request, or of a part of one."""
        self._by_role(self._texts, role).inc(texts)
        self._by_role(self._tokens, role).inc(tokens)

    def took(self, role: str, seconds: float) -> None:
        """Count the time of a whole request."""
        self._by_role(self._seconds, role).observe(seconds)

    def watch(self, waiting: Callable[[], float], stats: Callable[[], Stats]) -> None:
        """Query the pending work, and the model's own statistics, whenever the counters are read."""
        self._waiting.set_function(waiting)
        self._registry.register(_OfModel(stats))

    def written(self) -> bytes:
        """Return all of them in Prometheus's text format."""
        return generate_latest(self._registry)


class _OfModel(Collector):
    """The statistics of the model's engine, for all its users."""

    def __init__(self, stats: Callable[[], Stats]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:  # prometheus_client's
        """Yield the current series."""
        stats = self._stats()
        yield CounterMetricFamily("harrier_passes", "Forward passes that ran", stats.passes)
        retried = "Forward passes run again: in halves for lack of memory, or in float32 after NaN"
        yield CounterMetricFamily("harrier_retries", retried, stats.retries)
        yield CounterMetricFamily("harrier_failed_passes", "Forward passes that failed", stats.failures)
        waited, calls = "Seconds from a call of the model to its first pass", stats.calls
        yield SummaryMetricFamily("harrier_queue_wait_seconds", waited, calls, stats.queue_wait * calls)
