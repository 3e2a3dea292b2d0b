"""Models, documents and stores for the LlamaIndex tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore
from packaging.version import Version
from slowly import quick

from harrier_core import Encoder
from harrier_core.store import VectorStore
from harrier_core.testing import MemoryStore

# A store's name, and how to make one. Each test runs on all of them.
STORES: dict[str, Callable[[pytest.FixtureRequest], VectorStore]] = {
    "memory": lambda request: MemoryStore(),
    "pgvector": lambda request: PgVectorStore(
        request.getfixturevalue("postgres"), table=request.getfixturevalue("table")
    ),
    "qdrant": lambda request: QdrantStore.embedded(request.getfixturevalue("tmp_path") / "qdrant"),
}


@pytest.fixture
def newest() -> None:
    """Skip if LlamaIndex is older than the behaviour that a test compares with."""
    found = version("llama-index-core")
    if Version(found) < Version("0.14.25"):
        pytest.skip(f"llama-index-core {found} filters and repeats runs otherwise itself; 0.14.25 is compared with")


@pytest.fixture(params=quick(STORES, "memory", "pgvector"))
def place(request: pytest.FixtureRequest) -> Iterator[VectorStore]:
    """Return an empty place in each kind of store."""
    store = STORES[request.param](request)
    yield store
    store.close()


@pytest.fixture(scope="session")
def words(built: Callable[..., Path]) -> str:
    """Return a model that compares texts by their words."""
    return str(built("gemma3", vectors="words"))


@pytest.fixture
def encoder(words: str) -> Iterator[Encoder]:
    """Return a loaded Encoder, so that its stats count."""
    with Encoder(words) as encoder:
        encoder.encode_documents(["load it"])
        yield encoder
