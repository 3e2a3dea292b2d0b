"""Real pipelines: indexing, querying, YAML, async."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, Pipeline
from haystack.components.builders import PromptBuilder
from haystack.components.preprocessors import DocumentSplitter
from haystack.components.retrievers import InMemoryEmbeddingRetriever, SentenceWindowRetriever, TextEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.core.errors import SerializationError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret
from haystack_integrations.components.embedders.harrier import HarrierDocumentEmbedder, HarrierTextEmbedder
from haystack_integrations.components.retrievers.harrier import HarrierEmbeddingRetriever, HarrierRetriever
from haystack_integrations.document_stores.harrier import HarrierDocumentStore

from harrier_core import EmptyText, Encoder, Index, SettingError, StoreUnavailable, Task
from harrier_core.testing import MemoryStore

WEB = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
STS = "Instruct: Retrieve semantically similar text\nQuery: "
PROMPT = "{% for each in documents %}{{ each.content }}\n{% endfor %}Question: {{ question }}"
DOCUMENTS = [
    Document(id="bread", content="Bread rises because of yeast.", meta={"year": 2021, "lang": "en"}),
    Document(id="river", content="Rivers carry sand to the sea.", meta={"year": 2023, "lang": "en"}),
    Document(id="pain", content="Le pain rises, rises, rises.", meta={"year": 2019, "lang": "fr"}),
]
QUESTION = "why does bread rises"


def writing(store: Any) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("writer", DocumentWriter(store))
    return pipeline


def asking(retriever: Any, **components: Any) -> Pipeline:
    """Return a pipeline that retrieves documents for a prompt."""
    pipeline = Pipeline()
    for name, made in {
        "retriever": retriever,
        "prompt": PromptBuilder(PROMPT, required_variables="*"),
        **components,
    }.items():
        pipeline.add_component(name, made)
    pipeline.connect("retriever.documents", "prompt.documents")
    if "embedder" in components:
        pipeline.connect("embedder.embedding", "retriever.query_embedding")
    return pipeline


def test_write_retrieve_prompt(document_store: HarrierDocumentStore, read: list[str]) -> None:
    """The Index embeds documents unchanged, and queries with their instruction."""
    assert writing(document_store).run({"writer": {"documents": DOCUMENTS}}) == {"writer": {"documents_written": 3}}
    assert sorted(read) == sorted(str(each.content) for each in DOCUMENTS)
    read.clear()
    pipeline = asking(HarrierRetriever(document_store, top_k=1))
    pipeline.warm_up()
    read.clear()
    found = pipeline.run({"retriever": {"query": QUESTION}, "prompt": {"question": QUESTION}}, {"retriever"})
    assert read == [WEB + QUESTION]
    assert found["prompt"]["prompt"] == f"Bread rises because of yeast.\nQuestion: {QUESTION}"
    [document] = found["retriever"]["documents"]
    assert (document.id, document.meta) == ("bread", {"year": 2021, "lang": "en"})
    assert 0 < document.score <= 1
    assert writing(document_store).run({"writer": {"documents": DOCUMENTS}})["writer"] == {"documents_written": 3}
    assert read == [WEB + QUESTION]  # unchanged documents are not embedded again


def test_by_embeddings(document_store: HarrierDocumentStore, words: str, read: list[str]) -> None:
    """A text embedder may come before the retriever."""
    document_store.write_documents(DOCUMENTS)
    embedder = HarrierTextEmbedder(words)
    pipeline = asking(HarrierEmbeddingRetriever(document_store, top_k=1), embedder=embedder)
    pipeline.warm_up()
    read.clear()
    found = pipeline.run({"embedder": {"text": QUESTION}, "prompt": {"question": QUESTION}})
    assert read == [WEB + QUESTION]
    assert found["prompt"]["prompt"].startswith("Bread rises")
    both = TextEmbeddingRetriever(retriever=HarrierEmbeddingRetriever(document_store), text_embedder=embedder)
    assert [each.id for each in both.run(query=QUESTION, top_k=2)["documents"]] == ["bread", "pain"]


def test_embedders_for_another_store(words: str, encoder: Encoder) -> None:
    """Haystack's own store has no roles, and its cosines equal an Index's."""
    store = InMemoryDocumentStore(embedding_similarity_function="cosine", shared=False)
    pipeline = Pipeline()
    pipeline.add_component("embedder", HarrierDocumentEmbedder(words, progress_bar=False))
    pipeline.add_component("writer", DocumentWriter(store))
    pipeline.connect("embedder.documents", "writer.documents")
    pipeline.run({"embedder": {"documents": DOCUMENTS}})
    both = asking(InMemoryEmbeddingRetriever(store), embedder=HarrierTextEmbedder(words))
    theirs = both.run({"embedder": {"text": QUESTION}, "prompt": {"question": QUESTION}}, {"retriever"})
    ours = HarrierDocumentStore(Index(MemoryStore(), encoder))
    ours.write_documents(DOCUMENTS)
    found = HarrierRetriever(ours).run(QUESTION)["documents"]
    assert [(each.id, pytest.approx(each.score, abs=1e-5)) for each in found] == [
        (each.id, each.score) for each in theirs["retriever"]["documents"]
    ]


def test_filters_and_numbers_and_tasks(document_store: HarrierDocumentStore, read: list[str]) -> None:
    """Parameters of a run override the retriever's own."""
    document_store.write_documents(DOCUMENTS)
    english = {"field": "meta.lang", "operator": "==", "value": "en"}
    french = {"field": "meta.lang", "operator": "!=", "value": "en"}
    retriever = HarrierRetriever(document_store, filters=english, top_k=2)
    read.clear()
    assert [each.id for each in retriever.run(QUESTION)["documents"]] == ["bread", "river"]
    assert [each.id for each in retriever.run(QUESTION, filters=french, task="sts_query")["documents"]] == ["pain"]
    assert [each.id for each in retriever.run(QUESTION, top_k=1, task=Task("A b"))["documents"]] == ["bread"]
    assert read == [WEB + QUESTION, STS + QUESTION, "Instruct: A b\nQuery: " + QUESTION]
    [query] = document_store.index.encoder.encode_queries([QUESTION])
    by_embedding = HarrierEmbeddingRetriever(document_store, filters=french)
    assert [each.id for each in by_embedding.run(query.tolist(), top_k=9)["documents"]] == ["pain"]
    with pytest.raises(SettingError, match="k must be a positive integer, got 0"):
        retriever.run(QUESTION, top_k=0)
    with pytest.raises(EmptyText):
        retriever.run(" ")


