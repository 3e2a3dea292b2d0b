"""From documents to answers: VectorStoreIndex, IngestionPipeline, SimpleVectorStore, and records_of."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import BaseNode, Document, MetadataMode, NodeRelationship
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from llama_index.embeddings.harrier import HarrierEmbedding
from llama_index.vector_stores.harrier import HarrierVectorStore, node_id, records_of

from harrier_core import Encoder, Index, SettingError, TextTooLong
from harrier_core.store import VectorStore
from harrier_core.testing import MemoryStore

BREAD = "Bread rises because yeast turns sugar into gas. The gas makes holes in the dough."
VIRUS = "Vaccines train the immune system. It recognises a virus before the body ever meets it."
RIVER = "Rivers carry sand from the mountains. They lay it down where they meet the sea."
TEXTS = {"bread": BREAD, "virus": VIRUS, "river": RIVER}
QUESTION = "why does bread rise with yeast"


@pytest.fixture
def store(place: VectorStore, encoder: Encoder) -> HarrierVectorStore:
    return HarrierVectorStore(Index(place, encoder))


def documents(times: int = 8, **changed: str) -> list[Document]:
    """Return documents with stable ids."""
    texts = {**TEXTS, **changed}
    return [
        Document(
            id_=id_,
            text=" ".join(f"{text} This is part {number}." for number in range(times)),
            metadata={"topic": id_, "file_path": f"/{id_}.txt"},
            excluded_embed_metadata_keys=["file_path"],
        )
        for id_, text in texts.items()
        if text
    ]


def splitter() -> SentenceSplitter:
    return SentenceSplitter(chunk_size=64, chunk_overlap=0, id_func=node_id)


def index_of(store: HarrierVectorStore, documents: list[Document], **options: Any) -> VectorStoreIndex:
    return VectorStoreIndex.from_documents(
        documents,
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=store.embed_model,
        transformations=[splitter()],
        **options,
    )


def rows(store: HarrierVectorStore) -> dict[str, Any]:
    """Return everything stored, in any order."""
    return {each.chunk.record_id: (each.chunk.text, each.chunk.metadata) for each in store.client.read()}


# -- VectorStoreIndex


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_from_documents_to_an_answer(store: HarrierVectorStore, encoder: Encoder, use_async: bool) -> None:
    """A question finds its document with metadata and neighbours, and little is encoded twice."""
    before = encoder.stats.texts
    index = index_of(store, documents(), use_async=use_async)
    chunks = store.client.count()
    assert chunks > 6
    assert encoder.stats.texts - before == chunks + 1  # a sample of one is looked at
    answer = index.as_query_engine(llm=MockLLM(), similarity_top_k=2).query(QUESTION)
    assert "yeast turns sugar into gas" in str(answer)  # the mock says what it was given
    assert {node.metadata["topic"] for node in answer.source_nodes} == {"bread"}
    found = index.as_retriever(similarity_top_k=1).retrieve(QUESTION)[0]
    assert found.node.ref_doc_id == "bread"
    assert {NodeRelationship.SOURCE} < set(found.node.relationships)
    again = asyncio.run(index.as_retriever(similarity_top_k=1).aretrieve(QUESTION))[0]
    assert (again.node_id, again.score) == (found.node_id, found.score)
    stored = {each.chunk.text for each in store.client.read()}
    assert found.node.get_content(metadata_mode=MetadataMode.EMBED) in stored
    assert not any("file_path" in text for text in stored)


def test_the_query_engine_asks_with_the_instruction(store: HarrierVectorStore, encoder: Encoder) -> None:
    """The score equals that of the query with its instruction."""
    index = index_of(store, documents())
    found = index.as_retriever(similarity_top_k=1).retrieve(QUESTION)[0]
    chunk = encoder.encode_documents([found.node.get_content(metadata_mode=MetadataMode.EMBED)])[0]
    bare = float(encoder.encode_documents([QUESTION])[0] @ chunk)
    instructed = float(encoder.encode_documents([encoder.prompt(QUESTION)])[0] @ chunk)
    assert abs(instructed - bare) > 5e-3
    assert abs((found.score or 0) - instructed) < 2e-3


def test_a_second_build_adds_nothing(store: HarrierVectorStore) -> None:
    """With ids from `node_id`, every row stays the same."""
    index_of(store, documents())
    before = rows(store)
    index_of(store, documents())
    assert rows(store) == before


def test_inserting_and_deleting(store: HarrierVectorStore) -> None:
    """insert, delete_ref_doc, refresh_ref_docs and an index over existing data work."""
    whole = documents()
    index = index_of(store, whole[:2])
    index.insert(whole[2])
    everything = rows(store)
    assert index.refresh_ref_docs(documents()) == [False, False, False]
    assert rows(store) == everything
    changed = documents(virus="Vaccines were first tried on cows. That is what they are named after.")
    assert index.refresh_ref_docs(changed) == [False, True, False]
    kept = {id_ for id_, (_, metadata) in everything.items() if metadata["topic"] != "virus"}
    assert kept < set(rows(store))
    assert not any("immune" in text for text, _ in rows(store).values())
    index.delete_ref_doc("virus", delete_from_docstore=True)
    assert set(rows(store)) == kept
    other = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
    food = MetadataFilters(filters=[MetadataFilter(key="topic", value="bread")])
    retriever = other.as_retriever(similarity_top_k=99, filters=food, vector_store_query_mode="mmr")
    assert {node.metadata["topic"] for node in retriever.retrieve("sand and the sea")} == {"bread"}
    other.delete_nodes(sorted(kept))
    assert rows(store) == {}


def test_conditions_of_a_retriever(store: HarrierVectorStore) -> None:
    """Its filters are used, and other stores' forms are refused."""
    index = index_of(store, documents())
    food = MetadataFilters(filters=[MetadataFilter(key="topic", value="bread")])
    options = {"vector_store_query_mode": "mmr", "similarity_top_k": 99}
    found = index.as_retriever(filters=food, vector_store_kwargs={"mmr_threshold": 0.3}, **options)
    assert {node.metadata["topic"] for node in found.retrieve("sand and the sea")} == {"bread"}
    refused = index.as_retriever(vector_store_kwargs={"where": {"topic": "bread"}})
    with pytest.raises(SettingError, match="unknown keyword, 'where'"):
        refused.retrieve("sand and the sea")
    with pytest.raises(SettingError, match="unknown keyword, 'where'"):
        asyncio.run(refused.aretrieve("sand and the sea"))


