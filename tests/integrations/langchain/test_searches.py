"""Keywords of every search, conditions as in LangChain's stores, and documents with positions."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_harrier import HarrierRetriever, HarrierVectorStore
from langchain_harrier.by_vector import SearchingByVector
from langchain_harrier.keywords import where_of
from langchain_harrier.searching import Searching

from harrier_core import Chunking, Encoder, FilterError, Index, Search, SettingError, VectorStore
from harrier_core.diversity import diverse
from harrier_core.filters import Key, meets, parse
from harrier_core.testing import PROSE, MemoryStore

DOCUMENTS = [
    Document(id="1", page_content="bread yeast", metadata={"year": 2021, "lang": "en"}),
    Document(id="2", page_content="bread yeast oven", metadata={"year": 2023, "lang": "en"}),
    Document(id="3", page_content="bread yeast flour", metadata={"year": 2024, "lang": "fr"}),
    Document(id="4", page_content="river sand", metadata={"year": 2024, "lang": "fr"}),
]
BY_QUERY = ["similarity_search", "similarity_search_with_score", "similarity_search_with_relevance_scores"]
BY_VECTOR = ["similarity_search_by_vector", "similarity_search_with_score_by_vector"]
DIVERSE = ["max_marginal_relevance_search"]
DIVERSE_BY_VECTOR = [f"{DIVERSE[0]}_by_vector", f"{DIVERSE[0]}_with_score_by_vector"]
EVERY = [f"{a}{name}" for a in ("", "a") for name in (*BY_QUERY, *BY_VECTOR, *DIVERSE, *DIVERSE_BY_VECTOR)]


class Listening(MemoryStore):
    """A store that records its searches."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Search] = []

    def search(self, search: Search) -> Any:
        self.asked.append(search)
        return super().search(search)


@pytest.fixture
def listening() -> Listening:
    return Listening()


@pytest.fixture
def filled(listening: Listening, encoder: Encoder) -> HarrierVectorStore:
    vector_store = HarrierVectorStore(Index(listening, encoder))
    vector_store.add_documents(DOCUMENTS)
    return vector_store


def ids_found(vector_store: HarrierVectorStore, name: str, query: str = "bread yeast", **options: Any) -> list[str]:
    """Return the ids of the documents that any search finds."""
    asked = vector_store.embeddings.embed_query(query) if name.endswith("by_vector") else query
    done = getattr(vector_store, name)(asked, **options)
    found = asyncio.run(done) if asyncio.iscoroutine(done) else done
    documents = [each[0] if isinstance(each, tuple) else each for each in found]
    return [str(each.id) for each in documents]


@pytest.mark.parametrize("name", EVERY)
def test_keywords_of_every_search(filled: HarrierVectorStore, listening: Listening, name: str) -> None:
    """Both names for conditions, minimum scores, exact and ef are accepted; others are refused."""
    everything = ids_found(filled, name)
    assert set(everything) == {"1", "2", "3", "4"}
    assert ids_found(filled, name, filter={"metadata.year": {"$gte": 2022}}, where={"lang": "en"}) == ["2"]
    assert set(ids_found(filled, name, score_threshold=0.3)) == {"1", "2", "3"}
    assert ids_found(filled, name, score_threshold=1.1) == []
    assert set(ids_found(filled, name, k=2, expand="record")) <= set(everything)
    listening.asked.clear()
    ids_found(filled, name, exact=True, ef=77)
    [asked] = listening.asked
    assert (asked.exact, asked.ef) == (True, 77)
    with pytest.raises(SettingError, match="search_params.: use exact=True to compare all chunks, or ef"):
        ids_found(filled, name, search_params=object())
    with pytest.raises(SettingError, match=f"{name} got an unknown keyword, 'scroe_threshold': did you mean score_thr"):
        ids_found(filled, name, scroe_threshold=1)
    with pytest.raises(FilterError, match="a filter must be a dict of fields and their values, got function"):
        ids_found(filled, name, filter=lambda document: True)


@pytest.mark.parametrize("name", [name for name in EVERY if "max" not in name])
def test_pages(filled: HarrierVectorStore, name: str) -> None:
    """Consecutive pages give the whole list."""
    pages = [ids_found(filled, name, k=2, offset=offset) for offset in (0, 2, 4)]
    assert pages[2] == []
    assert pages[0] + pages[1] == ids_found(filled, name)


@pytest.mark.parametrize("name", [name for name in EVERY if "max" in name])
def test_mmr_has_no_pages(filled: HarrierVectorStore, name: str) -> None:
    """The selected documents depend on their number."""
    with pytest.raises(SettingError, match="unknown keyword, 'offset'"):
        ids_found(filled, name, offset=2)


