"""Hosts that embed a node's text without its metadata: VectorMemoryBlock and PropertyGraphIndex."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document, PropertyGraphIndex, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.graph_stores import SimplePropertyGraphStore
from llama_index.core.graph_stores.types import KG_NODES_KEY, EntityNode
from llama_index.core.llms import MockLLM
from llama_index.core.memory import VectorMemoryBlock
from llama_index.core.schema import BaseNode, IndexNode, MetadataMode, TextNode, TransformComponent
from llama_index.core.storage.storage_context import StorageContext
from llama_index.vector_stores.harrier import HarrierVectorStore

from harrier_core import CachedEncoder, Encoder, Index, InputError, InputWarning, WrongSpace
from harrier_core.store import VectorStore
from harrier_core.testing import MemoryStore


@pytest.fixture(params=["words", "random"])
def weights(request: pytest.FixtureRequest, built: Callable[..., Path], words: str) -> str:
    """Return two models: one in which metadata hardly changes a vector, and one in which it does."""
    return words if request.param == "words" else str(built("qwen3"))


@pytest.fixture
def store(place: VectorStore, weights: str) -> HarrierVectorStore:
    return HarrierVectorStore(Index(place, Encoder(weights)))


def test_a_vector_memory_block(store: HarrierVectorStore) -> None:
    """It keeps all sessions, works on a missing place, and stores its embeddings."""

    async def main() -> None:
        block: Any = VectorMemoryBlock(name="memory", vector_store=store, embed_model=store.embed_model)
        question = [ChatMessage(role="user", content="What is my dog called?")]
        assert await block.aget(question, session_id="one") == ""
        await block.aput([ChatMessage(role="user", content="My dog is called Rex.")], session_id="one")
        await block.aput([ChatMessage(role="user", content="My dog is called Bello.")], session_id="two")
        assert "Rex" in await block.aget(question, session_id="one")
        assert "Bello" not in await block.aget(question, session_id="one")

    asyncio.run(main())
    assert store.client.verify(sample=100).sound
    assert {node.get_content(MetadataMode.NONE) for node in store.get_nodes()} == {
        f"<message role='user'>My dog is called {name}.</message>" for name in ("Rex", "Bello")
    }


class Entities(TransformComponent):
    """An extractor that returns each capitalised word, as an LLM might."""

    def __call__(self, nodes: Sequence[BaseNode], **_: Any) -> Sequence[BaseNode]:
        for node in nodes:
            names = [word for word in node.get_content(MetadataMode.NONE).split() if word.istitle()]
            node.metadata[KG_NODES_KEY] = [EntityNode(name=name, properties={"age": "old"}) for name in names]
        return nodes


def test_a_property_graph(store: HarrierVectorStore) -> None:
    """Entities are found by name, and their vectors are those of the stored texts."""
    graph = PropertyGraphIndex.from_documents(
        [Document(text="Bread with Yeast", metadata={"file": "a/b"}), Document(text="Rivers carry Sand")],
        llm=MockLLM(),
        embed_model=store.embed_model,
        vector_store=store,
        property_graph_store=SimplePropertyGraphStore(),
        kg_extractors=[Entities()],
        use_async=False,
    )
    stored = store.get_nodes()
    assert len(stored) == 4
    assert store.client.verify(sample=100).sound
    assert all(node.metadata["age"] == "old" for node in stored)
    assert all("age: old\n" not in store_text for store_text in texts_of(store))
    graph.as_retriever(include_text=False).retrieve("Yeast")


def texts_of(store: HarrierVectorStore) -> list[str]:
    return [each.chunk.text for each in store.client.read()]


def own(store: HarrierVectorStore, count: int) -> list[BaseNode]:
    """Return nodes whose embeddings are of their own texts."""
    nodes: list[BaseNode] = [
        TextNode(id_=f"{n}", text=f"text number {n}", metadata={"topic": "bread and rivers"}) for n in range(count)
    ]
    texts = [node.get_content(MetadataMode.NONE) for node in nodes]
    for node, vector in zip(nodes, store.embed_model.get_text_embedding_batch(texts), strict=True):
        node.embedding = vector
    return nodes


def test_a_second_run(store: HarrierVectorStore) -> None:
    """Nothing is written and nodes are unchanged; then the usual embeddings are accepted too."""
    nodes = own(store, 150)
    assert store.add(nodes) == asyncio.run(store.async_add(nodes)) == [node.node_id for node in nodes]
    hashes = {each.chunk.id: each.chunk.hash for each in store.client.read()}
    store.add(nodes)
    assert {each.chunk.id: each.chunk.hash for each in store.client.read()} == hashes
    assert texts_of(store)[0].startswith("text number")
    found = {node.node_id: node for node in store.get_nodes()}
    for node in nodes:
        node.embedding = None
        assert found[node.node_id] == node
    VectorStoreIndex(
        nodes, storage_context=StorageContext.from_defaults(vector_store=store), embed_model=store.embed_model
    )
    assert all(text.startswith("topic: bread") for text in texts_of(store))
    assert store.client.verify(sample=1_000).sound


def test_embeddings_of_something_else(store: HarrierVectorStore) -> None:
    """The error says what was compared."""
    node = own(store, 1)[0]
    node.embedding = store.embed_model.get_query_embedding("something else")
    with pytest.raises(WrongSpace, match=r"for a node's text with its metadata, and -?0\.\d+ for the text alone; use"):
        store.add([node])
    plain = TextNode(text="without metadata", embedding=node.embedding)
    with pytest.raises(WrongSpace, match=r"have a cosine of -?0\.\d+ to its own for a node's text; use the store's"):
        store.add([plain])


# -- blank nodes, caches


def blank_among_others() -> list[BaseNode]:
    return [TextNode(id_=f"{n}", text="\n" if n == 3 else f"text number {n}") for n in range(6)]


def test_blank_nodes(encoder: Encoder) -> None:
    """They raise an error, or are skipped with a warning."""
    strict = HarrierVectorStore(Index(MemoryStore(), encoder))
    with pytest.raises(InputError, match="text 3 has a text that is empty or blank"):
        strict.add(blank_among_others())
    store = HarrierVectorStore(Index(MemoryStore(), encoder), on_rejected="warn")
    with pytest.warns(InputWarning, match="^1 nodes cannot be stored: node '3' has a text that is empty or blank$"):
        VectorStoreIndex(
            blank_among_others(),
            storage_context=StorageContext.from_defaults(vector_store=store),
            embed_model=store.embed_model,
        )
    assert {node.node_id for node in store.get_nodes()} == {"0", "1", "2", "4", "5"}
    with pytest.warns(InputWarning):
        assert asyncio.run(store.async_add(blank_among_others())) == [f"{n}" for n in range(6)]
    with pytest.raises(ValueError, match="on_rejected"):
        HarrierVectorStore(Index(MemoryStore(), encoder), on_rejected="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("override", [False, True])
@pytest.mark.parametrize("use_async", [False, True])
def test_ids_of_nodes_beside_a_blank_one(encoder: Encoder, override: bool, use_async: bool) -> None:
    """Each node that an index keeps is under its own id, although one of them was skipped."""
    store = HarrierVectorStore(Index(MemoryStore(), encoder), on_rejected="warn")
    nodes = [IndexNode(id_=f"{n}", text=" " if n == 0 else f"text {n}", index_id=f"{n}") for n in range(3)]
    context = StorageContext.from_defaults(vector_store=store)
    options: Any = {"embed_model": store.embed_model, "store_nodes_override": override, "use_async": use_async}
    with pytest.warns(InputWarning, match="node '0' has a text that is empty or blank"):
        index = VectorStoreIndex(nodes, storage_context=context, **options)
    assert index.index_struct.nodes_dict == {"0": "0", "1": "1", "2": "2"}


def test_an_index_over_a_cache(encoder: Encoder) -> None:
    """Its embed_model uses the cache too."""

    class Values(dict[str, bytes]):
        def mget(self, keys: Sequence[str]) -> list[bytes | None]:
            return [self.get(key) for key in keys]

        def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
            self.update(key_value_pairs)

    store = HarrierVectorStore(Index(MemoryStore(), CachedEncoder(encoder, Values())))
    store.add([TextNode(text="a text about bread")])
    before = encoder.stats.texts
    store.embed_model.get_text_embedding("a text about bread")
    assert encoder.stats.texts == before
    store.embed_model.get_query_embedding("bread")
    assert encoder.stats.texts == before + 1
