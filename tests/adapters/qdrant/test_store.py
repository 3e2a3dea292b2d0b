"""The store contract on Qdrant Edge, on a server over REST and gRPC, and in local mode."""

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

from harrier_core import Encoder, Index
from harrier_core.store import VectorStore
from harrier_core.testing.contract import StoreContract


class TestEmbedded(StoreContract):
    """Run the whole contract on Qdrant Edge."""

    @pytest.fixture
    def new_store(self, tmp_path: Path) -> Callable[[], VectorStore]:
        return lambda: QdrantStore.embedded(tmp_path / "qdrant", collection="docs")


class _OverTheWire(StoreContract):
    """Run the contract on the stub server, as far as local mode supports it.

    The server refuses a filter on a field without an index, except on those of metadata.
    """

    @pytest.fixture(autouse=True)
    def strict(self, stub: Stub) -> None:
        stub.strict, stub.assumed = True, "metadata."

    def test_where_means_the_same_everywhere(self, index: Index, encoder: Encoder) -> None:
        """Older releases treat true as 1, and an empty list as null."""
        if Version(version("qdrant-client")) < Version("1.20"):
            pytest.skip("local mode of this qdrant-client filters unlike a server; 1.20 is needed to compare filters")
        super().test_where_means_the_same_everywhere(index, encoder)


class TestRest(_OverTheWire):
    """Run the contract over REST."""

    @pytest.fixture
    def new_store(self, stub: Stub) -> Callable[[], VectorStore]:
        return lambda: QdrantStore(stub.client(), collection="docs")


@pytest.mark.slow
class TestGrpc(_OverTheWire):
    """Run the contract over gRPC."""

    @pytest.fixture
    def new_store(self, stub: Stub) -> Callable[[], VectorStore]:
        return lambda: QdrantStore(stub.client(prefer_grpc=True), collection="docs")


@pytest.mark.slow
class TestMemory(_OverTheWire):
    """Run the contract on a client in memory; test_local covers a client in a folder."""

    @pytest.fixture
    def new_store(self) -> Iterator[Callable[[], VectorStore]]:
        with closing(QdrantClient(":memory:")) as client:
            yield lambda: QdrantStore(client, collection="docs")


class TestServer(StoreContract):
    """Run the contract on the server that QDRANT_URL names."""

    @pytest.fixture
    def new_store(self) -> Iterator[Callable[[], VectorStore]]:
        url, key = os.environ.get("QDRANT_URL"), os.environ.get("QDRANT_API_KEY")
        if not url:
            pytest.skip("QDRANT_URL names no server; set it to run the contract against a real one")
        collection = f"harrier-test-{uuid.uuid4().hex}"
        yield lambda: QdrantStore(url, collection=collection, api_key=key)
        with closing(QdrantClient(url=url, api_key=key)) as client:
            client.delete_collection(collection)
