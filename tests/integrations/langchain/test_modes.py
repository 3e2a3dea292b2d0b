"""Keyword and hybrid search and reranking in each of LangChain's ways to search."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_harrier import HarrierEmbeddings, HarrierRerank, HarrierRetriever, HarrierVectorStore
from longest import Longest
from pydantic import ValidationError

from harrier_core import Diverse, Encoder, Index, SettingError, StoreUnsuitable
from harrier_core.testing import MemoryStore

WEB = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
DOCUMENTS = [
    Document(id="1", page_content="a connection was refused ERR_CONN_1042", metadata={"year": 2021}),
    Document(id="2", page_content="a connection was refused ERR_CONN_1043", metadata={"year": 2022}),
    Document(id="3", page_content="bread yeast flour", metadata={"year": 2023}),
    Document(id="4", page_content="a river carries sand", metadata={"year": 2024}),
]
QUERY = "ERR_CONN_1043"
BY_TEXT = [
    f"{a}{name}"
    for a in ("", "a")
    for name in (
        *("similarity_search", "similarity_search_with_score", "similarity_search_with_relevance_scores"),
        "max_marginal_relevance_search",
    )
]
NO_TEXT = [
    f"{a}{name}"
    for a in ("", "a")
    for name in (
        *("similarity_search_by_vector", "similarity_search_with_score_by_vector"),
        *("max_marginal_relevance_search_by_vector", "max_marginal_relevance_search_with_score_by_vector"),
    )
]


def ids_found(vector_store: HarrierVectorStore, name: str, query: str = "bread", **options: Any) -> list[str]:
    """Return the ids of the documents that any search finds."""
    asked = vector_store.embeddings.embed_query(query) if name.endswith("by_vector") else query
    done = getattr(vector_store, name)(asked, **options)
    found = asyncio.run(done) if asyncio.iscoroutine(done) else done
    return [str((each[0] if isinstance(each, tuple) else each).id) for each in found]


@pytest.fixture
def filled(encoder: Encoder) -> HarrierVectorStore:
    vector_store = HarrierVectorStore(Index(MemoryStore(keywords=True), encoder))
    vector_store.add_documents(DOCUMENTS)
    return vector_store


@pytest.mark.parametrize("name", [name for name in BY_TEXT if "relevance_scores" not in name])
def test_keyword_search(filled: HarrierVectorStore, read: list[str], name: str) -> None:
    """Only documents with the words are found, and no model reads the query."""
    read.clear()
    assert ids_found(filled, name, QUERY, mode="keyword")[0] == "2"
    assert set(ids_found(filled, name, QUERY, mode="keyword")) == {"1", "2"}
    assert ids_found(filled, name, QUERY, mode="keyword", filter={"year": 2021}) == ["1"]
    assert ids_found(filled, name, "zeppelin", mode="keyword") == []
    assert read == []


@pytest.mark.parametrize("name", [name for name in BY_TEXT if "relevance_scores" not in name])
def test_hybrid_search(filled: HarrierVectorStore, read: list[str], name: str) -> None:
    """The query keeps its instruction, and words have the given weight."""
    read.clear()
    assert ids_found(filled, name, QUERY, mode="hybrid")[0] == "2"
    assert read == [WEB + QUERY]
    assert ids_found(filled, name, "bread ERR_CONN_1042", mode="hybrid", keyword_weight=100)[0] == "1"
    assert set(ids_found(filled, name, QUERY, mode="hybrid")) == {"1", "2", "3", "4"}


@pytest.mark.parametrize("name", [name for name in BY_TEXT if "max" not in name and "relevance" not in name])
def test_reranking(filled: HarrierVectorStore, name: str) -> None:
    """A Reranker orders the requested number of candidates, or they are diversified."""
    reranker = Longest()
    assert ids_found(filled, name, "bread", k=2, rerank=reranker, among=4)[0] in ("1", "2")
    assert reranker.asked == [("bread", 4)]
    diverse = ids_found(filled, name, "connection refused", k=2, rerank=Diverse(0.1))
    assert set(diverse) != {"1", "2"}
    if name.endswith("score"):
        done: Any = getattr(filled, name)("bread", k=1, rerank=reranker)
        [(document, score)] = asyncio.run(done) if name.startswith("a") else done
        assert score == len(document.page_content)


@pytest.mark.parametrize("name", [name for name in BY_TEXT if "relevance_scores" in name])
def test_relevance(filled: HarrierVectorStore, name: str) -> None:
    """Scores that are not cosines have no relevance, and are refused."""

    def found(**how: Any) -> list[tuple[Document, float]]:
        done = getattr(filled, name)(QUERY, k=4, **how)
        pairs: list[tuple[Document, float]] = asyncio.run(done) if name.startswith("a") else done
        return pairs

    assert len(found(rerank=Diverse(0.5))) == 4
    score = name.replace("relevance_scores", "score")
    with pytest.raises(SettingError, match=f"{name} returns cosines, not a BM25 score; use {score}"):
        found(mode="keyword")
    with pytest.raises(SettingError, match="returns cosines, not the score of mode='hybrid'; use"):
        found(mode="hybrid")
    with pytest.raises(SettingError, match="returns cosines, not a Reranker's score; use"):
        found(rerank=Longest())


@pytest.mark.parametrize("name", NO_TEXT)
def test_searches_by_vector_have_no_words(filled: HarrierVectorStore, name: str) -> None:
    given: dict[str, Any]
    for given in ({"mode": "hybrid"}, {"keyword_weight": 1}, {"rerank": Longest()}, {"among": 3}):
        with pytest.raises(SettingError, match="use similarity_search, or its other forms, for a query's text"):
            ids_found(filled, name, **given)


@pytest.mark.parametrize("name", ["alpha", "hybrid_fusion", "hybrid_search_config", "sparse_query"])
def test_options_of_other_stores(filled: HarrierVectorStore, name: str) -> None:
    with pytest.raises(SettingError, match=f"unknown keyword, '{name}': use mode='hybrid', and keyword_weight"):
        filled.similarity_search("bread", **{name: None})  # type: ignore[arg-type]


RETRIEVERS: dict[str, Callable[..., list[Document]]] = {
    "as_retriever": lambda store, query, **how: store.as_retriever(search_kwargs=how).invoke(query),
    "aas_retriever": lambda store, query, **how: asyncio.run(store.as_retriever(search_kwargs=how).ainvoke(query)),
    "mmr": lambda store, query, **how: store.as_retriever(search_type="mmr", search_kwargs=how).invoke(query),
    "own": lambda store, query, **how: HarrierRetriever(index=store.index, **how).invoke(query),
    "aown": lambda store, query, **how: asyncio.run(HarrierRetriever(index=store.index, **how).ainvoke(query)),
    "own, of a call": lambda store, query, **how: HarrierRetriever(index=store.index).invoke(query, **how),
}


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_retrievers(filled: HarrierVectorStore, read: list[str], retriever: str) -> None:
    """Settings of a retriever apply to each of its searches."""
    find = RETRIEVERS[retriever]
    read.clear()
    assert find(filled, QUERY, mode="keyword", k=1)[0].id == "2"
    assert read == []
    assert find(filled, QUERY, mode="hybrid", keyword_weight=3, k=1)[0].id == "2"
    assert read == [WEB + QUERY]
    if retriever != "mmr":
        reranker = Longest()
        find(filled, "bread", rerank=reranker, among=3, k=1)
        assert reranker.asked == [("bread", 3)]
        with pytest.raises(SettingError, match=r"rerank must be an object with scores\(query, texts\), got the class"):
            find(filled, "bread", rerank=Longest)


def test_invalid_modes(filled: HarrierVectorStore) -> None:
    with pytest.raises(SettingError, match="mode must be one of 'dense', 'keyword', 'hybrid', got 'sparse'"):
        filled.similarity_search("bread", mode="sparse")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="'dense', 'keyword' or 'hybrid'"):
        HarrierRetriever(index=filled.index, mode="sparse")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="put it in search_kwargs"):
        filled.as_retriever(mode="hybrid")


def test_a_place_without_words(encoder: Encoder) -> None:
    """The error names the remedy; a missing place acts as an empty one in every mode."""
    vector_store = HarrierVectorStore(Index(MemoryStore(), encoder))
    assert vector_store.similarity_search("bread", mode="hybrid") == []
    vector_store.add_documents(DOCUMENTS)
    with pytest.raises(StoreUnsuitable, match=r"add_keywords\(\) or `harrier keywords PLACE`"):
        vector_store.similarity_search("bread", mode="hybrid")
    vector_store.index.add_keywords()
    assert vector_store.similarity_search(QUERY, k=1, mode="keyword")[0].id == "2"


# -- places


def test_a_place_with_words(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every constructor from a URL passes the option to its store."""
    urls: list[str] = []

    def opened(url: str) -> MemoryStore:
        urls.append(url)
        return MemoryStore(keywords=url.endswith("keywords=true"))

    monkeypatch.setattr("harrier_core.parts.open_store", opened)
    embeddings = HarrierEmbeddings(words)
    with embeddings.encoder:
        how: dict[str, Any] = {"embedding": embeddings, "keywords": True}
        made = [
            HarrierVectorStore(store="pgvector:a?table=b", **how),
            HarrierVectorStore(connection="postgresql://host/db", collection_name="b", **how),
            HarrierVectorStore.from_texts([QUERY], url="http://host:6333", collection_name="b", **how),
            HarrierVectorStore.from_documents(DOCUMENTS, store="qdrant:a", **how),
            asyncio.run(HarrierVectorStore.afrom_texts([QUERY], store="qdrant:a", **how)),
            HarrierVectorStore(embedding=embeddings, store="qdrant:a", keywords=False),
        ]
        assert urls == [
            "pgvector:a?table=b&keywords=true",
            "postgresql://host/db?table=b&keywords=true",
            "qdrant://host:6333/b?keywords=true",
            *["qdrant:a?keywords=true"] * 2,
            "qdrant:a",
        ]
        assert all(each.similarity_search(QUERY, mode="keyword") for each in made[2:5])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"store": MemoryStore(), "keywords": True},
            "MemoryStore has its own keywords setting; pass keywords=T",
        ),
        ({"store": "qdrant:a", "hybrid_search_config": object()}, "pass keywords=True, and mode='hybrid' or mode='key"),
        ({"store": "qdrant:a", "sparse_embedding": object()}, "takes no sparse_embedding: pass keywords=True"),
        ({"store": "qdrant:a", "retrieval_mode": "hybrid"}, "takes no retrieval_mode: pass keywords=True"),
    ],
)
def test_invalid_keyword_options(given: dict[str, Any], said: str) -> None:
    embeddings = HarrierEmbeddings("harrier-0.6b")
    with pytest.raises(SettingError, match=said):
        HarrierVectorStore(embedding=embeddings, **given)
    with pytest.raises(SettingError, match=said):
        HarrierVectorStore.from_texts(["a"], embeddings, **given)


