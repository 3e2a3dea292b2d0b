"""Any Embedder works in LangChain, and is never silently replaced by an Encoder."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from elsewhere import Elsewhere
from langchain_core.documents import Document
from langchain_core.stores import InMemoryByteStore
from langchain_harrier import HarrierEmbeddings, HarrierRetriever, HarrierVectorStore
from langchain_harrier.langgraph import with_roles
from langgraph.store.memory import InMemoryStore
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from harrier_core import CachedEncoder, Encoder, EncoderClosed, Index, RemoteEncoder, SettingError, TextTooLong
from harrier_core.testing import MemoryStore

BREAD = Document(id="bread", page_content="Bread rises because of yeast.", metadata={"year": 2021})
RIVER = Document(id="river", page_content="Rivers carry sand.", metadata={"year": 2023})


@pytest.fixture
def embedder(encoder: Encoder) -> Elsewhere:
    return Elsewhere(encoder)


def test_its_vectors_are_the_embeddings(encoder: Encoder, embedder: Elsewhere) -> None:
    """Embeddings are the Embedder's in both roles, sync and async."""
    embeddings = HarrierEmbeddings.from_encoder(embedder)
    query, document = (made(["bread"])[0].tolist() for made in (encoder.encode_queries, encoder.encode_documents))
    assert query != document
    assert embeddings.embed_query("bread") == asyncio.run(embeddings.aembed_query("bread")) == query
    assert embeddings.embed_documents(["bread"]) == asyncio.run(embeddings.aembed_documents(["bread"])) == [document]
    blank = HarrierEmbeddings.from_encoder(embedder, on_blank="last").embed_documents(["", "bread"])
    assert len(blank) == 2
    assert blank[1] == document


@pytest.mark.parametrize(
    "copied",
    [
        lambda each: pickle.loads(pickle.dumps(each)),
        copy.copy,
        copy.deepcopy,
        lambda each: each.model_copy(),
        lambda each: HarrierEmbeddings(**each.model_dump()),
    ],
    ids=["pickle", "copy", "deepcopy", "model_copy", "model_dump"],
)
def test_a_copy_has_the_embedder(embedder: Elsewhere, copied: Callable[[Any], Any]) -> None:
    """A copy of the settings alone would be an Encoder of a missing model."""
    embeddings = HarrierEmbeddings.from_encoder(embedder)
    other = copied(embeddings)
    assert isinstance(other.index_encoder, Elsewhere)
    assert other.embed_query("bread") == embeddings.embed_query("bread")


def test_equality(words: str, encoder: Encoder, embedder: Elsewhere) -> None:
    """Encoders compare by settings, and other embedders by identity."""
    assert HarrierEmbeddings.from_encoder(encoder) == HarrierEmbeddings(model=words)
    ours = HarrierEmbeddings.from_encoder(embedder)
    assert ours == HarrierEmbeddings.from_encoder(embedder)
    assert hash(ours) == hash(HarrierEmbeddings.from_encoder(embedder))
    assert ours != HarrierEmbeddings.from_encoder(Elsewhere(encoder))


def test_encoder_only_features(embedder: Elsewhere) -> None:
    """Other embedders raise an error that says so."""
    embeddings = HarrierEmbeddings.from_encoder(embedder)
    with pytest.raises(SettingError, match="needs an Encoder, got Elsewhere; use index_encoder"):
        _ = embeddings.encoder
    with pytest.raises(SettingError, match="needs an Encoder, got Elsewhere; pass one with that task"):
        embeddings.with_task("sts_query")
    with pytest.raises(SettingError, match="needs an Encoder, got Elsewhere; omit cache"):
        HarrierEmbeddings.from_encoder(embedder, cache=InMemoryByteStore())
    with pytest.raises(PydanticSerializationError):
        embeddings.model_dump_json()
    with pytest.raises(ValidationError, match="use HarrierEmbeddings.from_encoder"):
        HarrierEmbeddings(model="harrier-270m", embedder=embedder)


