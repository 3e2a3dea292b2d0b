"""HarrierVectorStore returns documents as they were stored, in every kind of store, and reports errors."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager
from langchain_core.indexing import index as index_documents
from langchain_core.stores import InMemoryByteStore
from langchain_harrier import DocumentsRejected, HarrierEmbeddings, HarrierRetriever, HarrierVectorStore

from harrier_core import (
    Chunking,
    Encoder,
    FilterError,
    HarrierError,
    Index,
    InputWarning,
    SettingError,
    StoreMissing,
    StoreUnsuitable,
    VectorStore,
    WrongSpace,
)
from harrier_core.testing import PROSE, MemoryStore

BREAD = Document(id="bread", page_content="Bread rises because of yeast.", metadata={"year": 2021, "lang": "en"})
VIRUS = Document(id="a/b 'c'", page_content="Vaccines train against a virus.", metadata={"year": 2023, "lang": "en"})
RIVER = Document(id="river", page_content="Rivers carry sand.", metadata={"lang": "fr", "tags": ["water", {"a": None}]})
DOCUMENTS = [BREAD, VIRUS, RIVER]


def ids_of(documents: list[Document]) -> list[str | None]:
    return [each.id for each in documents]


@pytest.fixture
def index_in_memory(encoder: Encoder) -> Index:
    return Index(MemoryStore(), encoder)


@pytest.fixture
def filled(vector_store: HarrierVectorStore) -> HarrierVectorStore:
    vector_store.add_documents(DOCUMENTS)
    return vector_store


# -- in


def test_documents_are_returned_unchanged(filled: HarrierVectorStore) -> None:
    """Ids, texts and metadata survive; get_by_ids keeps the order and skips missing ids."""
    assert filled.similarity_search("vaccines virus", k=1) == [VIRUS]
    assert filled.get_by_ids(["river", "nothing", "bread", "river"]) == [RIVER, BREAD]
    assert asyncio.run(filled.aget_by_ids(["a/b 'c'"])) == [VIRUS]
    assert filled.get_by_ids([]) == []
    with pytest.raises(SettingError, match="put a single one in a list"):
        filled.get_by_ids("river")


def test_returned_documents_are_copies(filled: HarrierVectorStore) -> None:
    """Changing them does not change the store."""
    filled.get_by_ids(["bread"])[0].metadata["year"] = 1
    filled.similarity_search("bread yeast", k=1)[0].metadata.clear()
    assert filled.get_by_ids(["bread"]) == [BREAD]


def test_any_iterable(vector_store: HarrierVectorStore, words: str, index: Index) -> None:
    """A generator is read once and completely."""
    assert vector_store.add_documents(each for each in DOCUMENTS) == ["bread", "a/b 'c'", "river"]
    assert asyncio.run(vector_store.aadd_texts((f"text {n}" for n in range(3)), ids=(str(n) for n in range(3)))) == [
        "0",
        "1",
        "2",
    ]
    assert vector_store.add_texts(iter(["d"]), iter([{"a": 1}]), ids=iter(["d"])) == ["d"]
    assert vector_store.get_by_ids(["d"]) == [Document(id="d", page_content="d", metadata={"a": 1})]
    made = HarrierVectorStore.from_documents(
        (each for each in DOCUMENTS), HarrierEmbeddings(model=words), store=index.store
    )
    assert made.index.count() == 7


def test_ids(vector_store: HarrierVectorStore) -> None:
    """Given ids, the documents' ids or new ones are used, and documents are not modified."""
    documents = [Document("one"), Document(id="own", page_content="two"), Document("three")]
    first, own, third = vector_store.add_documents(documents)
    assert own == "own"
    assert all(UUID(each).version == 4 for each in (first, third))
    assert vector_store.add_documents(documents, ids=["1", "2", "3"]) == ["1", "2", "3"]
    given, new = vector_store.add_texts(["four", "five"], ids=["4", None])
    assert given == "4"
    assert UUID(new).version == 4
    assert ids_of(documents) == [None, "own", None]
    assert vector_store.index.count() == 8


