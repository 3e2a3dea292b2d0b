"""Queries with node ids, as a VectorStoreIndex sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import BaseNode, ImageNode, IndexNode, TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from llama_index.vector_stores.harrier import HarrierVectorStore
from longest import Longest

from harrier_core import Chunking, Encoder, Index, SettingError
from harrier_core.store import Stored
from harrier_core.testing import MemoryStore

MODES = ["default", "mmr", "hybrid", "sparse", "text_search"]


class Counting(Index):
    """An Index that counts the chunks that are read by their ids."""

    chunks_read = 0

    def read(self, *args: Any, **options: Any) -> Iterator[Stored]:
        for each in super().read(*args, **options):
            self.chunks_read += 1
            yield each


@pytest.fixture
def index(encoder: Encoder) -> Counting:
    return Counting(MemoryStore(keywords=True), encoder)


@pytest.fixture
def store(index: Counting) -> HarrierVectorStore:
    return HarrierVectorStore(index)


TOPICS = ["yeast", "flour", "oven", "salt", "water"]


def texts(count: int) -> list[BaseNode]:
    return [TextNode(id_=f"text {n}", text=f"bread {TOPICS[n % 5]} {n // 5 * 'and '}") for n in range(count)]


def references(count: int) -> list[BaseNode]:
    return [IndexNode(id_=f"index {n}", text=f"river {TOPICS[n]}", index_id=f"{n}") for n in range(count)]


def over(store: HarrierVectorStore, nodes: list[BaseNode], **options: Any) -> VectorStoreIndex:
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(nodes, storage_context=context, embed_model=store.embed_model, **options)


def retrieved(their: VectorStoreIndex, query: str, mode: str, k: int = 2, **options: Any) -> list[str]:
    """Return the ids that a retriever finds, and check that async finds the same."""
    size = "hybrid_top_k" if mode == "hybrid" else "similarity_top_k" if mode in ("default", "mmr") else "sparse_top_k"
    retriever = their.as_retriever(vector_store_query_mode=mode, **{size: k}, vector_store_kwargs=options)
    found = [each.node_id for each in retriever.retrieve(query)]
    assert [each.node_id for each in asyncio.run(retriever.aretrieve(query))] == found
    return found


@pytest.mark.parametrize("mode", MODES)
def test_nodes_in_the_docstore_as_well(store: HarrierVectorStore, index: Counting, mode: str) -> None:
    """With store_nodes_override, every query has the ids of all nodes; they are not read to answer it."""
    their = over(store, texts(40), store_nodes_override=True)
    store.add([TextNode(id_="of another index", text="bread oven")])
    assert len(their.index_struct.nodes_dict) == 40
    assert retrieved(their, "bread oven", mode)[0] in {f"text {n}" for n in range(2, 40, 5)}
    assert len(retrieved(their, "bread", mode, k=5)) == 5
    assert index.chunks_read <= 4


@pytest.mark.parametrize("mode", MODES)
def test_mixed_kinds(store: HarrierVectorStore, index: Counting, mode: str) -> None:
    """A VectorStoreIndex sends only the ids of its index and image nodes, but means to find the others too."""
    image = ImageNode(id_="image", text="sand picture", image_url="https://host/image")
    their = over(store, [*texts(5), *references(5), image])
    assert list(their.index_struct.nodes_dict.values()) == [*(f"index {n}" for n in range(5)), "image"]
    assert retrieved(their, "bread salt", mode)[0] == "text 3"
    assert retrieved(their, "river salt", mode)[0] == "index 3"
    before = index.chunks_read
    assert retrieved(their, "sand picture", mode, k=1) == ["image"]
    assert index.chunks_read == before  # their kinds are known by now
    store.add([IndexNode(id_="of another index", text="river salt", index_id="x")])
    assert "of another index" not in retrieved(their, "river salt", mode, k=5)


@pytest.mark.parametrize("mode", MODES)
def test_few_of_many(store: HarrierVectorStore, mode: str) -> None:
    """They are found, however many other nodes are better."""
    store.add([*texts(90), TextNode(id_="far", text="river sand bread")])

    def found(*ids: str, **options: Any) -> list[str]:
        query = VectorStoreQuery(
            query_str="bread", mode=VectorStoreQueryMode(mode), similarity_top_k=2, node_ids=list(ids)
        )
        result = store.query(query, **options)
        twin = asyncio.run(store.aquery(query, **options))
        assert (result.ids, result.similarities) == (twin.ids, twin.similarities)
        return result.ids or []

    assert found("far") == ["far"]
    assert set(found("far", "text 3")) == {"far", "text 3"}
    assert len(found("far", "text 3", "text 4", "unknown")) == 2
    assert found("unknown") == []
    if mode != "mmr":
        longest = Longest()
        assert found("far", "text 3", "text 4", rerank=longest)[0] == "far"
        assert longest.asked[0] == ("bread", 3)
        pages = [found("far", "text 3", "text 4", offset=offset) for offset in (0, 2)]
        assert {*pages[0], *pages[1]} == {"far", "text 3", "text 4"}


@pytest.mark.parametrize("mode", ["hybrid", "sparse", "text_search"])
def test_nodes_far_down_a_list(store: HarrierVectorStore, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """A search by word that would read very many nodes is refused; if all nodes are found, it ends."""
    monkeypatch.setattr("llama_index.vector_stores.harrier.restricting._DEEPEST", 60)
    depths: list[int] = []
    search = store.client.search

    def noted(*args: Any, **options: Any) -> Any:
        depths.append(options["k"])
        return search(*args, **options)

    monkeypatch.setattr(store.client, "search", noted)
    store.add([*texts(100), TextNode(id_="far", text="bread " + 40 * "river sand ")])

    def asked(*ids: str) -> list[str]:
        depths.clear()
        query = VectorStoreQuery(
            query_str="bread", mode=VectorStoreQueryMode(mode), similarity_top_k=10, node_ids=list(ids)
        )
        return store.query(query).ids or []

    assert set(asked("text 0", "text 6")) == {"text 0", "text 6"}
    assert max(depths) <= 60
    assert asked("absent") == []
    with pytest.raises(
        SettingError, match=r"only 1 of 2 nodes in node_ids are among the 60 best by word for.*; use the mode 'd"
    ):
        asked("text 0", "far")
    assert max(depths) <= 60


def test_expanded(encoder: Encoder) -> None:
    """The chunks around a match are added for certain nodes, too."""
    store = HarrierVectorStore(Index(MemoryStore(), encoder, chunking=Chunking(tokens=16, overlap=0)))
    long = "Bread rises because of yeast. Rivers carry sand to the sea. " * 3
    store.add([TextNode(id_="long", text=long), TextNode(id_="short", text="bread")])
    query = VectorStoreQuery(query_str="bread", similarity_top_k=1, node_ids=["long"])
    [whole] = store.query(query, expand="record").nodes or []
    [part] = store.query(query).nodes or []
    assert whole.get_content().split() == long.split()
    assert len(part.get_content()) < len(long)