def test_inside_a_running_loop(store: HarrierVectorStore) -> None:
    """Sync and async calls work while a loop runs, as in a notebook."""

    async def cell() -> list[Any]:
        index = index_of(store, documents()[:2])
        await index.ainsert(documents()[2])
        engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=1)
        answers = [engine.query(QUESTION), await engine.aquery(QUESTION)]
        await index.adelete_ref_doc("bread")
        return answers

    for answer in asyncio.run(cell()):
        assert answer.source_nodes[0].node.ref_doc_id == "bread"
    assert {metadata["topic"] for _, metadata in rows(store).values()} == {"virus", "river"}


def test_simple_vector_store(words: str) -> None:
    """HarrierEmbedding works with SimpleVectorStore."""
    index = VectorStoreIndex.from_documents(documents(), embed_model=HarrierEmbedding(model_name=words))
    assert index.as_retriever(similarity_top_k=1).retrieve(QUESTION)[0].node.ref_doc_id == "bread"


# -- IngestionPipeline


def pipeline_of(store: HarrierVectorStore, strategy: DocstoreStrategy, **options: Any) -> IngestionPipeline:
    return IngestionPipeline(
        transformations=[splitter(), store.embed_model],
        vector_store=store,
        docstore=SimpleDocumentStore(),
        docstore_strategy=strategy,
        **options,
    )


@pytest.mark.parametrize("strategy", DocstoreStrategy)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_pipelines(store: HarrierVectorStore, encoder: Encoder, strategy: DocstoreStrategy, asynchronous: bool) -> None:
    """With each strategy a second run does nothing, and changed documents are replaced."""
    pipeline = pipeline_of(store, strategy)

    def run(documents: list[Document]) -> None:
        if asynchronous:
            asyncio.run(pipeline.arun(documents=documents))
        else:
            pipeline.run(documents=documents)

    run(documents())
    first, encoded = rows(store), encoder.stats.texts
    assert {metadata["ref_doc_id"] for _, metadata in first.values()} == set(TEXTS)
    run(documents())
    assert (rows(store), encoder.stats.texts) == (first, encoded)
    run(documents(bread="Bread is baked in an oven.", river=""))
    texts = [text for text, _ in rows(store).values()]
    assert any("oven" in text for text in texts)
    if strategy != DocstoreStrategy.DUPLICATES_ONLY:
        assert not any("yeast" in text for text in texts)
    assert any("sand" in text for text in texts) == (strategy != DocstoreStrategy.UPSERTS_AND_DELETE)


