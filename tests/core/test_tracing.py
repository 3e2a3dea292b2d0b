"""Traces across processes, and behaviour without OpenTelemetry."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from harrier_core.tracing import served, with_trace

TRACER = "test"
HEADERS = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


def test_headers_carry_the_current_span(spans: InMemorySpanExporter) -> None:
    """They are added to the request's headers; without a trace there are none."""
    assert with_trace() == {}
    with trace.get_tracer(TRACER).start_as_current_span("the caller's") as outer:
        context = outer.get_span_context()
        sent = with_trace({"a": "b"})
        assert sent.keys() == {"a", "traceparent"}
        assert sent["traceparent"].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
    assert len(spans.get_finished_spans()) == 1


@pytest.mark.parametrize(("status", "is_error"), [(200, False), (404, False), (503, True)])
def test_a_request_is_a_span_of_its_callers_trace(spans: InMemorySpanExporter, status: int, is_error: bool) -> None:
    with served("POST", "/v1/embeddings", HEADERS) as tell:
        tell(status)
    [span] = spans.get_finished_spans()
    assert span.name == "POST /v1/embeddings"
    assert span.kind == trace.SpanKind.SERVER
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}-{span.parent.span_id:016x}" in HEADERS["traceparent"]
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/embeddings",
        "http.response.status_code": status,
    }
    assert (span.status.status_code == trace.StatusCode.ERROR) is is_error


def test_requests_traced_by_other_instrumentation(spans: InMemorySpanExporter) -> None:
    """The span is inside an instrumented server's span, without a duplicate."""
    with trace.get_tracer(TRACER).start_as_current_span("an instrumentation's") as outer, served("GET", "/", HEADERS):
        pass
    span, _ = spans.get_finished_spans()
    assert span.parent == outer.get_span_context()
    assert span.kind == trace.SpanKind.INTERNAL


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from harrier_core.tracing import served, span, with_trace
with span("query", "a model") as tell, served("GET", "/", {}) as tell_status:
    tell(1)
    tell_status(200)
    print(with_trace({"a": "b"}))
"""


def test_without_opentelemetry() -> None:
    """OpenTelemetry is optional."""
    done = subprocess.run([sys.executable, "-c", WITHOUT], check=True, capture_output=True, text=True)
    assert done.stdout == "{'a': 'b'}\n"
