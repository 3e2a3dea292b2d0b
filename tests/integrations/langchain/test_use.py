"""Typical use: in a chain, with LangChain's index(), and the examples in docstrings."""

from __future__ import annotations

import asyncio
import copy
import re
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_core.language_models.fake_chat_models import ParrotFakeChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_harrier import HarrierEmbeddings, HarrierRetriever, HarrierVectorStore

TEXTS = [
    "Bread rises because yeast turns sugar into gas.",
    "Vaccines train the immune system against a virus.",
    "Rivers carry sand from the mountains to the sea.",
]


@pytest.mark.parametrize("made", ["as_retriever", "HarrierRetriever"])
def test_a_chain(vector_store: HarrierVectorStore, made: str) -> None:
    """In retriever | prompt | model, the model gets the text that answers the question."""
    vector_store.add_texts(TEXTS)
    retriever: Runnable[str, list[Document]] = (
        vector_store.as_retriever(search_kwargs={"k": 1})
        if made == "as_retriever"
        else HarrierRetriever(index=vector_store.index, k=1)
    )
    context = retriever | RunnableLambda(lambda documents: documents[0].page_content)
    prompt = ChatPromptTemplate.from_messages([("human", "{question} | {context}")])
    question: dict[str, Any] = {"context": context, "question": RunnablePassthrough()}
    chain = question | prompt | ParrotFakeChatModel() | StrOutputParser()
    assert chain.invoke("why does bread rise") == f"why does bread rise | {TEXTS[0]}"
    assert asyncio.run(chain.ainvoke("how do vaccines work")) == f"how do vaccines work | {TEXTS[1]}"
    assert [said.partition(" | ")[2] for said in chain.batch(["bread", "virus", "sand"])] == TEXTS


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_share_the_store(vector_store: HarrierVectorStore, copied: Callable[[Any], Any]) -> None:
    """Copies share a store in memory, as agents that copy their tools need."""
    vector_store.add_texts(TEXTS[:1])
    retriever = HarrierRetriever(index=vector_store.index, k=1)
    copies: list[Any] = [copied(retriever), retriever.model_copy(deep=True), copied(vector_store.as_retriever())]
    for another in copies:
        assert another is not retriever
        assert [found.page_content for found in another.invoke("bread")] == TEXTS[:1]
    assert copies[0] == retriever
    another = copied(vector_store)
    another.add_texts(TEXTS[1:])
    assert len(vector_store.similarity_search("sand", k=9)) == 3


def test_tags_and_tracing(vector_store: HarrierVectorStore) -> None:
    """Traces name the retriever and the embeddings."""
    retriever = vector_store.as_retriever()
    assert retriever.tags == ["HarrierVectorStore", "HarrierEmbeddings"]
    assert retriever._get_ls_params()["ls_embedding_provider"] == "HarrierEmbeddings"
    assert HarrierRetriever(index=vector_store.index)._get_ls_params()["ls_retriever_name"] == "harrier"


KEY_ENCODERS: list[Any] = ["sha1", "sha256", "sha512", "blake2b", lambda document: f"key of {document.page_content}"]


@pytest.mark.filterwarnings("ignore:Using SHA-1 for document hashing")
@pytest.mark.parametrize("key_encoder", KEY_ENCODERS)
def test_index_with_a_record_manager(vector_store: HarrierVectorStore, key_encoder: Any) -> None:
    """Any ids work; a second run does nothing, and a full one removes missing documents."""
    records = InMemoryRecordManager("here")
    records.create_schema()
    documents = [Document(text, metadata={"source": text[:5]}) for text in TEXTS]

    def run(documents: list[Document]) -> tuple[int, int, int]:
        done = index(documents, records, vector_store, cleanup="full", key_encoder=key_encoder, batch_size=2)
        return done["num_added"], done["num_skipped"], done["num_deleted"]

    assert run(documents) == (3, 0, 0)
    assert run(documents) == (0, 3, 0)
    assert run(documents[:2]) == (0, 2, 1)
    assert vector_store.index.count() == 2
    [found] = vector_store.similarity_search("why does bread rise", k=1)
    assert (found.page_content, found.metadata) == (TEXTS[0], {"source": "Bread"})


def test_aindex_with_a_record_manager(vector_store: HarrierVectorStore) -> None:
    """The async function works too, one source at a time."""
    records = InMemoryRecordManager("here")

    async def run(text: str) -> tuple[int, int]:
        await records.acreate_schema()
        documents = [Document(text, metadata={"source": "one"})]
        done = await aindex(
            documents, records, vector_store, cleanup="incremental", source_id_key="source", key_encoder="blake2b"
        )
        return done["num_added"], done["num_deleted"]

    assert asyncio.run(run(TEXTS[0])) == (1, 0)
    assert asyncio.run(run(TEXTS[1])) == (1, 1)
    assert [each.page_content for each in vector_store.similarity_search("bread", k=5)] == [TEXTS[1]]


@pytest.mark.parametrize("described", [HarrierEmbeddings, HarrierVectorStore, HarrierRetriever])
def test_docstrings(described: type, words: str, postgres: str, table: str) -> None:
    """Every example runs unchanged with a real model and database."""
    examples = re.findall(r"```python\n(.*?)```", described.__doc__ or "", re.DOTALL)
    code = "\n".join(textwrap.dedent(example) for example in examples)
    for published, here in (
        ("microsoft/harrier-oss-v1-0.6b", words),
        ("postgresql://user@host/db", postgres),
        ('"documents"', repr(table)),
    ):
        code = code.replace(published, here)
    names: dict[str, Any] = {}
    exec(code, names)
    sections = re.findall(r"^    (\w[\w ,]*):$", described.__doc__ or "", re.MULTILINE)
    assert sections[:3] == ["Setup", "Key init args", "Instantiate"]
    assert "Async" in sections
    store: Callable[[], None] | None = getattr(names.get("store"), "close", None)
    if store:
        store()
