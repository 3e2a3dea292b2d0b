"""A real Chroma in a folder: it has no roles, and gives each text the right one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_harrier import HarrierEmbeddings

from harrier_core import Task

REASON = "langchain-chroma is not here; it brings kubernetes and onnxruntime, and so is in no set that is tested"
Chroma: Any = pytest.importorskip("langchain_chroma", reason=REASON).Chroma
chromadb: Any = pytest.importorskip("chromadb", reason=REASON)

WEB = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
TEXT = " one\n\n two\r\nthree\t\u2028four \n"
BREAD = "Bread rises\nbecause of yeast."
DOUGH = "Bread rises\nbecause of yeast in dough."
SAND = "Rivers carry\nsand to the sea."
COSINE = {"hnsw:space": "cosine"}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    """Return Chroma's client in this process, with files in a folder."""
    with chromadb.PersistentClient(tmp_path / "chroma") as client:
        yield client


@pytest.fixture
def embeddings(words: str) -> Iterator[HarrierEmbeddings]:
    embeddings = HarrierEmbeddings(model=words)
    yield embeddings
    embeddings.encoder.close()


@pytest.fixture
def store(client: Any, embeddings: HarrierEmbeddings) -> Any:
    """Return an empty store."""
    return Chroma("docs", embeddings, client=client, collection_metadata=COSINE)


@pytest.fixture
def filled(store: Any, read: list[str]) -> Any:
    store.add_texts([BREAD, DOUGH, SAND], [{"of": "food"}, {"of": "food"}, {"of": "water"}], ids=["b", "d", "s"])
    read.clear()
    return store


ADDING: dict[str, Callable[[Any], Any]] = {
    "add_texts": lambda s: s.add_texts([TEXT], ids=["a"]),
    "aadd_texts": lambda s: asyncio.run(s.aadd_texts([TEXT], ids=["a"])),
    "add_documents": lambda s: s.add_documents([Document(TEXT, id="a")]),
    "aadd_documents": lambda s: asyncio.run(s.aadd_documents([Document(TEXT, id="a")])),
}
SEARCHING: dict[str, Callable[[Any, str], Any]] = {
    "similarity_search": lambda s, text: s.similarity_search(text),
    "asimilarity_search": lambda s, text: asyncio.run(s.asimilarity_search(text)),
    "with_score": lambda s, text: s.similarity_search_with_score(text),
    "awith_score": lambda s, text: asyncio.run(s.asimilarity_search_with_score(text)),
    "with_relevance": lambda s, text: s.similarity_search_with_relevance_scores(text),
    "awith_relevance": lambda s, text: asyncio.run(s.asimilarity_search_with_relevance_scores(text)),
    "with_vectors": lambda s, text: s.similarity_search_with_vectors(text),
    "mmr": lambda s, text: s.max_marginal_relevance_search(text),
    "ammr": lambda s, text: asyncio.run(s.amax_marginal_relevance_search(text)),
    "search": lambda s, text: s.search(text, "similarity"),
    "asearch": lambda s, text: asyncio.run(s.asearch(text, "mmr")),
    "retriever": lambda s, text: s.as_retriever().invoke(text),
    "aretriever": lambda s, text: asyncio.run(s.as_retriever(search_type="mmr").ainvoke(text)),
    "batch": lambda s, text: s.as_retriever().batch([text])[0],
    "threshold": lambda s, text: s.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.0}
    ).invoke(text),
}


@pytest.mark.parametrize("path", ADDING)
def test_adding(store: Any, read: list[str], path: str) -> None:
    """Texts are read and stored as they were given."""
    assert ADDING[path](store) == ["a"]
    assert read == [TEXT]
    assert store.get(["a"])["documents"] == [TEXT]


@pytest.mark.parametrize("make", ["from_texts", "afrom_texts", "from_documents", "afrom_documents"])
def test_construction(client: Any, embeddings: HarrierEmbeddings, read: list[str], make: str) -> None:
    """The four constructors from texts and documents work."""
    given: list[Any] = [Document(TEXT)] if make.endswith("documents") else [TEXT]
    made = getattr(Chroma, make)(given, embeddings, ids=["a"], client=client)
    store = asyncio.run(made) if make.startswith("a") else made
    assert read == [TEXT]
    assert store.get(["a"])["documents"] == [TEXT]
    assert store.embeddings is embeddings


