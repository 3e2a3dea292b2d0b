"""Two writers of one record, one of which changes only its metadata."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harrier_qdrant import QdrantStore
from ingesting import Hashing
from qdrant_client import QdrantClient
from qdrant_stub import Stub
from slowly import quick

from harrier_core import Index, Record


@pytest.fixture(params=quick(["REST", "gRPC", "memory", "Edge"], "gRPC", "Edge"))
def stores(request: pytest.FixtureRequest, stub: Stub, tmp_path: Path) -> Iterator[list[QdrantStore]]:
    """Yield two stores of one collection."""
    if request.param == "Edge":
        with QdrantStore.embedded(tmp_path / "q") as one, QdrantStore.embedded(tmp_path / "q") as other:
            yield [one, other]
        return
    grpc = request.param == "gRPC"
    with closing(QdrantClient(":memory:") if request.param == "memory" else stub.client(prefer_grpc=grpc)) as client:
        yield [QdrantStore(client), QdrantStore(client)]


def test_a_text_changes_during_an_update(stores: list[QdrantStore], monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata is not written next to the other writer's text: the record is as one of them wrote it, whole."""
    (store, theirs), text = stores, "The first text."
    mine, other = Record("r", text, {"m": 2}), Record("r", "The second text.", {"m": 3})
    backend, encoder = store._backend, Hashing()
    real = backend.set_payloads
    with ThreadPoolExecutor(1) as pool, Index(store, encoder) as index, Index(theirs, encoder) as rival:
        index.ingest([Record("r", text, {"m": 1}), Record("s", text, {"m": 1})])

        def racing(*arguments: Any) -> None:
            monkeypatch.undo()
            writing = pool.submit(rival.ingest, [other])
            if backend.may_race:  # otherwise it waits for this write
                assert writing.result().written == 1
            real(*arguments)

        monkeypatch.setattr(backend, "set_payloads", racing)
        report = index.ingest([mine, Record("s", text, {"m": 2})])
        assert (report.rejected, report.records) == ([], 2)
        pool.submit(int).result()
        stored = {each.chunk.record_id: each.chunk for each in index.read()}
        assert (stored["s"].text, stored["s"].metadata) == (text, {"m": 2})
        last = mine if backend.may_race else other
        assert (stored["r"].text, stored["r"].metadata) == (last.text, last.metadata)
        assert index.ingest([last]).unchanged == 1
        assert index.verify().sound