def test_environment_settings_do_not_apply(embedder: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be shown without having an effect."""
    monkeypatch.setenv("HARRIER_DEVICE", "cuda")
    monkeypatch.setenv("HARRIER_TASK", "sts_query")
    embeddings = HarrierEmbeddings.from_encoder(embedder)
    assert (embeddings.model, embeddings.device, embeddings.task) == (embedder.name, None, None)


def test_a_given_encoder(encoder: Encoder) -> None:
    """Closing it ends its embeddings."""
    embeddings = HarrierEmbeddings.from_encoder(encoder)
    assert embeddings.encoder is encoder
    encoder.close()
    with pytest.raises(EncoderClosed):
        embeddings.embed_query("bread")


def test_a_vector_store(embedder: Elsewhere) -> None:
    """It writes, searches and deletes with the Embedder."""
    vector_store = HarrierVectorStore(Index(MemoryStore(), embedder))
    assert vector_store.add_documents([BREAD, RIVER]) == ["bread", "river"]
    vector = vector_store.embeddings.embed_query("bread yeast")

    async def found() -> list[list[Document]]:
        return [
            await vector_store.asimilarity_search("bread yeast", k=1),
            await vector_store.asimilarity_search_by_vector(vector, k=1),
            await vector_store.amax_marginal_relevance_search_by_vector(vector, k=1),
            await HarrierRetriever(index=vector_store.index, k=1).ainvoke("bread yeast"),
        ]

    assert asyncio.run(found()) == [[BREAD]] * 4
    assert vector_store.as_retriever(search_kwargs={"k": 1}).invoke("bread yeast") == [BREAD]
    assert vector_store.delete(["bread"])
    assert vector_store.similarity_search("bread yeast") == [RIVER]
    again = HarrierVectorStore.from_documents([BREAD], vector_store.embeddings, store=MemoryStore())
    assert again.index.encoder is embedder


@pytest.mark.parametrize("named", [None, "harrier-270m"])
def test_no_server_is_asked_for_a_retriever(named: str | None) -> None:
    """LangChain reads `embeddings` to make one, and at each of its searches, for a name in traces."""
    remote = RemoteEncoder("http://127.0.0.1:9", named, retry_for=0)  # where nothing listens
    for embedder in (remote, CachedEncoder(remote, InMemoryByteStore())):
        vector_store = HarrierVectorStore(Index(MemoryStore(), embedder))
        assert vector_store.as_retriever().tags == ["HarrierVectorStore", "HarrierEmbeddings"]
        embeddings = vector_store.embeddings
        assert embeddings is vector_store.embeddings
        assert embeddings.index_encoder is embedder
        assert embeddings.model_name == (named or "")
        assert HarrierEmbeddings(**embeddings.model_dump()).index_encoder is embedder
    remote.close()


def test_embeddings_of_an_index_that_changes_its_model(encoder: Encoder, embedder: Elsewhere) -> None:
    """They are always those of its current encoder."""
    vector_store = HarrierVectorStore(Index(MemoryStore(), encoder))
    before = vector_store.embeddings
    vector_store.index.encoder = embedder
    assert [before.index_encoder, vector_store.embeddings.index_encoder] == [encoder, embedder]


def test_langgraphs_store(embedder: Elsewhere) -> None:
    """A text that is too long is an error for its writer only."""
    embeddings = HarrierEmbeddings.from_encoder(embedder)
    index: Any = {"dims": embedder.dimensions, "embed": embeddings, "fields": ["text"]}
    store = with_roles(InMemoryStore)(index=index)

    async def main() -> list[str]:
        with pytest.raises(TextTooLong, match="split it"):
            await store.aput(("a",), "long", {"text": "word " * 5_000})
        await store.aput(("a",), "bread", {"text": BREAD.page_content})
        with pytest.raises(TextTooLong, match="split it"):
            await store.asearch(("a",), query="word " * 5_000)
        return [item.key for item in await store.asearch(("a",), query="bread yeast")]

    assert asyncio.run(main()) == ["bread"]
