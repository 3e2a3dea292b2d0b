"""Keyword and hybrid search and reranking under LlamaIndex's names."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores.types import (
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.vector_stores.harrier import HarrierRerank, HarrierVectorStore
from longest import Longest
from pydantic import ValidationError

from harrier_core import Diverse, Encoder, Index, SettingError, StoreUnsuitable
from harrier_core.testing import MemoryStore

TEXTS = {
    "one": "a connection was refused ERR_CONN_1042",
    "two": "a connection was refused ERR_CONN_1043",
    "bread": "bread yeast flour",
    "river": "a river carries sand",
}
QUERY = "ERR_CONN_1043"
BY_WORD = ["sparse", "text_search"]


def nodes() -> list[TextNode]:
    return [TextNode(id_=id_, text=text, metadata={"kind": id_[:1]}) for id_, text in TEXTS.items()]


@pytest.fixture
def index(encoder: Encoder) -> Index:
    return Index(MemoryStore(keywords=True), encoder)


@pytest.fixture
def store(index: Index) -> HarrierVectorStore:
    store = HarrierVectorStore(index)
    store.add(list(nodes()))
    return store


def found(store: HarrierVectorStore, query: VectorStoreQuery, **options: Any) -> VectorStoreQueryResult:
    """Return the nodes of a query, and check that async gives the same."""
    result = store.query(query, **options)
    twin = asyncio.run(store.aquery(query, **options))
    assert (twin.ids, twin.similarities) == (result.ids, result.similarities)
    return result


def asked(mode: str, text: str | None = QUERY, k: int = 4, **more: Any) -> VectorStoreQuery:
    return VectorStoreQuery(query_str=text, mode=VectorStoreQueryMode(mode), similarity_top_k=k, **more)


@pytest.mark.parametrize("mode", BY_WORD)
def test_keyword_search(store: HarrierVectorStore, encoder: Encoder, mode: str) -> None:
    """No model is used, also with an embedding; only nodes with the words are found."""
    before = encoder.stats.texts
    for vector in (None, [1.0] * encoder.dimensions):
        result = found(store, asked(mode, query_embedding=vector))
        assert (result.ids or [])[0] == "two"
        assert set(result.ids or []) == {"one", "two"}
        assert all(score > 0 for score in result.similarities or [])
    assert found(store, asked(mode, "zeppelin")).ids == []
    assert found(store, asked(mode, sparse_top_k=1)).ids == ["two"]
    kind = MetadataFilters(filters=[MetadataFilter(key="kind", value="o")])
    assert found(store, asked(mode, filters=kind)).ids == ["one"]
    assert encoder.stats.texts == before


@pytest.mark.parametrize("with_embeddings", [False, True])
def test_hybrid_search(store: HarrierVectorStore, encoder: Encoder, with_embeddings: bool) -> None:
    """It uses the text as a query, or a given embedding and the text's words."""
    store.with_embeddings = with_embeddings
    matches = store.client.search(QUERY, 4, mode="hybrid")
    by_text = found(store, asked("hybrid"))
    assert by_text.ids == [match.record_id for match in matches]
    assert by_text.similarities == [match.score for match in matches]
    assert all((node.embedding is not None) is with_embeddings for node in by_text.nodes or [])
    river = encoder.encode_documents([TEXTS["river"]])[0].tolist()
    before = encoder.stats.texts
    given = found(store, asked("hybrid", query_embedding=river, alpha=0.9, hybrid_top_k=2))
    assert encoder.stats.texts == before
    assert given.ids == ["river", "two"]
    assert all(0 < score < 1 for score in given.similarities or [])


def test_alpha(store: HarrierVectorStore, encoder: Encoder) -> None:
    """It ranges from words alone, without an embedding, to the vector alone, with cosines."""
    vector = encoder.encode_queries(["river"])[0].tolist()
    ways: Any = {"query_embedding": vector, "text": "river yeast yeast"}
    words = found(store, asked("hybrid", alpha=0, **ways))
    sparse = found(store, asked("sparse", "river yeast yeast"))
    assert (words.ids, words.similarities) == (sparse.ids, sparse.similarities)
    near = found(store, asked("hybrid", alpha=1.0, query_embedding=vector, text=None))
    plain = found(store, asked("default", query_embedding=vector, text=None))
    assert (near.ids, near.similarities) == (plain.ids, plain.similarities)
    for alpha in (0.2, 0.5, 0.8):
        expected = store.client.search_vectors(
            [vector], 4, queries=["river yeast yeast"], mode="hybrid", keyword_weight=(1 - alpha) / alpha
        )[0]
        result = found(store, asked("hybrid", alpha=alpha, **ways))
        assert (result.ids, result.similarities) == ([m.record_id for m in expected], [m.score for m in expected])
    for alpha in (-0.1, 1.5, float("nan")):
        with pytest.raises(SettingError, match="alpha must be from 0, for words alone, to 1, for vectors alone"):
            store.query(asked("hybrid", alpha=alpha))


