"""Keyword and hybrid search on Qdrant Edge, on a server over REST and gRPC, and in local mode."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest
from harrier_qdrant import QdrantStore
from packaging.version import Version
from qdrant_client import QdrantClient
from qdrant_stub import Stub

from harrier_core.store import VectorStore
from harrier_core.testing.wording import WordingContract

NewStore = Callable[[], VectorStore]

OF_CLIENT_1_20 = pytest.mark.skipif(
    Version(version("qdrant-client")) < Version("1.20"),
    reason="local mode of this qdrant-client counts deleted points; 1.20 is needed to compare scores",
)


class TestEmbedded(WordingContract):
    """Run the contract on Qdrant Edge."""

    @pytest.fixture
    def new_store(self, tmp_path: Path) -> NewStore:
        return lambda: QdrantStore.embedded(tmp_path / "qdrant", collection="docs", keywords=True)

    @pytest.fixture
    def wordless_store(self, tmp_path: Path) -> NewStore:
        return lambda: QdrantStore.embedded(tmp_path / "qdrant", collection="wordless")


@OF_CLIENT_1_20
class TestRest(WordingContract):
    """Run the contract over REST."""

    @pytest.fixture
    def new_store(self, stub: Stub) -> NewStore:
        return lambda: QdrantStore(stub.client(), collection="docs", keywords=True)

    @pytest.fixture
    def wordless_store(self, stub: Stub) -> NewStore:
        return lambda: QdrantStore(stub.client(), collection="wordless")


@OF_CLIENT_1_20
@pytest.mark.slow
class TestGrpc(WordingContract):
    """Run the contract over gRPC."""

    @pytest.fixture
    def new_store(self, stub: Stub) -> NewStore:
        return lambda: QdrantStore(stub.client(prefer_grpc=True), collection="docs", keywords=True)

    @pytest.fixture
    def wordless_store(self, stub: Stub) -> NewStore:
        return lambda: QdrantStore(stub.client(prefer_grpc=True), collection="wordless")


@OF_CLIENT_1_20
@pytest.mark.slow
class TestMemory(WordingContract):
    """Run the contract on a client in memory."""

    @pytest.fixture
    def client(self) -> Iterator[QdrantClient]:
        with closing(QdrantClient(":memory:")) as client:
            yield client

    @pytest.fixture
    def new_store(self, client: QdrantClient) -> NewStore:
        return lambda: QdrantStore(client, collection="docs", keywords=True)

    @pytest.fixture
    def wordless_store(self, client: QdrantClient) -> NewStore:
        return lambda: QdrantStore(client, collection="wordless")


class TestServer(WordingContract):
    """Run the contract on the server that QDRANT_URL names."""

    @pytest.fixture
    def place(self) -> Iterator[Callable[[str, bool], NewStore]]:
        url, key = os.environ.get("QDRANT_URL"), os.environ.get("QDRANT_API_KEY")
        if not url:
            pytest.skip("QDRANT_URL names no server; set it to run the contract against a real one")
        names = {kind: f"harrier-test-{kind}-{uuid.uuid4().hex}" for kind in ("docs", "wordless")}
        yield lambda kind, keywords: lambda: QdrantStore(url, names[kind], api_key=key, keywords=keywords)
        with closing(QdrantClient(url=url, api_key=key)) as client:
            for name in names.values():
                client.delete_collection(name)

    @pytest.fixture
    def new_store(self, place: Callable[[str, bool], NewStore]) -> NewStore:
        return place("docs", True)

    @pytest.fixture
    def wordless_store(self, place: Callable[[str, bool], NewStore]) -> NewStore:
        return place("wordless", False)
