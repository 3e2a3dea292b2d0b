"""Collections of ours, read by the stores that LangChain and LlamaIndex have of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harrier_qdrant import QdrantStore
from langchain_harrier import HarrierEmbeddings
from langchain_qdrant import QdrantVectorStore as LangChainStore
from llama_index.core import VectorStoreIndex
from llama_index.embeddings.harrier import HarrierEmbedding
from llama_index.vector_stores.qdrant import QdrantVectorStore as LlamaIndexStore
from qdrant_client import QdrantClient
from qdrant_stub import Stub

from harrier_core import Encoder, Index, Record
from harrier_core.testing import build_model

RECORDS = [
    Record("bread", "Bread rises because yeast turns sugar into gas.", {"topic": "food", "year": 2021}),
    Record("virus", "Vaccines train the immune system against a virus.", {"topic": "health"}),
]


@pytest.fixture
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_model(tmp_path_factory.mktemp("words"), vectors="words"))


@pytest.fixture
def client(words: str) -> Iterator[QdrantClient]:
    """Of a server with a collection that an Index has written."""
    stub = Stub(with_grpc=False)
    client = stub.client()
    with Encoder(words) as encoder, Index(QdrantStore(client, collection="docs"), encoder) as index:
        index.ingest(RECORDS)
        yield client
    client.close()
    stub.close()


def test_langchain(client: QdrantClient, words: str) -> None:
    """Its defaults, but for the vector's name."""
    store = LangChainStore(client, "docs", HarrierEmbeddings(model=words), vector_name="text-dense")
    [(document, score)] = store.similarity_search_with_score("why does bread rise", k=1)
    assert document.page_content == RECORDS[0].text
    assert document.metadata.items() >= RECORDS[0].metadata.items()
    assert 0 < score < 1


def test_llama_index(client: QdrantClient, words: str) -> None:
    """Its defaults, but for the text's key."""
    store = LlamaIndexStore("docs", client, text_key="page_content")
    index = VectorStoreIndex.from_vector_store(store, HarrierEmbedding(model_name=words))
    [found] = index.as_retriever(similarity_top_k=1).retrieve("why does bread rise")
    assert found.text == RECORDS[0].text
    assert found.metadata["metadata"] == RECORDS[0].metadata
    assert found.score is not None
    assert 0 < found.score < 1
