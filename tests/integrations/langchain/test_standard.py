"""LangChain's own tests of embeddings, vector stores and retrievers, all of them unmodified."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore
from langchain_core.documents import Document
from langchain_harrier import HarrierEmbeddings, HarrierRetriever, HarrierVectorStore
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests
from slowly import quick

from harrier_core import Chunking, Encoder, Index, VectorStore

# Vector layouts other than a store's default. Qdrant's local mode compares vectors unquantized, so only the requests
# are tested here; with `QDRANT_URL`, the contract tests the answers of a server.
LAYOUTS: dict[str, Callable[[pytest.FixtureRequest], VectorStore]] = {
    "pgvector-float32": lambda request: PgVectorStore(
        request.getfixturevalue("postgres"), table=request.getfixturevalue("table"), precision="float32"
    ),
    "qdrant-float16": lambda request: QdrantStore.embedded(
        request.getfixturevalue("tmp_path") / "qdrant", precision="float16"
    ),
    "qdrant-int8": lambda _: QdrantStore(":memory:", quantization="int8"),
    "qdrant-binary": lambda _: QdrantStore(":memory:", precision="float16", quantization="binary"),
}

_ENVIRONMENT = {
    "HARRIER_MODEL": "microsoft/harrier-oss-v1-0.6b",
    "HARRIER_TASK": "sts_query",
    "HARRIER_DEVICE": "cpu",
    "HARRIER_DTYPE": "float32",
    "HARRIER_REVISION": "main",
    "HARRIER_MAX_TOKENS": "256",
    "HARRIER_ON_OVERFLOW": "truncate",
    "HARRIER_TOKEN_BUDGET": "4096",
}


class TestHarrierEmbeddingsUnit(EmbeddingsUnitTests):
    """Run the tests without a model, with every setting from the environment."""

    @property
    def embeddings_class(self) -> type[HarrierEmbeddings]:
        return HarrierEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "harrier-270m"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        expected: dict[str, Any] = {name.removeprefix("HARRIER_").lower(): said for name, said in _ENVIRONMENT.items()}
        return _ENVIRONMENT, {}, {**expected, "max_tokens": 256, "token_budget": 4096}


class TestHarrierEmbeddings(EmbeddingsIntegrationTests):
    """Run the tests with a model."""

    @pytest.fixture(autouse=True)
    def _a_model(self, words: str) -> None:
        self._folder = words

    @property
    def embeddings_class(self) -> type[HarrierEmbeddings]:
        return HarrierEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": self._folder}


class TestHarrierVectorStore(VectorStoreIntegrationTests):
    """Run all tests on each store."""

    @pytest.fixture
    def vectorstore(self, vector_store: HarrierVectorStore) -> HarrierVectorStore:
        """Use the kit's model instead of the suite's, which has no roles."""
        return vector_store


class TestEachLayout(VectorStoreIntegrationTests):
    """Run all tests on the stores' other vector formats, with an index that splits long records."""

    @pytest.fixture(params=quick(LAYOUTS, "pgvector-float32"))
    def vectorstore(self, request: pytest.FixtureRequest, encoder: Encoder) -> Iterator[HarrierVectorStore]:
        """Use the kit's model instead of the suite's, which has no roles."""
        with Index(LAYOUTS[request.param](request), encoder, chunking=Chunking(8)) as index:
            yield HarrierVectorStore(index)


class TestHarrierRetriever(RetrieversIntegrationTests):
    """Run all tests on each store."""

    @pytest.fixture(autouse=True)
    def _an_index(self, index: Index) -> None:
        HarrierVectorStore(index).add_documents([Document(page_content=f"document {number}") for number in range(6)])
        self._index = index

    @property
    def retriever_constructor(self) -> type[HarrierRetriever]:
        return HarrierRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"index": self._index}

    @property
    def retriever_query_example(self) -> str:
        return "which document"
