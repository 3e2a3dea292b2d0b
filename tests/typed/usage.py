"""A user's program, for a type checker: every public call, and the type of what it returns. It is never run."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Literal, assert_type

import numpy as np
from harrier_pgvector import PgVectorStore
from harrier_pgvector.sync import SyncFailure, SyncStatus, SyncWorker, TableSync, sync_statuses
from harrier_qdrant import Layout, QdrantStore
from haystack import Document as HaystackDocument
from haystack.components.embedders.types import DocumentEmbedder, TextEmbedder
from haystack.components.retrievers.types import EmbeddingRetriever, TextRetriever
from haystack.document_stores.types import DocumentStore, DuplicatePolicy
from haystack.utils import Secret
from haystack_integrations.components.embedders.harrier import HarrierDocumentEmbedder, HarrierTextEmbedder
from haystack_integrations.components.retrievers.harrier import HarrierEmbeddingRetriever
from haystack_integrations.components.retrievers.harrier import HarrierRetriever as HarrierHaystackRetriever
from haystack_integrations.document_stores.harrier import HarrierDocumentStore
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.structured_query import StructuredQuery
from langchain_core.vectorstores import VectorStore as LangChainStore
from langchain_harrier import DocumentsRejected, HarrierEmbeddings, HarrierRetriever
from langchain_harrier import HarrierVectorStore as HarrierLangChainStore
from langchain_harrier.self_query import HarrierTranslator
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import BaseNode, TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery, VectorStoreQueryResult
from llama_index.core.vector_stores.types import BasePydanticVectorStore
from llama_index.embeddings.harrier import HarrierEmbedding
from llama_index.vector_stores.harrier import HarrierVectorStore, node_id, records_of
from numpy.typing import NDArray

from harrier_core import (
    BadVectors,
    CachedEncoder,
    Chunk,
    Chunking,
    Embedder,
    EmbeddingSpace,
    Encoded,
    Encoder,
    Facts,
    HarrierError,
    Hnsw,
    Index,
    IngestReport,
    InputError,
    Match,
    MissingExtra,
    OpenStore,
    OutOfMemory,
    Problem,
    Pruning,
    Record,
    RemoteEncoder,
    Search,
    Skipped,
    Stats,
    Stored,
    Task,
    VectorStore,
    VerifyReport,
    open_store,
)
from harrier_core.migration import ReembedReport, back, check, reembed, switch
from harrier_core.testing import MemoryStore, build_model

Vectors = NDArray[np.float32]
LAW = Task("Given a legal question, retrieve the statutes that answer it")


def encoding(encoder: Encoder) -> None:
    texts = ("a text" for _ in range(3))
    assert_type(encoder.encode_documents(texts), Vectors)
    assert_type(encoder.encode_queries(["a query"], task=LAW), Vectors)
    assert_type(encoder.encode_queries({"a query"}, task="sts_query"), Vectors)
    assert_type(encoder.submit_documents(["a text"]), Future[Encoded])
    assert_type(encoder.prompt("a query", task=LAW), str)
    assert_type(encoder.count_tokens(["a text"]), list[int])
    assert_type(encoder.dimensions, int)
    assert_type(encoder.max_tokens, int)
    assert_type(encoder.on_overflow, Literal["error", "truncate"])
    assert_type(encoder.tasks, Mapping[str, str])
    assert_type(encoder.placement.device, str)
    assert_type(encoder.placement.dtype, str)
    assert_type(encoder.stats, Stats)
    assert_type(encoder.stats.busy, float)
    assert_type(encoder.truncations, int)


async def encoding_async(encoder: Encoder | CachedEncoder) -> None:
    assert_type(await encoder.aencode_documents(["a text"]), Vectors)
    assert_type(await encoder.aencode_queries(["a query"], task=LAW), Vectors)


def settings() -> Iterator[Encoder]:
    with Encoder("harrier-270m", device="cpu", dtype="float32", max_tokens=256, on_overflow="truncate") as encoder:
        yield assert_type(encoder, Encoder)
    yield Encoder(build_model("folder", "gemma3", vectors="words"), revision=None, task=LAW, token_budget=4_096)


def spaces(encoder: Encoder) -> None:
    space = assert_type(encoder.space, EmbeddingSpace)
    assert_type(space == EmbeddingSpace.from_json(space.to_json()), bool)
    assert_type(space.explain(space), str)
    assert_type(space.differences(space), list[str])


def caching(encoder: Encoder, values: dict[str, bytes]) -> None:
    class InMemory:
        def mget(self, keys: Any) -> list[bytes | None]:
            return [values.get(key) for key in keys]

        def mset(self, key_value_pairs: Any) -> None:
            values.update(key_value_pairs)

    cached = CachedEncoder(encoder, InMemory())
    assert_type(cached.encode_documents(["a text"]), Vectors)
    assert_type(cached.encode_queries(["a query"]), Vectors)
    assert_type(cached.uncached, Encoder | RemoteEncoder)
    assert_type(Index(MemoryStore(), cached).count(), int)


def errors(encoder: Encoder) -> None:
    try:
        encoder.encode_documents([""])
    except InputError as error:
        assert_type(error.position, int)
        assert_type(error.problems, tuple[Problem, ...])
    except BadVectors as error:
        assert_type(error.positions, tuple[int, ...])
    except OutOfMemory as error:
        assert_type(error.position, int)
    except MissingExtra as error:
        assert_type((error.extra, error.package), tuple[str | None, str])
    except HarrierError:
        raise


def stores(encoder: Encoder) -> None:
    every: list[VectorStore] = [
        MemoryStore(),
        PgVectorStore("postgresql://host/db", table="documents", schema="public", precision="float32", retry_for=5),
        PgVectorStore.embedded("folder", table="documents"),
        QdrantStore("http://localhost:6333", collection="documents", api_key="key", timeout=5, shards=2),
        QdrantStore.embedded("folder", collection="documents"),
        PgVectorStore(connection="postgresql://host/db", table_name="documents", indexes={"year": "integer"}),
        QdrantStore(host="localhost", port=6333, collection_name="documents", hnsw=Hnsw(m=32, ef_construction=128)),
    ]
    for store in every:
        assert_type(store.drop(), None)
    for store in every:
        searching(Index(store, encoder, chunking=Chunking(tokens=200, overlap=20)))
    assert_type(PgVectorStore.embedded("folder").create_langchain_view("view"), None)
    Layout(precision="float16", indexes={"year": "integer"})


def records() -> Iterator[Record]:
    yield Record("id", "a text")
    yield Record(id="id", text="a text", metadata={"lang": "en", "tags": ["a", "b"], "year": 2021})


def searching(index: Index) -> None:
    def progress(report: IngestReport) -> None:
        assert_type((report.records, report.seconds), tuple[int, float])

    report = assert_type(index.ingest(records(), prune=True, on_progress=progress), IngestReport)
    assert_type(report.rejected, list[tuple[str, str]])
    where = {"lang": "en", "year": {"$gte": 2020}}
    [match] = assert_type(index.search("a query", k=1, where=where, task=LAW), list[Match])
    assert_type(match.record_id, str)
    assert_type(match.score, float)
    assert_type(match.text[match.start : match.end], str)
    assert_type((match.passage, match.around), tuple[str, tuple[Chunk, ...]])
    assert_type(index.search("a query", offset=5, min_score=0.3, exact=True, ef=200, expand=2), list[Match])
    assert_type(index.search_many(["a query"], k=2, expand="record"), list[list[Match]])
    assert_type(index.search_diverse("a query", among=50, min_score=0, ef=None, expand=1), list[Match])
    assert_type(index.search_vectors([[0.0, 1.0]], k=2, offset=2, with_vectors=True), list[list[Match]])
    assert_type(index.search_vectors([[0.0, 1.0]], queries=["a query"], mode="hybrid"), list[list[Match]])
    assert_type(index.search_words("a query", k=2, where={"lang": "en"}, offset=1), list[Match])
    [stored, *_] = assert_type(index.read(["id"], where, limit=10, offset=20), Iterator[Stored])
    assert_type(stored.chunk, Chunk)
    assert_type(stored.vector, Vectors)
    assert_type(index.plan(records(), prune=Pruning({"year": 2021}, lambda id_, metadata: True)), IngestReport)
    assert_type(index.ingest([Skipped("id", "cannot be read")], build_indexes=False) + report, IngestReport)
    index.build_indexes()
    assert_type(list(index.record_ids()), list[str])
    assert_type(index.using(index.encoder).clear(), int)
    assert_type(match.cosine, float | None)
    assert_type(index.verify(10), VerifyReport)
    assert_type(index.verify().sound, bool)
    assert_type(index.delete(["id"]) + index.delete(where={"year": 2021}), int)
    assert_type(index.count(), int)
    assert_type(index.drop(), None)
    with index as same:
        assert_type(same, Index)


def given(index: Index, encoder: Encoder, rows: list[dict[str, Any]]) -> None:
    vectors = encoder.encode_documents(["a text"])
    assert_type(index.ingest(records(), vectors=vectors), IngestReport)
    assert_type(index.ingest(records(), vectors=vectors.tolist()), IngestReport)
    assert_type(index.ingest(records(), vectors=(row for row in vectors)), IngestReport)
    assert_type(index.ingest([{"id": "id", "text": "a text"}]), IngestReport)
    assert_type(index.plan(rows), IngestReport)


def parts(lang: HarrierEmbeddings, llama: HarrierEmbedding) -> None:
    assert_type(Index("postgresql://host/db?table=docs", Encoder("harrier-270m")), Index)
    assert_type(Index(MemoryStore(), lang).encoder, Embedder)
    assert_type(Index(MemoryStore(), llama).using(lang), Index)
    assert_type(llama.index_encoder, Embedder)
    assert_type(Index(MemoryStore(), encoders=[Encoder("harrier-270m"), lang], grace=60), Index)


def migrating(old: Encoder, new: HarrierEmbeddings) -> None:
    place = "postgresql://host/db?table=docs"
    assert_type(reembed(place, new, rate=50, precision="float16"), ReembedReport)
    assert_type(check(place, new, old).agreement, float | None)
    assert_type(switch(place, new), ReembedReport)
    assert_type(back(place, old), ReembedReport)


def opening(encoder: Encoder) -> None:
    store = assert_type(open_store("pgvector:FOLDER?table=docs"), VectorStore)
    assert_type(store.space(), EmbeddingSpace | None)
    assert_type(store.describe(), Facts)
    opened = assert_type(store.open(encoder.space, create=True), OpenStore)
    assert_type(opened.search(Search(encoder.encode_queries(["a query"]), k=2, exact=True)), list[list[Match]])
    embedder: Embedder = encoder
    encoded = assert_type(embedder.submit_queries(["a query"]).result(), Encoded)
    assert_type((list(encoded.tokens), list(encoded.truncated)), tuple[list[int], list[int]])
    assert_type(pickle.loads(pickle.dumps(encoder)), Any)


async def searching_async(index: Index) -> None:
    assert_type(await index.asearch_many(["a query"]), list[list[Match]])
    assert_type(await index.asearch_vectors([[0.0, 1.0]]), list[list[Match]])
    assert_type(await index.adelete(["id"], where={"year": 2021}), int)
    assert_type(await index.aread(["id"], limit=1), list[Stored])
    assert_type(await index.arecord_ids(), list[str])
    assert_type(await index.acount() + await index.aclear(), int)
    assert_type(await index.asearch("a query", offset=5, min_score=0.3, exact=True, ef=200, expand=2), list[Match])
    assert_type(await index.aingest(records()), IngestReport)
    assert_type(await index.asearch("a query", where=None), list[Match])
    assert_type(await index.asearch_diverse("a query", k=2), list[Match])


def syncing(encoder: Encoder) -> None:
    with TableSync("postgresql://host/db", table="chunks") as sync:
        assert_type(sync.create("articles", encoder.space, text=["title", "body"], metadata=["lang"]), str)
        assert_type(sync.status(), SyncStatus)
        assert_type(sync.failures(), list[SyncFailure])
        assert_type(sync.retry(), int)
        sync.rescan()
        sync.pause()
        sync.resume()
        sync.drop(chunks=True)
    assert_type(sync_statuses("postgresql://host/db"), list[SyncStatus])
    SyncWorker("postgresql://host/db", encoder, lease=30).drain()


def langchain(index: Index) -> None:
    embeddings = HarrierEmbeddings(model="harrier-270m", task=LAW, max_tokens=256, on_blank="last")
    lang: Embeddings = embeddings
    assert_type(lang.embed_query("a query"), list[float])
    assert_type(embeddings.embed_documents(["a text"]), list[list[float]])
    assert_type(embeddings.embed_queries(["a query"]), list[list[float]])
    assert_type(embeddings.with_task("sts_query"), HarrierEmbeddings)
    assert_type(embeddings.encoder, Encoder)
    documents = [Document(id="id", page_content="a text", metadata={"year": 2021})]
    try:
        made = HarrierLangChainStore.from_documents(documents, embeddings, store=MemoryStore())
    except DocumentsRejected as error:
        assert_type(error.rejected, list[tuple[str, str]])
        raise
    assert_type(made, HarrierLangChainStore)
    store: LangChainStore = HarrierLangChainStore(index, on_rejected="warn")
    assert_type(store.similarity_search("a query", k=2, filter={"year": 2021}), list[Document])
    assert_type(made.similarity_search_with_score("a query"), list[tuple[Document, float]])
    assert_type(made.add_texts(["a text"], [{"year": 2021}], ids=["id"]), list[str])
    assert_type(made.delete(["id"]), bool)
    assert_type(made.index, Index)
    assert_type(HarrierRetriever(index=index, k=2, where={"year": 2021}).invoke("a query"), list[Document])
    langchain_searches(made)


def langchain_searches(made: HarrierLangChainStore) -> None:
    scored = made.similarity_search_with_score_by_vector([0.5], k=2, filter={"year": 2021}, exact=True, ef=100)
    assert_type(scored, list[tuple[Document, float]])
    assert_type(made.similarity_search("a query", score_threshold=0.5, offset=4, expand="record"), list[Document])
    assert_type(made.max_marginal_relevance_search("a query", task=LAW, expand=1), list[Document])
    assert_type(made.get(where={"year": 2021}, limit=10, offset=20), list[Document])
    assert_type(made.add_embeddings(["a text"], [[0.5]], [{"year": 2021}], [7], show_progress=True), list[str])
    assert_type(made.add_embeddings([("a text", [0.5])]), list[str])
    assert_type(made.add_documents([], ids=[7], on_progress=print), list[str])
    assert_type(made.delete(filter={"year": 2021}), bool)


def langchain_made(embeddings: HarrierEmbeddings, encoder: Encoder) -> None:
    assert_type(HarrierEmbeddings("harrier-270m", show_progress=True).model_name, str)
    HarrierEmbeddings(model_name="harrier-270m", device="cpu")
    HarrierEmbeddings(url="http://gpu-host:8000", api_key="a key of the server's")
    HarrierLangChainStore(embedding=encoder, store="postgresql://host/db", table_name="documents", positions=True)
    found = HarrierLangChainStore.from_existing_index(embeddings, connection="postgresql://host/db")
    assert_type(found, HarrierLangChainStore)
    assert_type(HarrierTranslator().visit_structured_query(StructuredQuery("a query", None))[0], str)


async def langchain_async(store: HarrierLangChainStore, embeddings: HarrierEmbeddings) -> None:
    assert_type(await embeddings.aembed_query("a query"), list[float])
    assert_type(await store.aadd_documents([Document(page_content="a text")]), list[str])
    assert_type(await store.asimilarity_search("a query"), list[Document])


def llama_index(index: Index, nodes: list[TextNode]) -> None:
    embedding = HarrierEmbedding(model_name="harrier-270m", task=LAW, on_overflow="truncate")
    assert_type(HarrierEmbedding("harrier-270m", embed_batch_size=8), HarrierEmbedding)
    assert_type(HarrierEmbedding(url="http://gpu-host:8000", api_key="a key of the server's"), HarrierEmbedding)
    assert_type(Index(MemoryStore(), HarrierEmbedding(model="harrier-270m")), Index)
    llama: BaseEmbedding = embedding
    assert_type(llama.get_query_embedding("a query"), list[float])
    assert_type(embedding.get_text_embedding_batch(["a text"]), list[list[float]])
    assert_type(embedding.encoder, Encoder)
    assert_type(HarrierEmbedding.from_encoder(embedding.encoder), HarrierEmbedding)
    store: BasePydanticVectorStore = HarrierVectorStore(index, with_embeddings=True, on_rejected="warn")
    filters = MetadataFilters(filters=[MetadataFilter(key="year", value=2021)])
    query = VectorStoreQuery(query_str="a query", similarity_top_k=2, filters=filters)
    assert_type(store.query(query), VectorStoreQueryResult)
    assert_type(HarrierVectorStore(MemoryStore(), embed_model=embedding, number_key="number"), HarrierVectorStore)
    harrier = HarrierVectorStore(index)
    assert_type(harrier.get_nodes(limit=3, offset=2), list[BaseNode])
    found = harrier.query(VectorStoreQuery(query_str="a query"), offset=5, score_threshold=0.3, expand="record")
    assert_type(found, VectorStoreQueryResult)
    assert_type(harrier.add(nodes), list[str])
    assert_type(harrier.client, Index)
    assert_type(harrier.embed_model, HarrierEmbedding)
    assert_type(harrier.get_nodes(filters=filters), list[BaseNode])
    assert_type(harrier.client.ingest(records_of(nodes)), IngestReport)
    assert_type(node_id(0, nodes[0]), str)


async def llama_index_async(store: HarrierVectorStore, query: VectorStoreQuery) -> None:
    assert_type(await store.aquery(query), VectorStoreQueryResult)
    assert_type(await store.embed_model.aget_query_embedding("a query"), list[float])


def haystack(index: Index, documents: list[HaystackDocument]) -> None:
    text: TextEmbedder = HarrierTextEmbedder("harrier-270m", task=LAW, device="cpu")
    plain: DocumentEmbedder = HarrierDocumentEmbedder(meta_fields_to_embed=["title"], progress_bar=False)
    assert_type(text.run("a query"), dict[str, Any])
    assert_type(plain.run(documents), dict[str, Any])
    harrier = HarrierDocumentStore(index, on_rejected="warn")
    store: DocumentStore = harrier
    assert_type(store.write_documents(documents, DuplicatePolicy.SKIP), int)
    assert_type(HarrierDocumentStore(Secret.from_env_var("DOCUMENTS"), model="harrier-270m").index, Index)
    assert_type(harrier.update_by_filter({"field": "meta.year", "operator": ">", "value": 2020}, {"new": True}), int)
    assert_type(harrier.search("a query", None, 3, task=LAW), list[HaystackDocument])
    by_text: TextRetriever = HarrierHaystackRetriever(harrier, top_k=3, mode="hybrid")
    by_embedding: EmbeddingRetriever = HarrierEmbeddingRetriever(harrier, filters={"operator": "AND", "conditions": []})
    assert_type(by_text.run("a query"), dict[str, Any])
    assert_type(by_embedding.run([0.1]), dict[str, Any])


async def haystack_async(store: HarrierDocumentStore, retriever: HarrierHaystackRetriever) -> None:
    assert_type(await store.write_documents_async([HaystackDocument(content="a text")]), int)
    assert_type(await store.filter_documents_async({}), list[HaystackDocument])
    assert_type(await retriever.run_async("a query", top_k=3, task="sts_query"), dict[str, Any])
