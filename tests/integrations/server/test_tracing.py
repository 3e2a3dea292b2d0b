"""One trace of a request, from the caller's process to the server's model."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from serving import Serving

from harrier_core import Index, Record, RemoteEncoder, TextTooLong
from harrier_core.testing import MemoryStore

# As `opentelemetry-instrument harrier serve` sets it up, with a file for a collector.
PROGRAM = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
file = open(sys.argv.pop(1), "a", encoding="utf-8")
exporter = ConsoleSpanExporter(out=file, formatter=lambda span: span.to_json(indent=None) + "\\n")
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
from harrier_cli import main
main()
"""

Told = Callable[[int], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def traced(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, Path]]:
    """Start a server whose OpenTelemetry spans are written to a file."""
    place = tmp_path_factory.mktemp("traced")
    options = ("--index", f"notes=qdrant:{place}/index", "--allow-ingest")
    serving = Serving(*options, model=folder, program=("-c", PROGRAM, str(place / "spans")))
    serving.wait()
    yield serving, place / "spans"
    serving.kill()


@pytest.fixture
def url(traced: tuple[Serving, Path]) -> str:
    return traced[0].url


@pytest.fixture
def told(traced: tuple[Serving, Path]) -> Told:
    """Wait for a number of the server's spans, in the order in which they ended."""
    file = traced[1]
    begun = len(file.read_bytes())

    def wait(least: int) -> list[dict[str, Any]]:
        until = time.monotonic() + 20
        while True:
            found = [json.loads(line) for line in file.read_bytes()[begun:].splitlines()]
            if len(found) >= least or time.monotonic() > until:
                return found
            time.sleep(0.01)

    return wait


def ids(span: ReadableSpan) -> tuple[str, str]:
    """Return the trace id and the span id as the server writes them."""
    return f"0x{span.context.trace_id:032x}", f"0x{span.context.span_id:016x}"


def named(spans: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [each for each in spans if each["name"] == name]


def test_from_the_caller_to_the_model(url: str, told: Told, spans: InMemorySpanExporter, folder: Path) -> None:
    """The spans of caller, call, request and model are nested, in both roles."""
    with RemoteEncoder(url) as remote, trace.get_tracer("test").start_as_current_span("the caller's"):
        remote.encode_queries(["why does bread rise"])
        asyncio.run(remote.aencode_documents(["Bread rises.", "Rivers run."]))
    query, document, outer = spans.get_finished_spans()
    found = told(5)
    assert {each["context"]["trace_id"] for each in found} == {ids(outer)[0]}
    requests, models = named(found, "POST /v1/embeddings"), named(found, "harrier.encode")
    assert [each["parent_id"] for each in requests] == [ids(query)[1], ids(document)[1]]
    assert [each["kind"] for each in requests] == ["SpanKind.SERVER"] * 2
    assert [each["attributes"]["http.response.status_code"] for each in requests] == [200, 200]
    assert [each["parent_id"] for each in models] == [each["context"]["span_id"] for each in requests]
    assert [each["attributes"] for each in models] == [
        {"harrier.model": str(folder), "harrier.role": role, "harrier.texts": texts}
        for role, texts in (("query", 1), ("document", 2))
    ]
    assert len(named(found, "GET /v1/models")) == 1


def test_a_search_and_an_ingest(url: str, told: Told, spans: InMemorySpanExporter) -> None:
    """An Index over the server and the server's own indexes are traced."""
    index = Index(MemoryStore(), RemoteEncoder(url))
    with trace.get_tracer("test").start_as_current_span("the caller's") as outer:
        index.ingest([Record("bread", "Bread rises.")])
        asyncio.run(index.aingest([Record("river", "Rivers run.")]))
        index.search("bread")
        expected = f"0x{outer.get_span_context().trace_id:032x}"
    assert {each["context"]["trace_id"] for each in told(7)} == {expected}
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    line = json.dumps({"id": "bread", "text": "Bread rises."})
    assert httpx.post(f"{url}/v1/ingest?index=notes", content=line, headers=headers).is_success
    asked = {"index": "notes", "query": "bread"}
    assert httpx.post(f"{url}/v1/search", json=asked, headers=headers).is_success
    own = [each for each in told(11) if each["context"]["trace_id"] == "0x0af7651916cd43dd8448eb211c80319c"]
    [ingest], [search] = named(own, "POST /v1/ingest"), named(own, "POST /v1/search")
    assert ingest["parent_id"] == search["parent_id"] == "0xb7ad6b7169203331"
    expected_parents = [each["context"]["span_id"] for each in (ingest, search)]
    assert [each["parent_id"] for each in named(own, "harrier.encode")] == expected_parents
    assert spans.get_finished_spans()


def test_failures(url: str, told: Told, spans: InMemorySpanExporter) -> None:
    """The status is on the server's span, and no text is in any span."""
    secret = "word-that-nobody-may-see"
    with RemoteEncoder(url) as remote:
        remote.encode_documents([secret])
        with pytest.raises(TextTooLong):
            remote.encode_queries([f"{secret} " * 3_000])
    assert httpx.post(f"{url}/v1/embeddings", json={"model": "tiny", "input": secret}).status_code == 400
    found = told(6)
    requests = named(found, "POST /v1/embeddings")
    assert [each["attributes"]["http.response.status_code"] for each in requests] == [200, 400, 400]
    assert requests[-1]["parent_id"] is None
    assert named(found, "harrier.encode")[-1]["status"]["status_code"] == "ERROR"
    assert secret not in json.dumps(found)
    assert secret not in "".join(each.to_json() for each in spans.get_finished_spans())


@pytest.mark.slow
def test_health_is_not_traced(url: str, told: Told) -> None:
    """Probes call it every few seconds."""
    for path in ("/health", "/health/live", "/health/ready", "/metrics"):
        assert httpx.get(f"{url}{path}").is_success
    assert told(0) == []
