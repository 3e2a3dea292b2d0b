"""Collections of the kit, read by LangChain's and LlamaIndex's own stores."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from harrier_qdrant import QdrantStore
from langchain_harrier import HarrierEmbeddings, HarrierSparseEmbeddings
from langchain_qdrant import QdrantVectorStore as LangChainStore
from langchain_qdrant import RetrievalMode
from llama_index.core import VectorStoreIndex
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.embeddings.harrier import HarrierEmbedding
from llama_index.vector_stores.harrier import sparse_document_terms, sparse_query_terms
from llama_index.vector_stores.qdrant import QdrantVectorStore as LlamaIndexStore
from qdrant_client import QdrantClient
from qdrant_stub import Stub

from harrier_core import Encoder, Index, Record
from harrier_core.testing import build_model

RECORDS = [
    Record("bread", "Bread rises because yeast turns sugar into gas.", {"topic": "food", "year": 2021}),
    Record("code", "A connection was refused: ERR_CONN_1042.", {"topic": "errors"}),
    Record("virus", "Vaccines train the immune system against a virus.", {"topic": "health"}),
]


@pytest.fixture
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_model(tmp_path_factory.mktemp("words"), vectors="words"))


@pytest.fixture
def client(words: str) -> Iterator[QdrantClient]:
    """Return the client of a server with a collection that an Index wrote."""
    stub = Stub(with_grpc=False)
    client = stub.client()
    with Encoder(words) as encoder, Index(QdrantStore(client, collection="docs", keywords=True), encoder) as index:
        index.ingest(RECORDS)
        yield client
    client.close()
    stub.close()


def test_langchain(client: QdrantClient, words: str) -> None:
    """langchain-qdrant works with its defaults, except for the vector's name."""
    store = LangChainStore(client, "docs", HarrierEmbeddings(model=words), vector_name="text-dense")
    [(document, score)] = store.similarity_search_with_score("why does bread rise", k=1)
    assert document.page_content == RECORDS[0].text
    assert document.metadata.items() >= RECORDS[0].metadata.items()
    assert 0 < score < 1


def test_langchain_by_word(client: QdrantClient, words: str) -> None:
    """Keyword and hybrid search work, and both sides write the same words."""
    settings: dict[str, Any] = {
        "sparse_embedding": HarrierSparseEmbeddings(),
        "vector_name": "text-dense",
        "sparse_vector_name": "text-sparse-new",
    }
    for mode in (RetrievalMode.SPARSE, RetrievalMode.HYBRID):
        dense = HarrierEmbeddings(model=words) if mode is RetrievalMode.HYBRID else None
        store = LangChainStore(client, "docs", dense, retrieval_mode=mode, **settings)
        for query in ("err-conn 1042", "what does ERR_CONN_1042 mean"):
            assert store.similarity_search(query, k=1)[0].page_content == RECORDS[1].text
            assert asyncio.run(store.asimilarity_search(query, k=1))[0].page_content == RECORDS[1].text
    store.add_texts([RECORDS[1].text])
    points = client.scroll("docs", with_vectors=["text-sparse-new"])[0]
    [one, other] = [each.vector for each in points if (each.payload or {})["page_content"] == RECORDS[1].text]
    assert one == other


def test_llama_index_by_word(client: QdrantClient, words: str) -> None:
    """Keyword and hybrid search work."""
    store = LlamaIndexStore(
        "docs",
        client,
        text_key="page_content",
        enable_hybrid=True,
        sparse_doc_fn=sparse_document_terms,
        sparse_query_fn=sparse_query_terms,
    )
    index = VectorStoreIndex.from_vector_store(store, HarrierEmbedding(model_name=words))
    for mode in (VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.HYBRID):
        retriever = index.as_retriever(similarity_top_k=1, sparse_top_k=3, vector_store_query_mode=mode, alpha=0.1)
        [found, *_] = retriever.retrieve("what does err conn 1042 mean")
        assert found.text == RECORDS[1].text
    assert sparse_document_terms(["a b", ""])[0][1] == []


def test_llama_index(client: QdrantClient, words: str) -> None:
    """LlamaIndex's store works with its defaults, except for the text's key."""
    store = LlamaIndexStore("docs", client, text_key="page_content")
    index = VectorStoreIndex.from_vector_store(store, HarrierEmbedding(model_name=words))
    [found] = index.as_retriever(similarity_top_k=1).retrieve("why does bread rise")
    assert found.text == RECORDS[0].text
    assert found.metadata["metadata"] == RECORDS[0].metadata
    assert found.score is not None
    assert 0 < found.score < 1