def test_only_changes_are_embedded(filled: HarrierVectorStore, encoder: Encoder) -> None:
    """The same documents encode nothing, and a new text replaces the old one."""
    before = encoder.stats.texts
    filled.add_documents(DOCUMENTS)
    asyncio.run(filled.aadd_documents(DOCUMENTS))
    assert encoder.stats.texts == before
    filled.add_texts(["Bread is baked in an oven."], [{"year": 2026}], ids=["bread"])
    assert encoder.stats.texts == before + 1
    assert filled.get_by_ids(["bread"]) == [
        Document(id="bread", page_content="Bread is baked in an oven.", metadata={"year": 2026})
    ]
    assert filled.index.count() == 3


@pytest.mark.parametrize("add", ["add_documents", "aadd_documents"])
def test_rejected_documents(vector_store: HarrierVectorStore, add: str) -> None:
    """Valid ones are stored; the error has ids and reasons of the others, and can be pickled."""
    documents = [
        BREAD,
        Document(id="empty", page_content=" "),
        Document(id="odd", page_content="fine", metadata={"value": b"12"}),
        Document("a text under a new id"),
    ]
    with pytest.raises(DocumentsRejected, match="^2 documents cannot be stored: 'empty' has a text that is") as caught:
        asyncio.run(vector_store.aadd_documents(documents)) if add[1] == "a" else vector_store.add_documents(documents)
    error: DocumentsRejected = pickle.loads(pickle.dumps(caught.value))
    assert issubclass(type(error), HarrierError)
    assert str(error) == str(caught.value)
    assert [id_ for id_, _ in error.rejected] == ["empty", "odd"]
    assert "a value that JSON cannot represent: bytes" in error.rejected[1][1]
    assert error.stored[0] == "bread"
    assert vector_store.get_by_ids(error.stored)[1].page_content == "a text under a new id"
    assert vector_store.index.count() == 2


PAGES = [Document(id=f"page {n}", page_content=f"page {n} of the book" if n != 5 else " \n") for n in range(250)]


def test_langchains_index_gets_past_a_blank_page(words: str, store: VectorStore) -> None:
    """With on_rejected="warn" other pages are stored, and the next run has nothing to do."""
    records = InMemoryRecordManager(namespace="book")
    records.create_schema()
    vector_store = HarrierVectorStore(Index(store, Encoder(words)), on_rejected="warn")
    with pytest.warns(InputWarning, match="^1 documents cannot be stored: .* has a text that is empty or blank"):
        result = index_documents(PAGES, records, vector_store, cleanup="full", key_encoder="sha256")
    assert result["num_added"] == 250
    assert vector_store.index.count() == 249
    again = index_documents(PAGES, records, vector_store, cleanup="full", key_encoder="sha256")
    assert (again["num_added"], again["num_skipped"], again["num_deleted"]) == (0, 250, 0)
    rest = index_documents(PAGES[:10], records, vector_store, cleanup="full", key_encoder="sha256")
    assert rest["num_deleted"] == 240
    assert vector_store.index.count() == 9


@pytest.mark.parametrize("how", ["add_documents", "aadd_documents", "add_texts", "aadd_texts"])
def test_rejections_as_warnings(index_in_memory: Index, how: str) -> None:
    """The store or the call sets it, and the returned ids are those of stored documents."""
    given: Any = [BREAD, Document("")] if how.endswith("documents") else [BREAD.page_content, ""]

    def add(on_rejected: Any = None, own: Any = "error") -> Any:
        vector_store = HarrierVectorStore(index_in_memory, on_rejected=own)
        added = getattr(vector_store, how)(given, ids=["bread", "blank"], on_rejected=on_rejected)
        return asyncio.run(added) if how.startswith("aa") else added

    for options in ({"own": "warn"}, {"on_rejected": "warn"}):
        with pytest.warns(InputWarning, match="'blank' has a text that is empty"):
            assert add(**options) == ["bread"]
    for options in ({}, {"own": "warn", "on_rejected": "error"}):
        with pytest.raises(DocumentsRejected):
            add(**options)
    for options in ({"own": "ignore"}, {"on_rejected": "ignore"}):
        with pytest.raises(SettingError, match="on_rejected must be 'error' or 'warn', got 'ignore'"):
            add(**options)