def test_signatures() -> None:
    """Editors show the keywords, and sync and async methods have the same."""
    for name in EVERY:
        method = getattr(HarrierVectorStore, name)
        own = inspect.signature(method).parameters
        expected = {"self", "k", "kwargs", "embedding" if name.endswith("by_vector") else "query"}
        assert own.keys() == expected | ({"fetch_k", "lambda_mult"} if "max" in name else set()), name
        [taken] = get_args(get_type_hints(method)["kwargs"])
        keywords = {"filter", "where", "score_threshold", "exact", "ef", "expand"}
        keywords |= set() if name.endswith("by_vector") else {"task", "mode", "keyword_weight"}
        keywords |= set() if "max" in name else {"offset"}
        keywords |= {"rerank", "among"} if "max" not in name and not name.endswith("by_vector") else set()
        assert taken.__annotations__.keys() == keywords, name
    public = {name for name in dir(HarrierVectorStore) if "search" in name and not name.startswith("_")}
    assert public - {"search", "asearch"} == set(EVERY)
    assert public & (vars(Searching).keys() | vars(SearchingByVector).keys()) == set(EVERY)


def test_scores_by_vector(filled: HarrierVectorStore) -> None:
    """They equal those of the query, also for MMR."""
    vector = filled.embeddings.embed_query("bread")
    expected = filled.similarity_search_with_score("bread", k=4)
    assert filled.similarity_search_with_score_by_vector(vector, k=4) == expected
    chosen = filled.max_marginal_relevance_search_with_score_by_vector(vector, k=4, lambda_mult=0.1)
    assert sorted(chosen, key=lambda pair: -pair[1]) == expected
    assert [document for document, _ in chosen] == filled.max_marginal_relevance_search("bread", k=4, lambda_mult=0.1)