def test_a_pipelines_cache(words: str) -> None:
    """It only applies to the same settings."""
    model = HarrierEmbedding(model_name=words)
    pipeline = IngestionPipeline(transformations=[splitter(), model])
    pipeline.run(documents=documents())  # which loads the model
    encoded = model.encoder.stats.texts
    assert all(node.embedding for node in pipeline.run(documents=documents()))
    assert model.encoder.stats.texts == encoded
    short = HarrierEmbedding(model_name=words, max_tokens=100)
    IngestionPipeline(transformations=[splitter(), short], cache=pipeline.cache).run(documents=documents())
    assert model.encoder.stats.texts > encoded  # the two share the loaded model


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_without_an_embed_model(store: HarrierVectorStore, encoder: Encoder, asynchronous: bool) -> None:
    """With the store as the last transformation, a docstore handles changes and removals."""
    pipeline = IngestionPipeline(
        transformations=[splitter(), store.as_transformation()],
        vector_store=store,
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
    )

    def run(documents: list[Document]) -> None:
        if asynchronous:
            asyncio.run(pipeline.arun(documents=documents))
        else:
            pipeline.run(documents=documents)

    before = encoder.stats.texts
    run(documents())
    first = rows(store)
    assert {metadata["ref_doc_id"] for _, metadata in first.values()} == set(TEXTS)
    assert encoder.stats.texts - before == len(first)
    assert store.client.verify().sound
    run(documents(bread="Bread is baked in an oven.", river=""))
    texts = [text for text, _ in rows(store).values()]
    assert any("oven" in text for text in texts)
    assert not any("yeast" in text or "sand" in text for text in texts)


def test_a_pipelines_cache_knows_no_store(encoder: Encoder) -> None:
    """Its entries may be missing in the store, so they are not trusted."""
    store = HarrierVectorStore(Index(MemoryStore(), encoder))
    pipeline = IngestionPipeline(transformations=[splitter(), store.as_transformation()])
    pipeline.run(documents=documents())
    first = rows(store)
    store.clear()
    pipeline.run(documents=documents())
    assert rows(store) == first


def test_storing_without_a_growing_cache(encoder: Encoder) -> None:
    """Neither documented way keeps copies of nodes that are never read."""
    store = HarrierVectorStore(Index(MemoryStore(), encoder))
    last = IngestionPipeline(transformations=[splitter(), store.as_transformation()], disable_cache=True)
    apart = IngestionPipeline(transformations=[splitter()])
    for _ in range(3):
        nodes = last.run(documents=documents())
        store.add(apart.run(documents=documents()))
    assert last.cache.cache.get_all(last.cache.collection) == {}
    assert len(apart.cache.cache.get_all(apart.cache.collection)) == 1
    assert len(rows(store)) == len(nodes)


def test_a_transformation_can_be_pickled(words: str, tmp_path: Path) -> None:
    """It includes the store."""
    store = HarrierVectorStore(f"pgvector:{tmp_path}/postgres", embed_model=HarrierEmbedding(words))
    nodes = splitter().get_nodes_from_documents(documents())
    assert pickle.loads(pickle.dumps(store.as_transformation()))(nodes) == nodes
    assert len(rows(store)) == len(nodes)
    store.client.close()


@pytest.mark.slow
def test_several_processes(encoder: Encoder) -> None:
    """Each process loads its own model, and the vectors are the same."""
    store = HarrierVectorStore(Index(MemoryStore(), encoder))
    nodes = splitter().get_nodes_from_documents(documents())
    pipeline = IngestionPipeline(transformations=[store.embed_model], vector_store=store)
    assert len(pipeline.run(nodes=nodes, num_workers=2)) == len(rows(store)) == len(nodes)
    assert store.client.verify().sound


@pytest.mark.usefixtures("newest")
def test_a_pipeline_that_fails_is_run_again(store: HarrierVectorStore, words: str) -> None:
    """The second run ends like a clean run."""
    pipeline_of(store, DocstoreStrategy.UPSERTS).run(documents=documents())
    expected = rows(store)
    store.clear()
    pipeline = pipeline_of(store, DocstoreStrategy.UPSERTS)
    whole, tight = pipeline.transformations, HarrierEmbedding(model_name=words, max_tokens=20)
    pipeline.transformations = [whole[0], tight]
    with pytest.raises(TextTooLong):
        pipeline.run(documents=documents())
    pipeline.transformations = whole
    pipeline.run(documents=documents())
    assert rows(store) == expected


