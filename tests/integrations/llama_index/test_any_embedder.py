"""Any Embedder works in LlamaIndex, and is never silently replaced by an Encoder."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from elsewhere import Elsewhere
from langchain_core.stores import InMemoryByteStore
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from llama_index.embeddings.harrier import HarrierEmbedding
from llama_index.vector_stores.harrier import HarrierVectorStore

from harrier_core import CachedEncoder, Encoder, Index, SettingError, WrongSpace
from harrier_core.testing import MemoryStore


@pytest.fixture
def embedder(encoder: Encoder) -> Elsewhere:
    return Elsewhere(encoder)


def nodes() -> list[TextNode]:
    return [
        TextNode(id_="bread", text="Bread rises because of yeast.", metadata={"year": 2021}),
        TextNode(id_="river", text="Rivers carry sand.", metadata={"year": 2023}),
    ]


def test_its_vectors_are_the_embeddings(encoder: Encoder, embedder: Elsewhere) -> None:
    """Embeddings are the Embedder's in both roles, sync and async."""
    embedding = HarrierEmbedding.from_encoder(embedder, embed_batch_size=7)
    query, text = (made(["bread"])[0].tolist() for made in (encoder.encode_queries, encoder.encode_documents))
    assert query != text
    assert embedding.get_query_embedding("bread") == asyncio.run(embedding.aget_query_embedding("bread")) == query
    assert embedding.get_text_embedding("bread") == asyncio.run(embedding.aget_text_embedding("bread")) == text
    assert (embedding.model_name, embedding.task, embedding.embed_batch_size) == (embedder.name, None, 7)


@pytest.mark.parametrize(
    "copied",
    [
        lambda each: pickle.loads(pickle.dumps(each)),
        copy.copy,
        copy.deepcopy,
        lambda each: HarrierEmbedding.from_dict(each.to_dict()),
    ],
    ids=["pickle", "copy", "deepcopy", "dict"],
)
def test_a_copy_has_the_embedder(embedder: Elsewhere, copied: Callable[[Any], Any]) -> None:
    """A copy of the settings alone would be an Encoder of a missing model."""
    embedding = HarrierEmbedding.from_encoder(embedder)
    other = copied(embedding)
    assert isinstance(other.embedder, Elsewhere)
    assert other.get_query_embedding("bread") == embedding.get_query_embedding("bread")


@pytest.fixture
def bound(encoder: Encoder) -> Elsewhere:
    """Return an embedder that is bound to this process, such as one with connections."""
    embedder = Elsewhere(encoder)
    vars(embedder)["connection"] = threading.Lock()
    return embedder


@pytest.mark.parametrize("on_blank", ["error", "last"])
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda each: each.model_copy(deep=True)],
    ids=["copy", "deepcopy", "model_copy"],
)
def test_copies_share_what_was_given(
    encoder: Encoder, bound: Elsewhere, copied: Callable[[Any], Any], on_blank: Any
) -> None:
    """Embedders and caches are shared, because they may not be copyable."""
    embedding = HarrierEmbedding.from_encoder(bound, on_blank=on_blank)
    other = copied(embedding)
    assert other is not embedding
    assert other.embedder is bound
    assert other == embedding
    assert other.get_text_embedding("bread") == embedding.get_text_embedding("bread")
    store = InMemoryByteStore()
    vars(store)["connection"] = threading.Lock()
    cached = HarrierEmbedding.from_encoder(CachedEncoder(encoder, store), on_blank=on_blank)
    copied(cached).get_text_embedding("bread")
    assert list(store.yield_keys())
    values = SimpleKVStore()
    vars(values)["connection"] = threading.Lock()
    kept = HarrierEmbedding.from_encoder(encoder, embeddings_cache=values, on_blank=on_blank)
    other = copied(kept)
    assert other.embeddings_cache is values
    other.get_text_embedding("bread")
    assert any(values.to_dict().values())


