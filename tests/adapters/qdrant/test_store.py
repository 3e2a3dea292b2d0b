"""The contract on Qdrant's own engine, and on both ways to a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harrier_qdrant import QdrantStore
from qdrant_stub import Stub

from harrier_core.store import VectorStore
from harrier_core.testing.contract import StoreContract


class TestEmbedded(StoreContract):
    """All of the contract on Qdrant Edge."""

    @pytest.fixture
    def new_store(self, tmp_path: Path) -> Callable[[], VectorStore]:
        return lambda: QdrantStore.embedded(tmp_path / "qdrant", collection="docs")


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    yield stub
    stub.close()


class TestRest(StoreContract):
    """All of the contract over REST, on a database that is the client's own."""

    @pytest.fixture
    def new_store(self, stub: Stub) -> Callable[[], VectorStore]:
        return lambda: QdrantStore(stub.client(), collection="docs")


class TestGrpc(StoreContract):
    """The same over gRPC."""

    @pytest.fixture
    def new_store(self, stub: Stub) -> Callable[[], VectorStore]:
        return lambda: QdrantStore(stub.client(prefer_grpc=True), collection="docs")