@pytest.mark.parametrize("make", ["from_texts", "afrom_texts", "from_documents", "afrom_documents"])
def test_the_vector_store_of_an_error(words: str, make: str) -> None:
    """The error has the vector store; with a warning nothing is raised."""
    given: Any = [BREAD, Document("")] if make.endswith("documents") else [BREAD.page_content, ""]

    def made(**options: Any) -> HarrierVectorStore:
        embeddings = HarrierEmbeddings(model=words)
        making = getattr(HarrierVectorStore, make)(given, embeddings, store=MemoryStore(), ids=["a", "b"], **options)
        found: HarrierVectorStore = asyncio.run(making) if make.startswith("a") else making
        return found

    with pytest.raises(DocumentsRejected) as caught:
        made()
    assert caught.value.vector_store is not None
    assert ids_of(caught.value.vector_store.similarity_search("bread")) == ["a"]
    assert pickle.loads(pickle.dumps(caught.value)).rejected == caught.value.rejected
    with pytest.warns(InputWarning):
        assert ids_of(made(on_rejected="warn").similarity_search("bread")) == ["a"]


def test_a_cache_is_used(words: str, store: VectorStore) -> None:
    """Embeddings and vector store share the cache in both directions."""
    cache = InMemoryByteStore()
    embeddings = HarrierEmbeddings(model=words, cache=cache)
    embeddings.embed_documents([BREAD.page_content])
    embeddings.embed_query("why bread")
    stats = embeddings.encoder.stats.texts
    made = HarrierVectorStore.from_documents([BREAD], embeddings, store=store)
    assert made.similarity_search("why bread") == [BREAD]
    assert asyncio.run(made.asimilarity_search("why bread")) == [BREAD]
    assert embeddings.encoder.stats.texts == stats
    made.add_documents([RIVER, VIRUS])
    own = made.embeddings
    assert own == embeddings
    assert own.cache is cache
    own.embed_documents([RIVER.page_content, VIRUS.page_content])
    assert embeddings.encoder.stats.texts == stats + 2
    assert made.index.verify().sound
    assert embeddings.encoder.stats.texts == stats + 5  # verification does not use cached vectors


def test_a_blank_query_finds_nothing(filled: HarrierVectorStore, encoder: Encoder) -> None:
    """It warns and loads no model; other invalid arguments are still errors."""
    before = encoder.stats.texts
    searches: list[Callable[[str], Any]] = [
        filled.similarity_search,
        filled.similarity_search_with_score,
        filled.similarity_search_with_relevance_scores,
        filled.max_marginal_relevance_search,
        lambda q: filled.as_retriever().invoke(q),
        lambda q: HarrierRetriever(index=filled.index).invoke(q),
        lambda q: asyncio.run(filled.asimilarity_search(q)),
        lambda q: asyncio.run(filled.amax_marginal_relevance_search(q)),
        lambda q: asyncio.run(HarrierRetriever(index=filled.index).ainvoke(q)),
    ]
    for search in searches:
        for query in ("", " \n"):
            with pytest.warns(InputWarning, match="the query is empty or blank"):
                assert search(query) == []
    assert encoder.stats.texts == before
    with pytest.raises(SettingError, match="unknown keyword, 'fliter': did you mean filter"):
        filled.similarity_search("", fliter={})  # type: ignore[call-arg]


def test_invalid_ids_and_metadata(vector_store: HarrierVectorStore) -> None:
    """They are rejected, and not counted as stored."""
    ids: list[Any] = [True, "a", "b"]
    metadatas: list[Any] = [{}, 7, None]
    with pytest.raises(DocumentsRejected, match="'True' has an id that is bool, not str; 'a' has metadata") as caught:
        vector_store.add_texts(["one", "two", "three"], metadatas, ids=ids)
    assert caught.value.stored == ["b"]