@pytest.mark.parametrize("path", SEARCHING)
def test_searching(store: Any, read: list[str], path: str) -> None:
    """Each search reads one prompt, and found texts are unchanged."""
    store.add_texts([BREAD, TEXT])
    read.clear()
    first = SEARCHING[path](store, TEXT)[0]
    assert read == [WEB + TEXT] == [store.embeddings.encoder.prompt(TEXT)]
    assert (first[0] if isinstance(first, tuple) else first).page_content == TEXT


@pytest.mark.parametrize("path", SEARCHING)
def test_another_task(client: Any, store: Any, read: list[str], path: str) -> None:
    """Another task is another object over the same collection, and does not affect documents."""
    birds = Chroma("docs", store.embeddings.with_task(Task("Find birds")), client=client)
    birds.add_texts([TEXT])
    SEARCHING[path](birds, TEXT)
    SEARCHING[path](store, TEXT)
    assert read == [TEXT, "Instruct: Find birds\nQuery: " + TEXT, WEB + TEXT]


def test_scores(filled: Any, embeddings: HarrierEmbeddings) -> None:
    """Scores are those of the encoder's vectors, which Chroma stores as exact float32."""
    query = "why does\nbread rise"
    [vector] = embeddings.encode_queries([query])
    kept = filled.get(["b", "d", "s"], include=["embeddings"])
    by_id = dict(zip(kept["ids"], kept["embeddings"].astype(np.float32), strict=True))
    documents = np.stack([by_id["b"], by_id["d"], by_id["s"]])
    assert np.array_equal(documents, embeddings.encode_documents([BREAD, DOUGH, SAND]))
    expected = dict(zip([BREAD, DOUGH, SAND], documents @ vector, strict=True))
    scores = {each.page_content: score for each, score in filled.similarity_search_with_relevance_scores(query)}
    distances = {each.page_content: score for each, score in filled.similarity_search_with_score(query)}
    assert scores == pytest.approx(expected, abs=1e-5)
    assert distances == pytest.approx({text: 1 - cosine for text, cosine in expected.items()}, abs=1e-5)


def test_search_types(filled: Any) -> None:
    """Similarity, MMR and filtered searches work."""
    query = "why does\nbread rise because of yeast"
    assert {each.page_content for each in filled.similarity_search(query, k=2)} == {BREAD, DOUGH}
    found = filled.max_marginal_relevance_search(query, k=2, lambda_mult=0.1)
    assert [each.page_content for each in found] == [BREAD, SAND]
    assert filled.similarity_search(query, filter={"of": "water"}) == [
        Document(id="s", page_content=SAND, metadata={"of": "water"})
    ]


def test_concurrent_searches(filled: Any, read: list[str]) -> None:
    """Each has its own prompt and answer."""
    asked = {f"bread in\ndough {number}": DOUGH for number in range(12)}
    asked |= {f"what do rivers\ncarry {number}": SAND for number in range(12)}

    async def all_of_them() -> Any:
        return await asyncio.gather(*(filled.asimilarity_search(query, k=1) for query in asked))

    assert [each.page_content for [each] in asyncio.run(all_of_them())] == list(asked.values())
    assert sorted(read) == sorted(WEB + query for query in asked)


def test_updating(filled: Any, read: list[str]) -> None:
    """A replaced document is read without an instruction too."""
    filled.update_document("b", Document(TEXT, metadata={"of": "numbers"}))
    filled.add_documents([Document(id="s", page_content=SAND + "\n", metadata={"of": "water"})])
    assert read == [TEXT, SAND + "\n"]
    assert filled.get_by_ids(["b"]) == [Document(id="b", page_content=TEXT, metadata={"of": "numbers"})]
    assert len(filled.get()["ids"]) == 3


@pytest.mark.parametrize("delete", ["delete", "adelete"])
def test_deleting(filled: Any, read: list[str], delete: str) -> None:
    """Deleted documents are not found, and no model is used."""
    done = getattr(filled, delete)(["b", "d"])
    if delete == "adelete":
        asyncio.run(done)
    assert read == []
    assert [each.id for each in filled.similarity_search(BREAD)] == ["s"]


def test_opened_again(client: Any, filled: Any, embeddings: HarrierEmbeddings, read: list[str]) -> None:
    """Data persists, and nothing is embedded again."""
    expected = filled.get(include=["documents", "embeddings"])
    client.close()
    again = Chroma("docs", embeddings, persist_directory=client.get_settings().persist_directory)
    found = again.get(include=["documents", "embeddings"])
    assert read == []
    assert found["documents"] == expected["documents"] == [BREAD, DOUGH, SAND]
    assert np.array_equal(found["embeddings"], expected["embeddings"])
    assert again.similarity_search("what do rivers\ncarry", k=1)[0].page_content == SAND