def test_keyword_options_with_an_index() -> None:
    index = Index(MemoryStore(), HarrierEmbeddings("harrier-0.6b"))
    with pytest.raises(SettingError, match="an Index has its own store; pass keywords=True to that"):
        HarrierVectorStore(index, keywords=True)
    dense: dict[str, Any] = {"retrieval_mode": "dense", "sparse_embedding": None, "hybrid_search_config": None}
    HarrierVectorStore(index, **dense)


# -- reranking of any documents


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_compressor(asynchronous: bool) -> None:
    """The best documents come first with scores in their metadata, and the given ones are unchanged."""
    compressor: BaseDocumentCompressor = HarrierRerank(reranker=Longest(), top_n=2)

    def compressed(documents: Sequence[Document]) -> Sequence[Document]:
        if asynchronous:
            return asyncio.run(compressor.acompress_documents(documents, "bread"))
        return compressor.compress_documents(documents, "bread")

    found = compressed(DOCUMENTS)
    assert [each.id for each in found] == ["1", "2"]  # as long as each other: the first stays first
    assert [each.metadata for each in found] == [
        {"year": year, "relevance_score": len(DOCUMENTS[0].page_content)} for year in (2021, 2022)
    ]
    assert all("relevance_score" not in each.metadata for each in DOCUMENTS)
    assert list(compressed([])) == []


def test_invalid_compressors() -> None:
    for wrong, said in ((Longest, "the class Longest"), (object(), "object")):
        with pytest.raises(ValidationError, match=rf"reranker must be an object with scores\(.*\), got .*{said}"):
            HarrierRerank(reranker=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        HarrierRerank(reranker=Longest(), top_n=0)
    with pytest.raises(ValidationError):
        HarrierRerank(reranker=Longest(), top=1)  # type: ignore[call-arg]
    assert HarrierRerank(reranker=Longest()).top_n == 3


def test_in_contextual_compression_retriever(filled: HarrierVectorStore) -> None:
    """The compressor works with any retriever of LangChain."""
    classic = pytest.importorskip("langchain_classic.retrievers", reason="langchain-classic is not here")
    kept = classic.ContextualCompressionRetriever(
        base_compressor=HarrierRerank(reranker=Longest(), top_n=1), base_retriever=filled.as_retriever()
    )
    assert kept.invoke("bread")[0].id == "1"
