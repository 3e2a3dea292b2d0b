"""Construction of a HarrierVectorStore: an Index, or a store and an embedding; and common mistakes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from llama_index.embeddings.harrier import HarrierEmbedding
from llama_index.vector_stores.harrier import HarrierVectorStore
from qdrant_client import QdrantClient

from harrier_core import Encoder, Index, SettingError
from harrier_core.store import VectorStore
from harrier_core.testing import MemoryStore

BREAD = TextNode(id_="bread", text="Bread rises because yeast turns sugar into gas.")
QUESTION = VectorStoreQuery(query_str="why does bread rise")


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


def test_a_store_and_an_embedding(place: VectorStore, words: str) -> None:
    """They make an Index; the embedding is LlamaIndex's or an Embedder."""
    embedding = HarrierEmbedding(words)
    store = HarrierVectorStore(place, embed_model=embedding)
    store.add([BREAD])
    assert store.client.store is place
    assert store.client.encoder is embedding.index_encoder
    other = HarrierVectorStore(place, embed_model=Encoder(words))
    assert other.query(QUESTION).ids == ["bread"]


def test_a_url(encoder: Encoder, tmp_path: Path) -> None:
    """A URL is accepted as by an Index."""
    store = HarrierVectorStore(f"qdrant:{tmp_path}/qdrant?collection=docs", embed_model=encoder)
    store.add([BREAD])
    assert store.query(QUESTION).ids == ["bread"]
    store.client.close()


def test_one_encoder_only(encoder: Encoder) -> None:
    """An Index has an encoder, and a store needs one."""
    with pytest.raises(SettingError, match="an Index has its own encoder; omit embed_model"):
        HarrierVectorStore(Index(MemoryStore(), encoder), embed_model=encoder)
    for place in (MemoryStore(), "postgresql://user:secret@host/db"):
        with pytest.raises(SettingError, match="no embedding model; pass embed_model=Harrier") as caught:
            HarrierVectorStore(place)
        assert "secret" not in str(caught.value)
    with pytest.raises(SettingError, match=r"needs an Index; write HarrierVectorStore\(Index\(store, encoder\)\)"):
        HarrierVectorStore()


def test_invalid_stores(encoder: Encoder, client: QdrantClient) -> None:
    """The error says what to write."""
    given: list[tuple[Any, str]] = [
        (client, r"got QdrantClient; use QdrantStore\(client\)"),
        (encoder, r"got Encoder; write Index\(store, encoder\)"),
        (HarrierEmbedding.from_encoder(encoder), r"got HarrierEmbedding; write Index\(store, encoder\)"),
        (HarrierVectorStore(Index(MemoryStore(), encoder)), "got HarrierVectorStore; use the store"),
        ("documents", "a store's URL must begin with"),
        (MemoryStore, "got the class MemoryStore"),
    ]
    for each, advice in given:
        with pytest.raises(SettingError, match=advice):
            HarrierVectorStore(each, embed_model=encoder)
        with pytest.raises(SettingError, match=advice):
            HarrierVectorStore(each)
    wrong: Any = "harrier-270m"
    with pytest.raises(SettingError, match=r"got str; use Encoder\('...'\)"):
        HarrierVectorStore(MemoryStore(), embed_model=wrong)


REFUSED: dict[str, str] = {
    **dict.fromkeys(("client", "aclient", "collection_name", "url"), r"write HarrierVectorStore\(QdrantStore\("),
    **dict.fromkeys(("connection_string", "table_name", "schema_name"), r"write HarrierVectorStore\(PgVectorStore\("),
    "store": r"write HarrierVectorStore\(store, embed_model",
    "embedding": "use embed_model",
    "embed_dim": "the model defines",
    "keywords": "or keywords=true to its URL",
    "enable_hybrid": "pass keywords=True to the store",
    "hybrid_search": "pass keywords=True to the store",
    "fastembed_sparse_model": "pass keywords=True to the store",
    "hnsw_kwargs": "Hnsw",
    "batch_size": "itself",
    "max_retries": "retry_for",
    "stores_text": "omit it",
    "embed_modell": "did you mean embed_model",
    "speed": "it takes index, embed_model",
}


@pytest.mark.parametrize("name", REFUSED)
def test_arguments_of_other_stores(encoder: Encoder, name: str) -> None:
    """The one-line error says what to write."""
    options: dict[str, Any] = {name: "postgresql://user:secret@host/db"}
    for given in ((), (Index(MemoryStore(), encoder),)):
        with pytest.raises(SettingError, match=f"^HarrierVectorStore got .*'{name}': .*{REFUSED[name]}") as caught:
            HarrierVectorStore(*given, **options)
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)


def test_from_params() -> None:
    """The error mentions this method of LlamaIndex's Postgres store."""
    with pytest.raises(SettingError, match=r"no from_params; write HarrierVectorStore\(PgVectorStore\(") as caught:
        HarrierVectorStore.from_params(host="host", password="secret", table_name="docs")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))], ids=["copy", "deep", "pickle"]
)
def test_a_copy_has_the_index(words: str, tmp_path: Path, copied: Any) -> None:
    """A pickle keeps the Index and the options."""
    url = f"pgvector:{tmp_path}/postgres?table=docs"
    store = HarrierVectorStore(url, embed_model=HarrierEmbedding(words), number_key="number", on_rejected="warn")
    other = copied(store)
    assert (other.number_key, other.on_rejected) == ("number", "warn")
    assert str(other.client.store) == str(store.client.store)
    assert other.client.encoder.space == store.client.encoder.space


def test_repr(encoder: Encoder) -> None:
    """It contains the Index's repr."""
    index = Index(MemoryStore(), encoder)
    assert repr(HarrierVectorStore(index)) == str(HarrierVectorStore(index)) == f"HarrierVectorStore({index!r})"
