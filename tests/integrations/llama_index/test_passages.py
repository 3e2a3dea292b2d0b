"""Positions of found passages, neighbouring text, and paging."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import (
    BaseNode,
    Document,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from llama_index.vector_stores.harrier import HarrierVectorStore, records_of
from llama_index.vector_stores.harrier.nodes import node_of

from harrier_core import Chunking, Encoder, Index, Match, Record, SettingError
from harrier_core.records import Chunk
from harrier_core.store import VectorStore
from harrier_core.testing import PROSE, MemoryStore

LONG = "\n\n".join(PROSE)
HARRIER = "the harrier is a bird of prey"


def cut(place: VectorStore, encoder: Encoder, **options: Any) -> HarrierVectorStore:
    """Return a store over an Index that splits records."""
    return HarrierVectorStore(Index(place, encoder, chunking=Chunking(tokens=64)), **options)


def asked(text: str = HARRIER, k: int = 3, **options: Any) -> VectorStoreQuery:
    return VectorStoreQuery(query_str=text, similarity_top_k=k, **options)


def found(store: HarrierVectorStore, query: VectorStoreQuery, **options: Any) -> list[Any]:
    """Return the nodes of a query, sync and async, by text and by embedding."""
    embedding = store.client.encoder.encode_queries([query.query_str or ""])[0].tolist()
    by_vector = VectorStoreQuery(**{**vars(query), "query_embedding": embedding})
    results = [
        store.query(query, **options),
        asyncio.run(store.aquery(query, **options)),
        store.query(by_vector, **options),
        asyncio.run(store.aquery(by_vector, **options)),
    ]
    told = [[(node.node_id, node.get_content()) for node in each.nodes or []] for each in results]
    assert told == told[:1] * 4
    return list(results[0].nodes or [])


# -- positions


def test_positions_of_chunks(place: VectorStore, encoder: Encoder) -> None:
    """They are right for Documents, for nodes with positions, and for other records."""
    document = Document(id_="document", text=LONG, metadata={"title": "prose", "year": 2026})
    node = TextNode(id_="node", text=LONG, start_char_idx=1_000, end_char_idx=1_000 + len(LONG))
    store = cut(place, encoder)
    store.add([document, node])
    store.client.ingest([Record("record", LONG)])
    pieces: list[Any] = store.get_nodes()
    assert {type(piece) for piece in pieces} == {TextNode}
    for piece in pieces:
        first = 1_000 if piece.node_id == "node" else 0
        text = LONG[piece.start_char_idx - first : piece.end_char_idx - first]
        assert piece.get_content() == text
    assert len({piece.start_char_idx for piece in pieces if piece.node_id == "document"}) > 5
    assert {piece.metadata.get("title") for piece in pieces if piece.node_id == "document"} == {"prose"}


def test_uncut_nodes_are_unchanged(encoder: Encoder) -> None:
    """A node without positions gets none."""
    store = cut(MemoryStore(), encoder)
    whole: list[BaseNode] = [
        TextNode(id_="a", text="a text", metadata={"a": 1}),
        TextNode(id_="b", text="b text", start_char_idx=7, end_char_idx=13),
        Document(id_="c", text="c text"),
    ]
    store.add(whole)
    assert sorted((node.to_dict() for node in store.get_nodes()), key=lambda each: each["id_"]) == [
        each.to_dict() for each in whole
    ]


def test_chunks_keep_their_class(encoder: Encoder) -> None:
    """A chunk has its node's class if TextNode cannot hold its fields."""
    store = cut(MemoryStore(), encoder)
    image = MediaResource(path=Path("image.png"))
    store.add(
        [
            Node(id_="image", text_resource=MediaResource(text=LONG), image_resource=image),
            Document(id_="markdown", text_resource=MediaResource(text=LONG, mimetype="text/markdown")),
        ]
    )
    pieces: list[Any] = store.get_nodes()
    assert len(pieces) > 10
    assert {(piece.node_id, type(piece)) for piece in pieces} == {("image", Node), ("markdown", Document)}
    assert {piece.text_resource.mimetype for piece in pieces if piece.node_id == "markdown"} == {"text/markdown"}


SHORT = st.text("ab \n\u3000\x85", max_size=8)
TEMPLATES = ("{metadata_str}\n\n{content}", "{content}\n{metadata_str}")


@given(text=SHORT, value=SHORT, template=st.sampled_from(TEMPLATES), cuts=st.tuples(*[st.integers(0, 20)] * 2))
def test_positions_of_any_chunk(text: str, value: str, template: str, cuts: tuple[int, int]) -> None:
    """Positions are right wherever the text is split, with or without stripped white space."""
    [record] = records_of([TextNode(id_="n", text=text, metadata={"m": value}, text_template=template)])
    start, end = sorted(min(each, len(record.text)) for each in cuts)
    piece: Any = node_of(Chunk.of(record, 0, start, record.text[start:end]))
    if piece.start_char_idx is None:
        assert piece.text == text
    else:
        assert piece.text == text[piece.start_char_idx : piece.end_char_idx]


@given(text=st.text("ab \n", min_size=1, max_size=30), value=SHORT, cuts=st.lists(st.integers(0, 40), max_size=4))
def test_any_passage_is_the_texts_own(text: str, value: str, cuts: list[int]) -> None:
    """Passages have no metadata prefix, wherever the record is split."""
    [record] = records_of([TextNode(id_="n", text=text, metadata={"m": value})])
    whole = record.text
    ends = sorted({min(each, len(whole)) for each in cuts} | {len(whole)})
    chunks = [
        Chunk.of(record, number, start, whole[start:end])
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
    ]
    passage: Any = node_of(Match(chunks[0], 1.0, around=tuple(chunks)))
    assert passage.text == text
    assert passage.start_char_idx is None