def test_embedders_that_cannot_be_pickled(encoder: Encoder, bound: Elsewhere) -> None:
    """They raise an error, where LlamaIndex would omit the embedder."""
    embedding = HarrierEmbedding.from_encoder(bound)
    with pytest.raises(SettingError, match="cannot be pickled: its embedder, Elsewhere, cannot .*lock.*; create it"):
        pickle.dumps(embedding)
    assert embedding.embedder is bound
    limited = HarrierEmbedding.from_encoder(encoder, rate_limiter=threading.Lock())
    assert pickle.loads(pickle.dumps(limited)).rate_limiter is None
    assert limited.rate_limiter is not None


def test_json_has_the_embedders_name(bound: Elsewhere) -> None:
    """It identifies the model, and no Encoder is created from it."""
    embedding = HarrierEmbedding.from_encoder(bound)
    for told in (embedding.to_json(), embedding.model_dump_json()):
        assert json.loads(told)["embedder"] == bound.name
        with pytest.raises(ValueError, match="embedder must be an Embedder, got str"):
            HarrierEmbedding.from_json(told)


def test_encoder_only_features(embedder: Elsewhere) -> None:
    """Other embedders raise an error that says so."""
    with pytest.raises(SettingError, match="needs an Encoder, got Elsewhere"):
        _ = HarrierEmbedding.from_encoder(embedder).encoder
    with pytest.raises(ValueError, match="max_tokens is a setting of embedder; pass max_tokens=None"):
        HarrierEmbedding.from_encoder(embedder, max_tokens=9)
    with pytest.raises(ValueError, match="embedder must be an Embedder, got str"):
        HarrierEmbedding(model_name="harrier-270m", embedder="harrier-0.6b")


def test_a_vector_store(embedder: Elsewhere) -> None:
    """It writes, searches in every mode and deletes with the Embedder, as does its embed_model."""
    store = HarrierVectorStore(Index(MemoryStore(), embedder), with_embeddings=True)
    index = VectorStoreIndex(
        nodes(), storage_context=StorageContext.from_defaults(vector_store=store), embed_model=store.embed_model
    )
    [found] = index.as_retriever(similarity_top_k=1).retrieve("bread yeast")
    assert found.node_id == "bread"
    vector = store.embed_model.get_query_embedding("bread yeast")
    asked: list[dict[str, Any]] = [
        {"query_str": "bread yeast"},
        {"query_embedding": vector},
        {"query_str": "bread yeast", "mode": VectorStoreQueryMode.MMR},
        {"query_embedding": vector, "mode": VectorStoreQueryMode.MMR},
        {"query_str": "bread yeast", "node_ids": ["bread", "river"]},
        {"query_embedding": vector, "node_ids": ["bread", "river"]},
    ]
    for options in asked:
        query = VectorStoreQuery(similarity_top_k=1, **options)
        results: list[Any] = [store.query(query), asyncio.run(store.aquery(query))]
        assert [result.ids for result in results] == [["bread"]] * 2
        np.testing.assert_allclose(results[0].similarities, results[1].similarities, atol=1e-6)
    store.delete_nodes(["bread"])
    assert [node.node_id for node in store.get_nodes()] == ["river"]


def test_embeddings_of_another_are_refused(embedder: Elsewhere) -> None:
    """Embeddings of another Embedder are refused, and its own are accepted unencoded."""
    store = HarrierVectorStore(Index(MemoryStore(), embedder))
    own = list(store.embed_model(nodes()))
    store.add(own)
    assert store.client.count() == 2
    wrong = [TextNode(id_=node.node_id, text=f"{node.text} more", embedding=own[1].embedding) for node in nodes()]
    with pytest.raises(WrongSpace, match="use the store's embed_model"):
        store.add(wrong)


def test_the_index_is_not_changed(embedder: Elsewhere) -> None:
    """Nodes with embeddings are added through another index over the same store."""
    index = Index(MemoryStore(), embedder)
    store = HarrierVectorStore(index)
    store.add(list(store.embed_model(nodes())))
    assert index.encoder is embedder
    assert store.client is index