@pytest.mark.parametrize("name", ["amax_marginal_relevance_search", *(f"a{name}" for name in DIVERSE_BY_VECTOR)])
def test_diverse_documents_are_chosen_on_a_thread(
    filled: HarrierVectorStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Comparing all candidates with each other does not hold up the event loop."""
    threads: list[int] = []

    def recording(*arguments: Any) -> Any:
        threads.append(threading.get_ident())
        return diverse(*arguments)

    for module in ("harrier_core.reranking", "langchain_harrier.by_vector"):
        monkeypatch.setattr(f"{module}.diverse", recording, raising=False)
    query = filled.embeddings.embed_query("bread") if name.endswith("by_vector") else "bread"

    async def searching() -> int:
        await getattr(filled, name)(query, k=2)
        return threading.get_ident()

    loop = asyncio.run(searching())
    assert len(threads) == 1
    assert loop not in threads


def test_search_kwargs(filled: HarrierVectorStore) -> None:
    """A retriever passes on every keyword of a search."""
    kept = filled.as_retriever(search_kwargs={"score_threshold": 0.3, "k": 4, "filter": {"metadata.lang": "en"}})
    assert {each.id for each in kept.invoke("bread yeast")} == {"1", "2"}
    least = filled.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.3})
    assert {each.id for each in asyncio.run(least.ainvoke("bread yeast"))} == {"1", "2", "3"}
    own = HarrierRetriever(index=filled.index, filter={"metadata.lang": "en"}, where={"year": 2023})
    assert [each.id for each in own.invoke("bread yeast")] == ["2"]
    assert own.invoke("bread yeast", score_threshold=0.999) == []
    assert HarrierRetriever(index=filled.index, score_threshold=1.1).invoke("bread") == []


def test_keys_of_a_retriever(vector_store: HarrierVectorStore) -> None:
    """A Key stays one: no dot in it leads into a dict."""
    vector_store.add_texts(["bread", "yeast"], [{"a.b": 1}, {"a": {"b": 1}}], ids=["name", "path"])

    def found(**how: Any) -> set[str | None]:
        own = HarrierRetriever(index=vector_store.index, **how)
        kept = vector_store.as_retriever(search_kwargs=how)
        assert own.invoke("bread") == kept.invoke("bread") == asyncio.run(own.ainvoke("bread"))
        return {each.id for each in own.invoke("bread")}

    for name in ("where", "filter"):
        assert found(**{name: {Key("a.b"): 1}}) == {"name"}
        assert found(**{name: {"$or": [{Key("a.b"): 1}]}}) == {"name"}
        assert found(**{name: {"a.b": 1}}) == {"name", "path"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"vectorstore": 1}, "HarrierRetriever takes no vectorstore: write HarrierRetriever.index=vector_store.index"),
        ({"search_kwargs": {"k": 1}}, "takes no search_kwargs: .* or vector_store.as_retriever"),
        ({"k": 2}, "index must be an Index, got NoneType; write HarrierRetriever.index"),
        ({"index": MemoryStore()}, "index must be an Index, got MemoryStore"),
        ({"index": None, "filtre": {}}, "HarrierRetriever got an unknown keyword, 'filtre': did you mean filter"),
    ],
)
def test_invalid_search_kwargs(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        HarrierRetriever(**settings)


# -- conditions


def test_fields_of_metadata() -> None:
    """The prefix `metadata.` of other stores is accepted anywhere in `filter`, and only there."""
    filters = {"$or": [{"metadata.a": 1}, {"$not": {"metadata.b": {"$gt": 2}}}], "metadata.c.d": 3, "e": 4}
    assert where_of(filters, None) == {"$or": [{"a": 1}, {"$not": {"b": {"$gt": 2}}}], "c.d": 3, "e": 4}
    assert where_of(None, filters) == filters
    assert where_of({"metadata.a": 1, "a": 2}, None) == {"$and": [{"a": 1}, {"a": 2}]}
    assert where_of({Key("metadata.a"): 1}, None) == {"metadata.a": 1}
    assert where_of({"metadata": {"a": 1}}, {}) == {"$and": [{"metadata": {"a": 1}}, {}]}
    assert where_of(None, None) is None


FIELDS = st.sampled_from(["a", "b"])
CONDITIONS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(FIELDS, st.integers(0, 2) | st.fixed_dictionaries({"$ne": st.integers(0, 2)}), max_size=2),
    lambda inner: (
        st.fixed_dictionaries({"$or": st.lists(inner, max_size=3)})
        | st.fixed_dictionaries({"$not": inner})
        | st.fixed_dictionaries({"$and": st.lists(inner, max_size=3)})
    ),
    max_leaves=6,
)


def prefixed(conditions: dict[str, Any], draw: Iterator[bool]) -> dict[str, Any]:
    """Return the filter with the prefix on some of its fields."""
    again: dict[str, Any] = {}
    for name, value in conditions.items():
        if name in ("$or", "$and"):
            again[name] = [prefixed(each, draw) for each in value]
        elif name == "$not":
            again[name] = prefixed(value, draw)
        else:
            again[f"metadata.{name}" if next(draw) else name] = value
    return again


@given(CONDITIONS, st.lists(st.booleans(), min_size=40, max_size=40), st.dictionaries(FIELDS, st.integers(0, 2)))
def test_a_prefix_changes_nothing(conditions: dict[str, Any], chosen: list[bool], metadata: dict[str, int]) -> None:
    """The filter finds the same."""
    meant = where_of(prefixed(conditions, iter(chosen)), None)
    assert meets(metadata, parse(meant)) == meets(metadata, parse(conditions))


# -- positions

TEXT = "\n\n".join(PROSE[:6])


@pytest.fixture
def long(store: VectorStore, encoder: Encoder) -> HarrierVectorStore:
    """Return one long text in chunks."""
    vector_store = HarrierVectorStore(Index(store, encoder, chunking=Chunking(tokens=32)), positions=True)
    vector_store.add_documents([Document(id="long", page_content=TEXT, metadata={"start_index": "own", "page": 7})])
    return vector_store


def test_positions(long: HarrierVectorStore) -> None:
    """They locate the chunk in its record and its order; the document's own metadata is stored."""
    chunks = long.get_by_ids(["long"])
    assert [each.metadata["chunk"] for each in chunks] == list(range(len(chunks)))
    assert len(chunks) > 3
    searches: list[Callable[[], list[Document]]] = [
        lambda: long.similarity_search(PROSE[3], k=2),
        lambda: [each for each, _ in long.similarity_search_with_score(PROSE[3], k=2)],
        lambda: long.max_marginal_relevance_search(PROSE[3], k=2),
        lambda: long.as_retriever().invoke(PROSE[3]),
        lambda: HarrierRetriever(index=long.index, positions=True).invoke(PROSE[3]),
        lambda: asyncio.run(long.aget(where={"page": 7})),
        lambda: long.get(limit=2, offset=1),
    ]
    for search in searches:
        for each in search():
            assert TEXT[each.metadata["start_index"] : each.metadata["end_index"]] == each.page_content
            assert each.metadata["page"] == 7
    plain = HarrierVectorStore(long.index)
    assert plain.similarity_search(PROSE[3], k=1)[0].metadata == {"start_index": "own", "page": 7}


def test_neighbours(long: HarrierVectorStore) -> None:
    """With `expand`, the text and positions include the neighbouring chunks."""
    [found] = long.similarity_search(PROSE[3], k=1)
    [wider] = long.similarity_search(PROSE[3], k=1, expand=1)
    [whole] = long.similarity_search(PROSE[3], k=1, expand="record")
    assert found.metadata["chunk"] == wider.metadata["chunk"] == whole.metadata["chunk"]
    assert wider.metadata["start_index"] < found.metadata["start_index"] <= found.metadata["end_index"]
    assert wider.metadata["end_index"] > found.metadata["end_index"]
    assert found.page_content in wider.page_content
    assert wider.page_content in whole.page_content
    assert whole.page_content.split() == TEXT.split()
    assert (whole.metadata["start_index"], whole.metadata["end_index"]) == (0, len(TEXT))
    assert (
        HarrierRetriever(index=long.index, expand="record", k=1).invoke(PROSE[3])[0].page_content.split()
        == TEXT.split()
    )