# -- records_of


def reader(texts: dict[str, str], stop_after: int | None = None) -> Iterator[BaseNode]:
    """Yield nodes with LlamaIndex's random ids from a source that may fail."""
    parser = SentenceSplitter(chunk_size=64, chunk_overlap=0)
    for number, (topic, text) in enumerate(texts.items()):
        if number == stop_after:
            raise OSError("the disk is gone")
        whole = " ".join(f"{text} This is part {part}." for part in range(8))
        yield from parser.get_nodes_from_documents([Document(text=whole, metadata={"topic": topic})])


def test_a_second_run_changes_nothing(store: HarrierVectorStore) -> None:
    """LlamaIndex's random ids of documents, nodes and relationships do not matter."""
    first = store.client.ingest(records_of(reader(TEXTS)))
    assert first.written == store.client.count() > 6
    second = store.client.ingest(records_of(reader(TEXTS)), prune=True)
    assert (second.written, second.deleted, second.unchanged) == (0, 0, first.written)
    nodes = {node.node_id: node for node in store.get_nodes()}
    following = [node.next_node for node in nodes.values() if node.next_node]
    assert len(following) == len(nodes) - len(TEXTS)
    for node in nodes.values():
        if node.next_node:
            assert nodes[node.next_node.node_id].prev_node.node_id == node.node_id  # type: ignore[union-attr]
    assert len({node.ref_doc_id for node in nodes.values()}) == len(TEXTS)


def test_a_run_that_failed_is_repeated(store: HarrierVectorStore) -> None:
    """It ends like a clean run."""
    store.client.ingest(records_of(reader(TEXTS)))
    clean = rows(store)
    store.clear()
    with pytest.raises(OSError, match="the disk is gone"):
        store.client.ingest(records_of(reader(TEXTS, stop_after=2)))
    assert store.client.ingest(records_of(reader(TEXTS))).rejected == []
    assert rows(store) == clean


def test_a_change_replaces(store: HarrierVectorStore) -> None:
    """prune=True removes missing documents, and unchanged ones are not encoded."""
    store.client.ingest(records_of(reader(TEXTS)))
    changed = store.client.ingest(records_of(reader({**TEXTS, "bread": "Bread is baked."})), prune=True)
    assert 0 < changed.encoded < changed.unchanged
    assert not any("yeast" in text for text, _ in rows(store).values())


def test_equal_chunks_are_kept_apart(store: HarrierVectorStore) -> None:
    """Equal chunks of one or several documents are all kept."""
    parser = SentenceSplitter(chunk_size=16, chunk_overlap=0)
    copies = [Document(text=f"{BREAD} " * 3, metadata={"copy": number}) for number in range(2)]
    nodes = parser.get_nodes_from_documents(copies)
    report = store.client.ingest(records_of(nodes))
    assert (report.repeated, store.client.count()) == ([], len(nodes))


def test_custom_ids(store: HarrierVectorStore) -> None:
    """They are kept, also if they look random, on request; documents are accepted too."""
    mine = Document(id_="mine", text=BREAD)
    random = Document(text=VIRUS)
    records = [list(records_of([mine, random], keep_ids=keep)) for keep in (True, False)]
    assert [record.id for record in records[0]] == ["mine", random.node_id]
    assert records[1][0].id == "mine"
    assert records[1][1].id == next(records_of([Document(text=VIRUS)])).id != random.node_id
    store.client.ingest(records[1])
    assert {type(node) for node in store.get_nodes()} == {Document}


@pytest.mark.parametrize("own", [True, False])
def test_two_documents_of_one_text(encoder: Encoder, own: bool) -> None:
    """With their own ids they are separate; with random ones they are one document."""
    store = HarrierVectorStore(Index(MemoryStore(), encoder))
    index = index_of(store, [])
    one, other = (Document(text=BREAD, **({"id_": name} if own else {})) for name in ("one", "other"))
    for document in (one, other):
        index.insert(document)
    assert store.client.count() == (2 if own else 1)
    index.delete_ref_doc(other.doc_id)
    assert [node.ref_doc_id for node in store.get_nodes()] == (["one"] if own else [])
