"""Misuse that a type checker must refuse: every ignored error must be one. It is never run."""

from __future__ import annotations

from harrier_pgvector import PgVectorStore
from harrier_pgvector.sync import SyncWorker, TableSync
from harrier_qdrant import QdrantStore
from haystack_integrations.components.embedders.harrier import HarrierDocumentEmbedder, HarrierTextEmbedder
from haystack_integrations.components.retrievers.harrier import HarrierEmbeddingRetriever
from haystack_integrations.document_stores.harrier import HarrierDocumentStore
from langchain_harrier import HarrierEmbeddings, HarrierRetriever
from langchain_harrier import HarrierVectorStore as HarrierLangChainStore
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.embeddings.harrier import HarrierEmbedding
from llama_index.vector_stores.harrier import HarrierVectorStore

from harrier_core import CachedEncoder, Chunking, Encoder, Index, Match, Record, Task
from harrier_core.testing import MemoryStore


def encoding(encoder: Encoder) -> None:
    Encoder()  # type: ignore[call-arg]
    Encoder("harrier-270m", "cpu")  # type: ignore[call-arg]  # positions are for the model only
    Encoder("harrier-270m", on_overflow="cut")  # type: ignore[arg-type]
    Encoder("harrier-270m", max_tokens="256")  # type: ignore[arg-type]
    Encoder("harrier-270m", tokens=256)  # type: ignore[arg-type]
    Encoder("harrier-270m", truncate_dim=256)  # type: ignore[arg-type]
    encoder.encode_documents(["a text"], task=Task("a task"))  # type: ignore[call-arg]  # a document carries none
    encoder.encode_documents([b"a text"])  # type: ignore[list-item]
    encoder.encode_documents(None)  # type: ignore[arg-type]
    encoder.encode_queries(["a query"], Task("a task"))  # type: ignore[call-arg]
    encoder.encode_queries(["a query"], task=1)  # type: ignore[arg-type]
    encoder.encode(["a text"])  # type: ignore[attr-defined]  # which role?
    encoder.dimensions = 3  # type: ignore[misc]
    CachedEncoder(encoder, {})  # type: ignore[arg-type]


async def awaiting(encoder: Encoder, index: Index) -> None:
    await encoder.encode_queries(["a query"])  # type: ignore[misc]
    len(index.asearch("a query"))  # type: ignore[arg-type]


def searching(index: Index, encoder: Encoder, match: Match) -> None:
    Index(encoder, MemoryStore())  # type: ignore[arg-type]
    Index(MemoryStore(), "harrier-270m")  # type: ignore[arg-type]
    Index(MemoryStore(), Encoder)  # type: ignore[arg-type]
    Index(None, encoder)  # type: ignore[arg-type]
    Index(MemoryStore(), encoder, chunking=200)  # type: ignore[arg-type]
    Chunking(tokens="200")  # type: ignore[arg-type]
    Record(7, "a text")  # type: ignore[arg-type]
    Record("id", "a text", {"year"})  # type: ignore[arg-type]
    index.ingest(["a text"])  # type: ignore[list-item]
    index.ingest([], True)  # type: ignore[call-arg]
    index.search(["a query"])  # type: ignore[arg-type]
    index.search("a query", where="lang = 'en'")  # type: ignore[arg-type]
    index.search("a query", limit=5)  # type: ignore[call-arg]
    index.search("a query", expand="all")  # type: ignore[arg-type]
    index.search_diverse("a query", rerank=None)  # type: ignore[call-arg]
    index.search_vectors([[0.0]], mode="sparse")  # type: ignore[arg-type]
    index.search_words("a query", exact=True)  # type: ignore[call-arg]
    index.search("a query", mode="sparse")  # type: ignore[arg-type]
    index.search("a query", rerank=7)  # type: ignore[arg-type]
    index.ingest([], vectors=object())  # type: ignore[arg-type]
    index.search("a query", k=1)[0].id = "id"  # type: ignore[misc]
    index.delete(7)  # type: ignore[arg-type]
    match.text = "another text"  # type: ignore[misc]


def stores(encoder: Encoder) -> None:
    PgVectorStore("postgresql://host/db", tabel="documents")  # type: ignore[call-arg]
    PgVectorStore(connection=7)  # type: ignore[arg-type]
    PgVectorStore("postgresql://host/db", hnsw={"m": 16})  # type: ignore[arg-type]
    PgVectorStore("postgresql://host/db", indexes={"year": "number"})  # type: ignore[dict-item]
    PgVectorStore("postgresql://host/db", table=7)  # type: ignore[arg-type]
    PgVectorStore("postgresql://host/db", collection="documents")  # type: ignore[call-arg]
    QdrantStore("http://localhost:6333", path="folder")  # type: ignore[call-arg]
    QdrantStore(host=7)  # type: ignore[arg-type]
    QdrantStore.embedded(7)  # type: ignore[arg-type]
    QdrantStore.embedded("folder", client=None)  # type: ignore[call-arg]
    TableSync("postgresql://host/db", table="chunks").create("articles", encoder, text="body")  # type: ignore[arg-type]
    SyncWorker("postgresql://host/db")  # type: ignore[call-arg]


def frameworks(index: Index, encoder: Encoder) -> None:
    HarrierEmbeddings(model=7)  # type: ignore[arg-type]
    HarrierEmbeddings(model="harrier-270m", on_blank="first")  # type: ignore[arg-type]
    HarrierEmbeddings(model="harrier-270m").embed_query(["a query"])  # type: ignore[arg-type]
    HarrierLangChainStore(encoder)  # type: ignore[arg-type]
    HarrierLangChainStore(index, on_rejected="ignore")  # type: ignore[arg-type]
    HarrierLangChainStore(index, client=7)  # type: ignore[call-arg]
    HarrierLangChainStore(index).similarity_search("a query", score_threshold="0.5")  # type: ignore[arg-type]
    HarrierLangChainStore(index).delete(filter=None)  # type: ignore[arg-type]
    HarrierEmbeddings("harrier-270m", model_kwargs={})  # type: ignore[call-arg]
    HarrierRetriever(k=2)  # type: ignore[call-arg]
    HarrierEmbedding(7)  # type: ignore[arg-type]
    HarrierEmbedding("harrier-270m", max_length=512)  # type: ignore[call-arg]
    HarrierEmbedding(model_name="harrier-270m", on_overflow="cut")  # type: ignore[arg-type]
    HarrierVectorStore(7)  # type: ignore[arg-type]
    HarrierVectorStore(MemoryStore(), embed_model=7)  # type: ignore[arg-type]
    HarrierVectorStore(index, collection_name="docs")  # type: ignore[arg-type]
    HarrierVectorStore(index).query(VectorStoreQuery(), where={})  # type: ignore[call-arg]
    HarrierVectorStore(index).query(VectorStoreQuery(), expand="all")  # type: ignore[arg-type]
    HarrierTextEmbedder(7)  # type: ignore[arg-type]
    HarrierTextEmbedder("harrier-270m").run(["a query"])  # type: ignore[arg-type]
    HarrierDocumentEmbedder("harrier-270m", meta_fields_to_embed="title")  # type: ignore[arg-type]
    HarrierDocumentStore(MemoryStore())  # type: ignore[arg-type]
    HarrierDocumentStore(index, on_rejected="ignore")  # type: ignore[arg-type]
    HarrierEmbeddingRetriever(index)  # type: ignore[arg-type]
