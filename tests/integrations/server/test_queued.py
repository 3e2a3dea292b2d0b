"""What searches, ingests and assistants encode takes turns, and counts, like the texts of requests for vectors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from serving import ACCEPT, CALL, Within

from harrier_core import Encoder, Index, Record
from harrier_core.callers import CALLER
from harrier_core.testing import MemoryStore

ServeWithin = Callable[..., Within]


class Asked(MemoryStore):
    """A store that records for whom it was searched."""

    def __init__(self) -> None:
        super().__init__()
        self.callers: list[object] = []

    def search(self, *args: Any, **kwargs: Any) -> Any:
        self.callers.append(CALLER.get())
        return super().search(*args, **kwargs)


@pytest.fixture
def store() -> Asked:
    return Asked()


@pytest.fixture
def served(serve_within: ServeWithin, encoder: Encoder, store: Asked) -> Within:
    index = Index(store, encoder)
    index.ingest([Record("bread", "Bread rises because of yeast.")])
    return serve_within(indexes={"notes": index})


def series(server: Within) -> dict[str, float]:
    said = httpx.get(f"{server.url}/metrics").text
    return {name: float(value) for name, value in re.findall(r"(?m)^(harrier_\S+) (\S+)$", said)}


def counted(server: Within, work: Callable[[], httpx.Response]) -> dict[str, float]:
    """Return by how much the series grew."""
    before = series(server)
    assert work().status_code == 200
    return {name: value - before.get(name, 0.0) for name, value in series(server).items()}


def test_searches_are_counted(served: Within) -> None:
    """So are their passes, and how long they waited."""
    body = {"query": ["why does bread rise", "sand"]}
    grown = counted(served, lambda: httpx.post(f"{served.url}/v1/search", json=body))
    assert grown['harrier_texts_total{role="query"}'] == 2
    assert grown['harrier_tokens_total{role="query"}'] > 2
    assert grown['harrier_encode_seconds_count{role="query"}'] == 1
    assert grown["harrier_passes_total"] == grown["harrier_queue_wait_seconds_count"] == 1
    assert grown["harrier_queue_wait_seconds_sum"] > 0
    assert grown["harrier_failed_passes_total"] == grown["harrier_retries_total"] == 0


def test_ingests_are_counted(served: Within) -> None:
    lines = "\n".join(json.dumps({"id": f"r{at}", "text": f"a text {at}"}) for at in range(30))
    url = f"{served.url}/v1/ingest?index=notes"
    grown = counted(served, lambda: httpx.post(url, content=lines))
    assert grown['harrier_texts_total{role="document"}'] == 30


def test_assistants_are_counted(served: Within, store: Asked) -> None:
    """The caller's name reaches the tools."""
    grown = counted(served, lambda: httpx.post(f"{served.url}/mcp", json=CALL, headers=ACCEPT))
    assert grown['harrier_texts_total{role="query"}'] == 1
    assert store.callers == ["127.0.0.1"]


def test_every_answer_is_counted(served: Within) -> None:
    """Also to paths that do not exist, and to wrong methods."""
    httpx.get(f"{served.url}/nowhere")
    httpx.get(f"{served.url}/v1/search")
    found = series(served)
    assert found['harrier_requests_total{route="none",status="404"}'] == 1
    assert found['harrier_requests_total{route="none",status="405"}'] == 1


def test_many_queries_of_a_search_take_turns(served: Within) -> None:
    """They do not overtake the documents of others; those of a few words do."""
    turns = served.state.turns
    long = {"query": [f"{at} " + "word " * 100 for at in range(200)], "k": 1}
    held = turns._free
    turns._free = 0  # as if others had all the turns
    try:
        assert httpx.post(f"{served.url}/v1/search", json={"query": "yeast"}).status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{served.url}/v1/search", json=long, timeout=0.5)
    finally:
        turns._free = held
    assert httpx.post(f"{served.url}/v1/search", json=long, timeout=60).status_code == 200
