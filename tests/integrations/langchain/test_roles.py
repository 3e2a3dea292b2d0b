"""Input of the tokenizer on every path: queries with an instruction, documents unchanged, newlines kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from langchain_core.documents import Document
from langchain_core.stores import InMemoryByteStore
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_harrier import HarrierEmbeddings, HarrierRetriever, HarrierVectorStore

from harrier_core import Index, Task

WEB = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
STS = "Instruct: Retrieve semantically similar text\nQuery: "
TEXT = " one\n\n two\tthree \n"

Do = Callable[[HarrierEmbeddings], Any]

DOCUMENTS: dict[str, Do] = {
    "embed_documents": lambda e: e.embed_documents([TEXT]),
    "aembed_documents": lambda e: asyncio.run(e.aembed_documents([TEXT])),
    "encode_documents": lambda e: e.encode_documents([TEXT]),
}
QUERIES: dict[str, Do] = {
    "embed_query": lambda e: e.embed_query(TEXT),
    "aembed_query": lambda e: asyncio.run(e.aembed_query(TEXT)),
    "embed_queries": lambda e: e.embed_queries([TEXT]),
    "aembed_queries": lambda e: asyncio.run(e.aembed_queries([TEXT])),
    "encode_queries": lambda e: e.encode_queries([TEXT]),
}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("path", [*DOCUMENTS, *QUERIES])
def test_embeddings(words: str, read: list[str], path: str, cached: bool) -> None:
    """Each method reads one string, and a cache separates the roles."""
    embeddings = HarrierEmbeddings(model=words, cache=InMemoryByteStore() if cached else None)
    do = {**DOCUMENTS, **QUERIES}[path]
    other = embeddings.embed_query if path in DOCUMENTS else lambda text: embeddings.embed_documents([text])
    other(TEXT)
    read.clear()
    do(embeddings)
    assert read == [TEXT if path in DOCUMENTS else WEB + TEXT]
    do(embeddings)
    assert len(read) == (1 if cached else 2)
    embeddings.encoder.close()


@pytest.mark.parametrize("path", QUERIES)
def test_another_task(words: str, read: list[str], path: str) -> None:
    """A name or a sentence changes queries only, at construction or later."""
    birds = Task("Find birds")
    for task, prompt in (("sts_query", STS), (birds, "Instruct: Find birds\nQuery: ")):
        for embeddings in (
            HarrierEmbeddings(model=words, task=task),
            HarrierEmbeddings(model=words).with_task(task),
            HarrierEmbeddings(model=words).model_copy(update={"task": task}),
        ):
            read.clear()
            QUERIES[path](embeddings)
            embeddings.embed_documents([TEXT])
            assert read == [prompt + TEXT, TEXT]


ADDING: dict[str, Callable[[HarrierVectorStore], Any]] = {
    "add_texts": lambda s: s.add_texts([TEXT]),
    "aadd_texts": lambda s: asyncio.run(s.aadd_texts([TEXT])),
    "add_documents": lambda s: s.add_documents([Document(TEXT)]),
    "aadd_documents": lambda s: asyncio.run(s.aadd_documents([Document(TEXT)])),
}
SEARCHING: dict[str, Callable[..., Any]] = {
    "similarity_search": lambda s, **how: s.similarity_search(TEXT, **how),
    "asimilarity_search": lambda s, **how: asyncio.run(s.asimilarity_search(TEXT, **how)),
    "with_score": lambda s, **how: s.similarity_search_with_score(TEXT, **how),
    "awith_score": lambda s, **how: asyncio.run(s.asimilarity_search_with_score(TEXT, **how)),
    "with_relevance": lambda s, **how: s.similarity_search_with_relevance_scores(TEXT, **how),
    "awith_relevance": lambda s, **how: asyncio.run(s.asimilarity_search_with_relevance_scores(TEXT, **how)),
    "mmr": lambda s, **how: s.max_marginal_relevance_search(TEXT, **how),
    "ammr": lambda s, **how: asyncio.run(s.amax_marginal_relevance_search(TEXT, **how)),
    "search": lambda s, **how: s.search(TEXT, "mmr", **how),
    "retriever": lambda s, **how: s.as_retriever(search_kwargs=how).invoke(TEXT),
    "aretriever": lambda s, **how: asyncio.run(s.as_retriever(search_type="mmr", search_kwargs=how).ainvoke(TEXT)),
    "harrier_retriever": lambda s, **how: HarrierRetriever(index=s.index, **how).invoke(TEXT),
    "aharrier_retriever": lambda s, **how: asyncio.run(HarrierRetriever(index=s.index).ainvoke(TEXT, **how)),
}


@pytest.mark.parametrize("path", ADDING)
def test_adding(vector_store: HarrierVectorStore, read: list[str], path: str) -> None:
    ADDING[path](vector_store)
    assert read == [TEXT]
    assert [each.page_content for each in vector_store.similarity_search("one two", k=1)] == [TEXT]


@pytest.mark.parametrize("make", ["from_texts", "afrom_texts", "from_documents", "afrom_documents"])
def test_construction(words: str, read: list[str], store: Any, make: str) -> None:
    """The four constructors of a vector store have the right roles."""
    given: list[Any] = [Document(id="a", page_content=TEXT)] if make.endswith("documents") else [TEXT]
    embedding = HarrierEmbeddings(model=words)
    made: Any = getattr(HarrierVectorStore, make)(given, embedding, store=store, ids=["a"])
    vector_store: HarrierVectorStore = asyncio.run(made) if make.startswith("a") else made
    assert read == [TEXT]
    assert vector_store.get_by_ids(["a"]) == [Document(id="a", page_content=TEXT)]
    assert vector_store.embeddings == embedding


@pytest.mark.parametrize("path", SEARCHING)
def test_searching(vector_store: HarrierVectorStore, read: list[str], path: str) -> None:
    """Each search reads one string with the instruction of the encoder or the call."""
    vector_store.add_texts(["one", "two"])
    for how, prompt in (({}, WEB), ({"task": "sts_query"}, STS), ({"task": Task("A b")}, "Instruct: A b\nQuery: ")):
        read.clear()
        SEARCHING[path](vector_store, **how)
        assert read == [prompt + TEXT]


def _in_memory(embeddings: HarrierEmbeddings, _: pytest.FixtureRequest) -> VectorStore:
    return InMemoryVectorStore(embeddings)


def _qdrant(embeddings: HarrierEmbeddings, _: pytest.FixtureRequest) -> VectorStore:
    from langchain_qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:", force_disable_check_same_thread=True)
    params = models.VectorParams(size=embeddings.encoder.dimensions, distance=models.Distance.COSINE)
    client.create_collection("theirs", params)
    store: VectorStore = QdrantVectorStore(client, "theirs", embeddings, validate_embeddings=False)
    return store


def _postgres(embeddings: HarrierEmbeddings, request: pytest.FixtureRequest) -> VectorStore:
    reason = "langchain-postgres is not here; it needs pgvector below 0.4, as the oldest set that is tested has it"
    postgres = pytest.importorskip("langchain_postgres", reason=reason)
    url: str = request.getfixturevalue("postgres")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    engine = postgres.PGEngine.from_connection_string(url.replace("postgresql:", "postgresql+psycopg:", 1))
    request.addfinalizer(lambda: asyncio.run(engine.close()))
    engine.init_vectorstore_table("theirs", embeddings.encoder.dimensions, overwrite_existing=True)
    store: VectorStore = postgres.PGVectorStore.create_sync(engine, embeddings, "theirs")
    return store


@pytest.mark.parametrize("make", [_in_memory, _qdrant, _postgres])
def test_another_vector_store(
    words: str, read: list[str], request: pytest.FixtureRequest, make: Callable[..., VectorStore]
) -> None:
    """It has no roles, and gives each text the right one; newlines are kept."""
    with HarrierEmbeddings(model=words).encoder as encoder:
        store = make(HarrierEmbeddings.from_encoder(encoder), request)
        read.clear()  # of texts that some try out first
        store.add_texts(["bread\nrises", "rivers\ncarry sand"])
        [found] = store.similarity_search("why does\nbread rise", k=1)
        assert found.page_content == "bread\nrises"
        asyncio.run(store.aadd_documents([Document("c\nd")]))
        asyncio.run(store.asimilarity_search("e\nf", k=1))
        store.as_retriever().invoke("g\nh")
    documents = ["bread\nrises", "rivers\ncarry sand", "c\nd"]
    assert sorted(read) == sorted([*documents, WEB + "why does\nbread rise", WEB + "e\nf", WEB + "g\nh"])


def test_embeddings_of_an_index(index: Index, read: list[str]) -> None:
    """They use its encoder and task."""
    embeddings = HarrierVectorStore(index).embeddings
    assert embeddings is not None
    assert embeddings.encoder is index.encoder
    embeddings.embed_query(TEXT)
    assert read == [WEB + TEXT]


def test_the_prompt_is_encoded(words: str) -> None:
    """A query's vector is that of the prompt, so the instruction is not only displayed."""
    embeddings = HarrierEmbeddings(model=words)
    shown = embeddings.encode_documents([WEB + TEXT])
    assert abs(embeddings.encode_queries([TEXT]) - shown).max() < 1e-6
