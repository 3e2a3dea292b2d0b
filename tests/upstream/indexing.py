"""A pytest plugin: run langchain-core's tests of `index()` with HarrierVectorStore, on the store of `--store`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest
from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore
from langchain_harrier import HarrierVectorStore
from upstream.replacing import FIXTURES, NAMES, note_ours

from harrier_core import Encoder, Index, VectorStore
from harrier_core.testing import MemoryStore, build_model

STORES: dict[str, Callable[[pytest.FixtureRequest], VectorStore]] = {
    "memory": lambda _: MemoryStore(),
    "pgvector": lambda request: PgVectorStore(
        request.getfixturevalue("postgres"), table=request.getfixturevalue("table")
    ),
    "qdrant": lambda request: QdrantStore.embedded(request.getfixturevalue("tmp_path") / "qdrant"),
}


class Seen(HarrierVectorStore):
    """HarrierVectorStore with the attribute of InMemoryVectorStore from which the tests read the ids."""

    @property
    def store(self) -> Mapping[str, None]:
        return dict.fromkeys(self.index.record_ids())


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    with Encoder(str(build_model(tmp_path_factory.mktemp("model"), vectors="words"))) as encoder:
        yield encoder


@pytest.fixture
def vector_store(request: pytest.FixtureRequest, encoder: Encoder) -> Iterator[Seen]:
    note_ours(request)
    with Index(STORES[request.config.getoption("--store")](request), encoder) as index:
        yield Seen(index)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--store", choices=STORES, default="memory")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIXTURES] = {"vector_store": vector_store, "upserting_vector_store": vector_store}
    config.stash[NAMES] = {"InMemoryVectorStore": Seen}