def test_many_rejections(vector_store: HarrierVectorStore) -> None:
    """The message stays short, and the error has all of them."""
    texts: list[Any] = ["", 7, None, *[" "] * 20]
    with pytest.raises(DocumentsRejected, match=r"; and 13 more \(the other 0 are stored\); fix") as caught:
        vector_store.add_texts(texts)
    assert len(caught.value.rejected) == 23
    assert caught.value.rejected[1][1] == "has a text that is int, not str"


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda s: s.add_texts(["a", "b"], ids=["1"]), "there are 2 documents and 1 ids; pass one for each"),
        (lambda s: s.add_texts(["a"], [{}, {}]), "there are 1 documents and 2 metadatas; pass one for each"),
        (lambda s: s.add_documents([BREAD], ids=[]), "there are 1 documents and 0 ids; pass one for each"),
        (lambda s: s.add_texts(iter(["a", "b"]), ids=["1"]), "shorter"),
        (lambda s: s.add_texts("text"), "texts must be a list of texts; put a single one in a list"),
        (lambda s: s.add_texts(["text"], ids="1"), "ids must be a list; put a single one in a list"),
        (
            lambda s: s.add_texts(["text"], id=["1"]),
            "add_texts got an unknown keyword, 'id': did you mean ids",
        ),
    ],
)
def test_invalid_arguments_of_add(vector_store: HarrierVectorStore, add: Callable[[Any], Any], message: str) -> None:
    """They are refused as a whole before anything is stored."""
    with pytest.raises(ValueError, match=message):
        add(vector_store)
    assert vector_store.similarity_search("text") == []


def test_invalid_constructor_arguments(words: str, store: VectorStore) -> None:
    """A place is needed, and embeddings whose space is known."""
    with pytest.raises(SettingError, match="no place for the documents is given; pass store="):
        HarrierVectorStore.from_texts(["a"], HarrierEmbeddings(model=words))
    with pytest.raises(SettingError, match="must be HarrierEmbeddings, got DeterministicFakeEmbedding"):
        HarrierVectorStore.from_texts(["a"], DeterministicFakeEmbedding(size=6), store=store)
    made = HarrierVectorStore.from_texts(["a"], HarrierEmbeddings(model=words), [{"b": 1}], ids=["c"], store=store)
    assert made.get_by_ids(["c"]) == [Document(id="c", page_content="a", metadata={"b": 1})]


def test_chunks(store: VectorStore, encoder: Encoder) -> None:
    """The chunks of a record are documents with one id, in order."""
    text = "\n\n".join(PROSE[:8])
    vector_store = HarrierVectorStore(Index(store, encoder, chunking=Chunking(tokens=64)))
    assert vector_store.add_documents([Document(id="long", page_content=text), RIVER]) == ["long", "river"]
    chunks = vector_store.get_by_ids(["river", "long"])
    assert chunks[0] == RIVER
    assert len(chunks) > 2
    assert set(ids_of(chunks[1:])) == {"long"}
    places = [text.index(each.page_content) for each in chunks[1:]]
    assert places == sorted(places)
    assert [each.id for each in vector_store.similarity_search(PROSE[0], k=1)] == ["long"]
    vector_store.delete(["long"])
    assert vector_store.index.count() == 1


# -- out


def test_scores(filled: HarrierVectorStore, encoder: Encoder) -> None:
    """They are cosines, best first, and relevance is from 0 to 1, with a threshold."""
    query = "why does bread rise with yeast"
    found = filled.similarity_search_with_score(query, k=3)
    [cosines] = encoder.encode_queries([query]) @ encoder.encode_documents([each.page_content for each, _ in found]).T
    scores = [score for _, score in found]
    assert np.abs(np.array(scores) - cosines).max() < 2e-3  # some stores keep half precision
    assert scores == sorted(scores, reverse=True)
    assert scores[2] < 0.3 < scores[0]
    relevant = filled.similarity_search_with_relevance_scores(query, k=3)
    assert [score for _, score in relevant] == [min(max(score, 0.0), 1.0) for score in scores]
    retriever = filled.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.3, "k": 3}
    )
    assert retriever.invoke(query) == asyncio.run(retriever.ainvoke(query)) == [BREAD]


def test_negative_cosines(vector_store: HarrierVectorStore) -> None:
    """They have relevance 0, without a warning."""
    vector_store.add_documents([BREAD])
    relevance = vector_store._select_relevance_score_fn()
    assert [relevance(score) for score in (-0.5, 0.25, 1.0000001)] == [0.0, 0.25, 1.0]


