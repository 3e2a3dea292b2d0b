"""Counters of the engine, and what OpenTelemetry gets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from harrier_core import Encoder, Stats


def test_counts(built: Callable[..., Path]) -> None:
    """Equal texts and the instruction count once, and reading the counters loads nothing."""
    with Encoder(built(), max_tokens=40, on_overflow="truncate") as encoder, Encoder(built()) as other:
        assert encoder.stats == Stats()
        encoder.encode_documents(["a", "a", "a text of more words", "word " * 100])
        tokens = sum(encoder.count_tokens(["a", "a text of more words"])) + 40
        stats = encoder.stats
        assert (stats.texts, stats.tokens, stats.passes, stats.truncations, stats.retries) == (3, tokens, 1, 1, 0)
        assert stats.padding_avoided == 3 * 40 - tokens
        assert 0 < stats.busy < 1
        assert stats.queue_wait > 0
        other.encode_queries(["a"])
        assert (other.stats.texts, other.stats.truncations) == (4, 0)
        assert encoder.stats.texts == 4
        assert other.stats.tokens - tokens < 5  # of a query its own tokens, without the instruction's


@pytest.fixture(scope="module")
def reader() -> InMemoryMetricReader:
    """Return the metrics of this process, which can be set up only once."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader


def test_telemetry(reader: InMemoryMetricReader, spans: InMemorySpanExporter, built: Callable[..., Path]) -> None:
    """Each call is a span inside the caller's, with counters and durations by model."""
    folder = built(seed=5)
    with Encoder(folder) as encoder, trace.get_tracer("test").start_as_current_span("the caller's"):
        encoder.encode_documents(["one", "two"])
        asyncio.run(encoder.aencode_queries(["three"]))
        with pytest.raises(ValueError, match="empty"):
            encoder.encode_queries([""])
    document, query, failed, outer = spans.get_finished_spans()
    expected: dict[str, Any] = {"harrier.model": str(folder), "harrier.role": "document", "harrier.texts": 2}
    assert dict(document.attributes or {}) == expected
    assert dict(query.attributes or {}) == {**expected, "harrier.role": "query", "harrier.texts": 1}
    assert not failed.status.is_ok
    assert all(span.parent and span.parent.span_id == outer.context.span_id for span in (document, query, failed))
    data = reader.get_metrics_data()
    assert data is not None
    found = {metric.name: metric.data.data_points for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert set(found) == {"harrier.texts", "harrier.tokens", "harrier.queue.wait", "harrier.pass.duration"}
    [texts] = [
        getattr(point, "value", None)
        for point in found["harrier.texts"]
        if (point.attributes or {})["harrier.model"] == str(folder)
    ]
    assert texts == 3


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from harrier_core import Encoder
with Encoder(sys.argv[1]) as encoder:
    encoder.encode_documents(["a"])
    print(encoder.stats.texts)
"""


@pytest.mark.slow
def test_without_opentelemetry(built: Callable[..., Path]) -> None:
    """OpenTelemetry is optional."""
    command = [sys.executable, "-c", WITHOUT, str(built())]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "1\n"