def test_async(document_store: HarrierDocumentStore, read: list[str]) -> None:
    """Async runs give the same answers, and do not block the event loop."""

    async def run() -> tuple[dict[str, Any], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticking = asyncio.create_task(tick())
        await writing(document_store).run_async({"writer": {"documents": DOCUMENTS}})
        pipeline = asking(HarrierRetriever(document_store, top_k=1))
        found = await pipeline.run_async({"retriever": {"query": QUESTION}, "prompt": {"question": QUESTION}})
        ticking.cancel()
        return found, ticks

    found, ticks = asyncio.run(run())
    assert found["prompt"]["prompt"].startswith("Bread rises because of yeast.\n")
    assert ticks
    assert read.count(WEB + QUESTION) == 1


@pytest.fixture(params=["pgvector", "qdrant"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    query = {"pgvector": "table", "qdrant": "collection"}[request.param]
    return f"{request.param}:{tmp_path / 'index'}?{query}=docs"


def test_yaml(url: str, words: str) -> None:
    """Two pipelines from YAML, each with its document store, share the data."""
    store = HarrierDocumentStore(url, model=words, task=Task("Find birds"), on_rejected="warn")
    recent = {"field": "meta.year", "operator": ">", "value": 2020}
    embedder = HarrierTextEmbedder(words)
    made = [
        writing(store),
        asking(HarrierRetriever(store, top_k=1, filters=recent)),
        asking(HarrierEmbeddingRetriever(store, top_k=1), embedder=embedder),
    ]
    write, ask, ask_by_embedding = again = [Pipeline.loads(each.dumps()) for each in made]
    assert [each.to_dict()["components"] for each in again] == [each.to_dict()["components"] for each in made]
    write.run({"writer": {"documents": DOCUMENTS, "policy": DuplicatePolicy.FAIL}})
    question = {"retriever": {"query": QUESTION}, "prompt": {"question": "?"}}
    answer = {"prompt": {"prompt": "Bread rises because of yeast.\nQuestion: ?"}}
    assert ask.run(question) == answer
    assert ask_by_embedding.run({"embedder": {"text": QUESTION}, "prompt": {"question": "?"}}) == answer
    for pipeline in (ask, ask_by_embedding):
        retriever: Any = pipeline.get_component("retriever")
        index = retriever.document_store.index
        pipeline.close()
        with pytest.raises(StoreUnavailable, match="this store is closed"):
            index.count()
    assert ask.run(question) == answer
    asyncio.run(ask.close_async())
    writer: Any = write.get_component("writer")  # which closed nothing in Haystack 3.0
    for each in (writer.document_store, store, store):
        each.close()


def test_a_secret_place(url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is resolved at the first call."""
    store = HarrierDocumentStore(Secret.from_env_var("DOCUMENTS"), model=words)
    monkeypatch.setenv("DOCUMENTS", url)
    assert store.write_documents(DOCUMENTS) == store.count_documents() == 3
    store.close()


def test_objects_that_are_not_serialised(words: str, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Index and a plain password are refused; passwords belong in the environment."""
    with pytest.raises(SerializationError, match="unsupported value of type 'Index'"):
        writing(HarrierDocumentStore(Index(MemoryStore(), encoder))).dumps()
    for address in ("postgresql://me:very-secret@host/db", "postgresql://host/db?table=a&password=very-secret"):
        with pytest.raises(ValueError, match="Cannot serialize token-based secret") as raised:
            writing(HarrierDocumentStore(address, model=words)).dumps()
        assert "very-secret" not in str(raised.value)
        monkeypatch.setenv("DOCUMENTS", address)
        store = HarrierDocumentStore(Secret.from_env_var("DOCUMENTS"), model=words)
        saved = writing(store).dumps()
        assert "very-secret" not in saved
        writer: Any = Pipeline.loads(saved).get_component("writer")
        assert str(writer.document_store.place.resolve_value()) == address
    plain = writing(HarrierDocumentStore("postgresql://me@host/db?table=docs", model=words)).dumps()
    assert "place: postgresql://me@host/db?table=docs\n" in plain


def test_sentence_window_retriever(document_store: HarrierDocumentStore) -> None:
    """Haystack's SentenceWindowRetriever finds what its splitter produced."""
    text = "Bread rises. Rivers carry sand. The sea is salt. Birds fly south."
    splitter = DocumentSplitter(split_by="period", split_length=1)
    document_store.write_documents(splitter.run([Document(content=text)])["documents"])
    found = HarrierRetriever(document_store, top_k=1).run("carry sand")["documents"]
    around = SentenceWindowRetriever(document_store, window_size=1).run(retrieved_documents=found)
    assert around["context_windows"] == ["Bread rises. Rivers carry sand. The sea is salt."]


def test_warm_up(folder: Path) -> None:
    """The model of an Index is loaded once by a pipeline's warm-up."""
    with Encoder(folder) as encoder:
        pipeline = asking(HarrierRetriever(HarrierDocumentStore(Index(MemoryStore(), encoder))))
        assert encoder.stats.texts == 0
        pipeline.warm_up()
        asyncio.run(pipeline.warm_up_async())
        assert encoder.stats.texts == 1


def test_another_document_store() -> None:
    """The retriever refuses other document stores."""
    other: Any = InMemoryDocumentStore()
    with pytest.raises(SettingError, match="must be a HarrierDocumentStore, got InMemoryDocumentStore"):
        HarrierRetriever(other)
    other.shutdown()


# -- by word, by both, and a second look


class Longest:
    """A Reranker that prefers long texts, and checks that the query is not empty."""

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        assert query
        return [float(len(text)) for text in texts]


@pytest.fixture
def worded(encoder: Encoder) -> HarrierDocumentStore:
    store = HarrierDocumentStore(Index(MemoryStore(keywords=True), encoder))
    store.write_documents(
        [*DOCUMENTS, Document(id="code", content="Restart after ERR_CONN_1042.", meta={"year": 2024})]
    )
    return store


def test_keyword_and_hybrid_search(worded: HarrierDocumentStore, read: list[str]) -> None:
    """Hybrid queries keep their instruction, and keyword queries use no model."""
    recent = {"field": "meta.year", "operator": ">", "value": 2020}
    by_word = HarrierRetriever(worded, mode="keyword", top_k=2)
    read.clear()
    by_word.warm_up()
    asyncio.run(by_word.warm_up_async())
    assert [each.id for each in by_word.run("err conn 1042")["documents"]] == ["code"]
    assert by_word.run("zeppelin")["documents"] == []
    assert [each.id for each in by_word.run("rises", filters=recent)["documents"]] == ["bread"]
    assert read == []
    both = HarrierRetriever(worded, mode="hybrid", keyword_weight=2, top_k=1)
    for found in (both.run("ERR_CONN_1042"), asyncio.run(both.run_async("ERR_CONN_1042"))):
        assert [each.id for each in found["documents"]] == ["code"]
    assert read == [WEB + "ERR_CONN_1042"] * 2
    pipeline = asking(both)
    answer = pipeline.run({"retriever": {"query": "ERR_CONN_1042"}, "prompt": {"question": "?"}})
    assert answer["prompt"]["prompt"].startswith("Restart after")


def test_reranking(worded: HarrierDocumentStore) -> None:
    """Scores are the Reranker's; a custom object cannot be serialised."""
    retriever = HarrierRetriever(worded, rerank=Longest(), among=4, top_k=1)
    [document] = retriever.run("bread")["documents"]
    assert document.score == len(document.content or "") == max(len(each.content or "") for each in DOCUMENTS)
    with pytest.raises(SerializationError, match="unsupported value of type 'Longest'"):
        asking(HarrierRetriever(HarrierDocumentStore("qdrant:x", model="harrier-0.6b"), rerank=Longest())).dumps()
    modes = HarrierRetriever(HarrierDocumentStore("qdrant:x", model="harrier-0.6b"), mode="hybrid", keyword_weight=0.5)
    again: Any = Pipeline.loads(asking(modes).dumps()).get_component("retriever")
    assert (again.mode, again.keyword_weight, again.rerank, again.among) == ("hybrid", 0.5, None, None)