# -- the number of a chunk


def test_the_chunk_number(place: VectorStore, encoder: Encoder) -> None:
    """It is added on request under a chosen key, which no model reads."""
    node = TextNode(id_="n", text=LONG, metadata={"title": "prose"})
    cut(place, encoder).add([node])
    assert all("number" not in piece.metadata for piece in cut(place, encoder).get_nodes())
    store = cut(place, encoder, number_key="number")
    pieces: list[Any] = sorted(store.get_nodes(), key=lambda piece: piece.start_char_idx)
    assert [piece.metadata["number"] for piece in pieces] == list(range(len(pieces)))
    assert found(store, asked())[0].metadata["title"] == "prose"
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert "number" not in pieces[3].get_content(metadata_mode=mode)


# -- more than was found


def test_expanded_passages(place: VectorStore, encoder: Encoder) -> None:
    """They contain the node's text without metadata, and its position."""
    store = cut(place, encoder)
    store.add([Document(id_="d", text=f"\n{LONG}\n", metadata={"title": "prose"})])
    [alone] = found(store, asked(k=1))
    [near] = found(store, asked(k=1), expand=1)
    [whole] = found(store, asked(k=1), expand="record")
    assert alone.text in near.text
    assert len(alone.text) < len(near.text) < len(whole.text)
    assert near.text.split() == LONG[near.start_char_idx - 1 : near.end_char_idx - 1].split()
    assert near.start_char_idx <= alone.start_char_idx < alone.end_char_idx <= near.end_char_idx
    assert whole.text.split() == LONG.split()
    [diverse] = found(store, asked(k=1, mode=VectorStoreQueryMode.MMR), expand=1)
    assert diverse.text == near.text


def test_a_retriever_expands(encoder: Encoder) -> None:
    """vector_store_kwargs enable it."""
    store = cut(MemoryStore(), encoder)
    store.add([Document(id_="d", text=LONG)])
    index = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
    options: dict[str, Any] = {"similarity_top_k": 1, "vector_store_kwargs": {"expand": "record"}}
    [node] = index.as_retriever(**options).retrieve(HARRIER)
    assert node.get_content().split() == LONG.split()


# -- one page after another


def filled(place: VectorStore, encoder: Encoder, **options: Any) -> HarrierVectorStore:
    store = HarrierVectorStore(Index(place, encoder), **options)
    nodes = [TextNode(id_=f"{number}", text=text) for number, text in enumerate(PROSE)]
    for node in nodes:
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="prose")
    store.add(nodes)
    return store


@pytest.mark.parametrize("with_embeddings", [False, True])
def test_pages_of_a_query(place: VectorStore, encoder: Encoder, with_embeddings: bool) -> None:
    """Offsets work in every mode, without duplicates or gaps."""
    store = filled(place, encoder, with_embeddings=with_embeddings)
    whole = [node.node_id for node in found(store, asked(k=6), exact=True)]
    pages = [[node.node_id for node in found(store, asked(k=2), offset=offset, exact=True)] for offset in (0, 2, 4)]
    assert pages[0] + pages[1] + pages[2] == whole
    ids = sorted(whole[:5])
    certain = [[node.node_id for node in found(store, asked(k=2, node_ids=ids), offset=each)] for each in (0, 2, 4)]
    assert certain[0] + certain[1] + certain[2] == whole[:5]
    assert all((node.embedding is not None) == with_embeddings for node in found(store, asked(k=1), offset=1))


def test_a_threshold(place: VectorStore, encoder: Encoder) -> None:
    """It applies to the cosine in every mode."""
    store = filled(place, encoder)
    scores = store.query(asked(k=6), exact=True).similarities or []
    least = (scores[2] + scores[3]) / 2
    for options in ({}, {"mode": VectorStoreQueryMode.MMR}, {"node_ids": [str(each) for each in range(len(PROSE))]}):
        assert len(found(store, asked(k=6, **options), score_threshold=least, exact=True, ef=200)) == 3
    assert found(store, asked(), score_threshold=1.0) == []


def test_conflicting_options(encoder: Encoder) -> None:
    """They raise the kit's error."""
    store = filled(MemoryStore(), encoder)
    with pytest.raises(SettingError, match="offset cannot be used with mode 'mmr'"):
        store.query(asked(mode=VectorStoreQueryMode.MMR), offset=1)
    wrong: list[dict[str, Any]] = [{"offset": -1}, {"ef": 0}, {"expand": -1}]
    for options in wrong:
        with pytest.raises(SettingError, match=f"{next(iter(options))} must be"):
            store.query(asked(), **options)
    with pytest.raises(SettingError, match="offset must be"):
        store.query(asked(node_ids=["1"]), offset=-1)


def test_pages_of_nodes(place: VectorStore, encoder: Encoder) -> None:
    """get_nodes pages sync and async; a missing place has none."""
    assert HarrierVectorStore(Index(place, encoder)).get_nodes(limit=3) == []
    store = filled(place, encoder)
    whole = [node.node_id for node in store.get_nodes()]
    assert len(whole) == len(PROSE)
    assert [node.node_id for node in store.get_nodes(limit=3)] == whole[:3]
    assert [node.node_id for node in asyncio.run(store.aget_nodes(limit=3, offset=2))] == whole[2:5]