@pytest.mark.parametrize("name", ["filter", "where"])
def test_filters(filled: HarrierVectorStore, name: str) -> None:
    """Either name works in every search, and with both, both must hold."""
    where: dict[str, Any] = {name: {"year": {"$gte": 2022}}}
    vector = filled.index.encoder.encode_queries(["bread"])[0].tolist()
    for found in (
        filled.similarity_search("bread", **where),
        asyncio.run(filled.asimilarity_search("bread", **where)),
        filled.max_marginal_relevance_search("bread", **where),
        asyncio.run(filled.amax_marginal_relevance_search("bread", **where)),
        filled.similarity_search_by_vector(vector, **where),
        asyncio.run(filled.asimilarity_search_by_vector(vector, **where)),
        filled.as_retriever(search_kwargs=where).invoke("bread"),
        [each for each, _ in filled.similarity_search_with_relevance_scores("bread", **where)],
        HarrierRetriever(index=filled.index, where=where[name]).invoke("bread"),
        HarrierRetriever(index=filled.index).invoke("bread", **where),
    ):
        assert found == [VIRUS]
    assert filled.similarity_search("bread", filter={"lang": "en"}, where={"year": 2021}) == [BREAD]
    assert filled.similarity_search("bread", filter={"lang": "fr"}, where={"year": 2021}) == []


def test_unknown_keywords(filled: HarrierVectorStore) -> None:
    """They are refused, because an ignored filter could expose or delete everything."""
    searches: list[Callable[[], Any]] = [
        lambda: filled.similarity_search("bread", filters={"year": 2021}),  # type: ignore[call-arg]
        lambda: filled.max_marginal_relevance_search("bread", filters={"year": 2021}),  # type: ignore[call-arg]
        lambda: asyncio.run(filled.amax_marginal_relevance_search("bread", filters={"year": 2021})),  # type: ignore[call-arg]
        lambda: filled.as_retriever(search_kwargs={"filters": {}}).invoke("bread"),
        lambda: HarrierRetriever(index=filled.index).invoke("bread", filters={}),
        lambda: filled.similarity_search_by_vector([1.0] * 256, filters={}),  # type: ignore[call-arg]
    ]
    for search in searches:
        with pytest.raises(SettingError, match="unknown keyword, 'filters': did you mean filter"):
            search()
    with pytest.raises(SettingError, match="unknown keyword, 'filters': did you mean filter"):
        filled.delete(filters={"year": 2021})
    with pytest.raises(SettingError, match="unknown keyword, 'filters': did you mean filter"):
        HarrierRetriever(index=filled.index, filters={"year": 2021})  # type: ignore[call-arg]
    with pytest.raises(FilterError, match="a filter must be a dict of fields and their values, got function"):
        filled.similarity_search("bread", filter=lambda document: True)  # type: ignore[arg-type]
    assert filled.index.count() == 3


def test_unknown_arguments_of_a_retriever(filled: HarrierVectorStore) -> None:
    """LangChain would ignore them and search everything; its own fields are accepted."""
    for name in ("filter", "where", "k", "task", "score_threshold", "fetch_k", "search_kwarg", "vectorstore"):
        with pytest.raises(SettingError, match=rf"as_retriever got an unknown keyword, '{name}': .*search_kwargs"):
            filled.as_retriever(tags=["mine"], **{name: {"year": {"$gte": 2022}}})
    retriever = filled.as_retriever(
        search_type="mmr",
        search_kwargs={"k": 1, "where": {"year": {"$gte": 2022}}},
        tags=["mine"],
        metadata={"run": 7},
        name="finder",
    )
    assert retriever.invoke("bread") == asyncio.run(retriever.ainvoke("bread")) == [VIRUS]
    assert (retriever.tags, retriever.metadata, retriever.name) == (["mine"], {"run": 7}, "finder")
    assert filled.as_retriever().tags == ["HarrierVectorStore", "HarrierEmbeddings"]


@pytest.mark.parametrize("search_type", ["similarity", "mmr", "similarity_score_threshold"])
def test_unknown_search_kwargs(filled: HarrierVectorStore, search_type: str) -> None:
    """They are refused by every kind of search, sync and async."""
    options = {"score_threshold": 0.0} if search_type == "similarity_score_threshold" else {}
    kept = filled.as_retriever(search_type=search_type, search_kwargs={**options, "filters": {"year": 2021}})
    called = filled.as_retriever(search_type=search_type, search_kwargs=options)
    searches: list[Callable[[], Any]] = [
        lambda: kept.invoke("bread"),
        lambda: asyncio.run(kept.ainvoke("bread")),
        lambda: called.invoke("bread", filters={"year": 2021}),
        lambda: asyncio.run(called.ainvoke("bread", filters={"year": 2021})),
    ]
    for search in searches:
        with pytest.raises(SettingError, match="unknown keyword, 'filters'"):
            search()
    assert called.invoke("bread", filter={"year": 2021}) == [BREAD]