@pytest.mark.parametrize("mode", ["default", "hybrid", *BY_WORD])
def test_reranking(store: HarrierVectorStore, encoder: Encoder, mode: str) -> None:
    """The Reranker reads the embedding text of nodes."""
    longest = Longest()
    vector = encoder.encode_queries([QUERY])[0].tolist()
    for more in ({}, {"query_embedding": vector}):
        longest.asked.clear()
        result = store.query(asked(mode, k=2, **more), rerank=longest, among=3)
        assert longest.asked == [(QUERY, 2 if mode in BY_WORD else 3)]
        assert result.similarities == sorted(result.similarities or [], reverse=True)
        assert (result.similarities or [])[0] == len("kind: o\n\n" + TEXTS["one"])
    assert len(store.query(asked(mode, k=2), rerank=Diverse(0.2)).ids or []) == 2


@pytest.mark.parametrize("mode", ["hybrid", *BY_WORD])
def test_errors_of_keyword_search(store: HarrierVectorStore, encoder: Encoder, mode: str) -> None:
    vector = encoder.encode_queries([QUERY])[0].tolist()
    with pytest.raises(SettingError, match=f"mode '{mode}' needs the words of the query; pass query_str"):
        store.query(asked(mode, None, query_embedding=vector))
    with pytest.raises(SettingError, match="rerank needs the words of the query"):
        store.query(asked("default", None, query_embedding=vector), rerank=Longest())
    with pytest.raises(SettingError, match="rerank and among cannot be used with mode 'mmr'"):
        store.query(asked("mmr"), rerank=Longest())
    with pytest.raises(SettingError, match="among needs rerank"):
        store.query(asked(mode), among=3)


def test_reranking_restricted_nodes(store: HarrierVectorStore) -> None:
    """Nodes that are compared one by one are reranked too."""
    longest = Longest()
    result = found(store, asked("default", "bread", node_ids=["two", "bread"]), rerank=longest)
    assert result.ids == ["two", "bread"]
    assert longest.asked[0] == ("bread", 2)


def test_a_place_without_words(encoder: Encoder) -> None:
    """A missing place acts as an empty one; otherwise the error says what to do."""
    store = HarrierVectorStore(Index(MemoryStore(), encoder))
    assert found(store, asked("hybrid")).ids == found(store, asked("sparse")).ids == []
    store.add(list(nodes()))
    with pytest.raises(StoreUnsuitable, match=r"add_keywords\(\) or `harrier keywords PLACE`"):
        store.query(asked("hybrid"))


def test_retrievers(store: HarrierVectorStore, encoder: Encoder) -> None:
    """They support all modes, and compute no embedding for keyword search."""
    their = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
    before = encoder.stats.texts
    kept = their.as_retriever(vector_store_query_mode="sparse", sparse_top_k=1).retrieve(QUERY)
    assert [each.node_id for each in kept] == ["two"]
    assert encoder.stats.texts == before
    both = their.as_retriever(vector_store_query_mode="hybrid", alpha=0.5, similarity_top_k=2)
    assert both.retrieve(QUERY)[0].node_id == "two"
    assert encoder.stats.texts == before + 1
    longest = Longest()
    kwargs = {"rerank": longest, "among": 4}
    their.as_retriever(vector_store_query_mode="hybrid", vector_store_kwargs=kwargs).retrieve("bread")
    assert longest.asked == [("bread", 4)]


# -- reranking of any nodes


def scored() -> list[NodeWithScore]:
    return [NodeWithScore(node=node, score=0.5) for node in nodes()]


def test_a_postprocessor() -> None:
    """The best nodes come first with the Reranker's scores, and the given ones are unchanged."""
    rerank = HarrierRerank(reranker=Longest(), top_n=2)
    given = scored()
    for best in (
        rerank.postprocess_nodes(given, query_str="bread"),
        asyncio.run(rerank.apostprocess_nodes(given, QueryBundle("bread"))),
    ):
        assert [each.node_id for each in best] == ["one", "two"]
        assert [each.score for each in best] == [len("kind: o\n\n" + TEXTS["one"])] * 2
    assert [each.score for each in given] == [0.5] * 4
    assert rerank.postprocess_nodes([], query_str="bread") == []
    assert (rerank.class_name(), HarrierRerank(reranker=Longest()).top_n) == ("HarrierRerank", 3)


def test_invalid_postprocessors() -> None:
    for wrong, said in ((Longest, "the class Longest"), (object(), "object")):
        with pytest.raises(ValidationError, match=rf"reranker must be an object with scores\(.*\), got .*{said}"):
            HarrierRerank(reranker=wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="needs the query"):
        HarrierRerank(reranker=Longest()).postprocess_nodes(scored())
    assert "reranker" not in HarrierRerank(reranker=Longest()).to_dict()
    assert pickle.loads(pickle.dumps(HarrierRerank(reranker=Longest(), top_n=7))).top_n == 7


def test_in_a_query_engine(store: HarrierVectorStore) -> None:
    """The postprocessor works after a retriever of LlamaIndex."""
    from llama_index.core.llms import MockLLM

    their = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
    rerank = HarrierRerank(reranker=Longest(), top_n=1)
    engine = their.as_query_engine(llm=MockLLM(), similarity_top_k=4, node_postprocessors=[rerank])
    [kept] = engine.query("bread").source_nodes
    assert kept.node_id == "one"