def test_by_vector(filled: HarrierVectorStore) -> None:
    """The result equals that of the query."""
    vector = filled.embeddings.embed_query("vaccines")
    assert filled.similarity_search_by_vector(vector, k=3) == filled.similarity_search("vaccines", k=3)
    diverse = filled.max_marginal_relevance_search("vaccines", k=3)
    assert filled.max_marginal_relevance_search_by_vector(vector, k=3) == diverse
    assert asyncio.run(filled.amax_marginal_relevance_search_by_vector(vector, k=3)) == diverse
    assert asyncio.run(filled.asimilarity_search_by_vector(vector, k=3)) == filled.similarity_search("vaccines", k=3)


def chosen(query: Any, vectors: Any, k: int, fetch_k: int, lambda_mult: float) -> list[int]:
    """Compute maximal marginal relevance by its definition."""
    near = np.argsort(-(vectors @ query), kind="stable")[:fetch_k].tolist()
    taken: list[int] = [near[0]]
    while len(taken) < min(k, len(near)):
        left = [each for each in near if each not in taken]
        worth = [
            lambda_mult * vectors[each] @ query
            - (1 - lambda_mult) * max(vectors[each] @ vectors[other] for other in taken)
            for each in left
        ]
        taken.append(left[int(np.argmax(worth))])
    return taken


@pytest.mark.parametrize("lambda_mult", [0.0, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("fetch_k", [3, 5, 20])
def test_mmr(words: str, lambda_mult: float, fetch_k: int) -> None:
    """lambda 1 is an ordinary search, and 0 selects what differs most among `fetch_k`."""
    texts = ["bread yeast", "bread yeast oven", "bread yeast flour", "bread river", "yeast virus", "sand", "bread"]
    embeddings = HarrierEmbeddings(model=words)
    vector_store = HarrierVectorStore.from_texts(texts, embeddings, store=MemoryStore())
    [query] = embeddings.encode_queries(["bread yeast"])
    how: dict[str, Any] = {"k": 3, "fetch_k": fetch_k, "lambda_mult": lambda_mult}
    expected = [texts[each] for each in chosen(query, embeddings.encode_documents(texts), **how)]
    for found in (
        vector_store.max_marginal_relevance_search("bread yeast", **how),
        asyncio.run(vector_store.amax_marginal_relevance_search("bread yeast", **how)),
        vector_store.as_retriever(search_type="mmr", search_kwargs=how).invoke("bread yeast"),
    ):
        assert [each.page_content for each in found] == expected
    if lambda_mult == 1:
        assert found == vector_store.similarity_search("bread yeast", k=3)


def test_limits_of_k(filled: HarrierVectorStore) -> None:
    """k is at least one, and a large k finds everything."""
    searches: list[Callable[[int], Any]] = [
        lambda k: filled.similarity_search("bread", k=k),
        lambda k: filled.similarity_search_by_vector([1.0] * 256, k=k),
        lambda k: filled.max_marginal_relevance_search("bread", k=k),
        lambda k: asyncio.run(filled.amax_marginal_relevance_search("bread", k=k)),
        lambda k: HarrierRetriever(index=filled.index).invoke("bread", k=k),
    ]
    for search in searches:
        with pytest.raises(SettingError, match="k must be a positive integer, got 0"):
            search(0)
        assert len(search(100)) == 3


def test_async_equals_sync(filled: HarrierVectorStore) -> None:
    """Concurrent calls each get their own answer."""
    queries = ["bread yeast", "vaccines virus", "rivers sand"] * 8

    async def all_of_them() -> list[list[Document]]:
        return await asyncio.gather(*(filled.asimilarity_search(query, k=2) for query in queries))

    assert asyncio.run(all_of_them()) == [filled.similarity_search(query, k=2) for query in queries]


def test_the_event_loop_is_not_blocked(vector_store: HarrierVectorStore) -> None:
    """Neither storing nor searching blocks it."""

    async def main() -> int:
        turns, done = 0, asyncio.Event()

        async def turn() -> None:
            nonlocal turns
            while not done.is_set():
                turns += 1
                await asyncio.sleep(0.001)

        turning = asyncio.create_task(turn())
        await vector_store.aadd_texts([f"text number {number}" for number in range(300)])
        await asyncio.gather(*(vector_store.amax_marginal_relevance_search("text", k=2) for _ in range(20)))
        await vector_store.adelete(["nothing"])
        done.set()
        await turning
        return turns

    assert asyncio.run(main()) > 10


# -- places


def test_delete(filled: HarrierVectorStore) -> None:
    """Some, missing and all ids can be deleted."""
    assert filled.delete(["bread", "nothing"]) is True
    assert filled.index.count() == 2
    with pytest.raises(SettingError, match="put a single one in a list"):
        filled.delete("river")
    assert asyncio.run(filled.adelete(["river"])) is True
    assert filled.index.count() == 1
    with pytest.raises(SettingError, match="unknown keyword, 'filters'"):
        asyncio.run(filled.adelete(filters={"year": 2021}))
    assert asyncio.run(filled.adelete()) is True
    assert filled.index.count() == 0
    filled.add_documents(DOCUMENTS)
    assert filled.delete() is True
    assert filled.index.count() == 0


def test_deleting_creates_nothing(vector_store: HarrierVectorStore) -> None:
    """Deleting from a missing place does not create it."""

    async def both() -> list[bool | None]:
        return [await vector_store.adelete(), await vector_store.adelete(["a"])]

    assert [vector_store.delete(), vector_store.delete(["a"]), *asyncio.run(both())] == [True] * 4
    assert vector_store.index.store.space() is None
    with pytest.raises(StoreMissing):
        vector_store.index.count()
    assert vector_store.similarity_search("bread") == []


READING: list[Callable[[HarrierVectorStore], Any]] = [
    lambda s: s.similarity_search("bread"),
    lambda s: asyncio.run(s.asimilarity_search("bread")),
    lambda s: s.max_marginal_relevance_search("bread"),
    lambda s: asyncio.run(s.amax_marginal_relevance_search("bread")),
    lambda s: s.similarity_search_by_vector([1.0] * 256),
    lambda s: asyncio.run(s.asimilarity_search_by_vector([1.0] * 256)),
    lambda s: asyncio.run(s.amax_marginal_relevance_search_by_vector([1.0] * 256)),
    lambda s: s.get_by_ids(["bread"]),
    lambda s: HarrierRetriever(index=s.index).invoke("bread"),
]


@pytest.mark.parametrize("reading", READING)
def test_a_missing_place(vector_store: HarrierVectorStore, reading: Callable[[Any], Any]) -> None:
    """Nothing is found, as in any LangChain store."""
    assert reading(vector_store) == []


@pytest.fixture
def another(built: Callable[..., Path]) -> Iterator[Encoder]:
    with Encoder(built("qwen3", vectors="words", seed=5)) as another:
        yield another


def test_another_space(filled: HarrierVectorStore, another: Encoder, read: list[str]) -> None:
    """It is refused before the model runs, on every path."""
    wrong = HarrierVectorStore(Index(filled.index.store, another))
    writing: list[Callable[[HarrierVectorStore], Any]] = [
        lambda s: s.add_texts(["a"]),
        lambda s: asyncio.run(s.aadd_documents([BREAD])),
        lambda s: s.delete(["a"]),
        lambda s: s.delete(),
    ]
    for use in [*READING, *writing]:
        with pytest.raises(WrongSpace):
            use(wrong)
    assert read == []
    assert filled.index.count() == 3


def test_a_foreign_place(postgres: str, table: str, encoder: Encoder) -> None:
    """It is not taken for an empty one."""
    with psycopg.connect(postgres) as connection:
        connection.execute(psycopg.sql.SQL("CREATE TABLE {} (id int)").format(psycopg.sql.Identifier(table)))
    with PgVectorStore(postgres, table=table) as store:
        for reading in READING:
            with pytest.raises(StoreUnsuitable, match="was not created by Harrier Kit"):
                reading(HarrierVectorStore(Index(store, encoder)))
