"""HarrierEmbeddingClient as Agent Framework calls it: each text in its role, or not at all."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_framework import BaseEmbeddingClient, Embedding, GeneratedEmbeddings, SupportsGetEmbeddings
from agent_framework_harrier import HarrierEmbeddingClient, HarrierEmbeddingOptions
from elsewhere import Elsewhere
from langchain_core.stores import InMemoryByteStore

from harrier_core import CachedEncoder, EmptyText, Encoded, Encoder, NotText, SettingError, Task

WEB = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
STS = "Instruct: Retrieve semantically similar text\nQuery: "
TEXT = " one\n\n two\tthree \n"

Options = HarrierEmbeddingOptions


def embeddings(
    client: HarrierEmbeddingClient, *values: str, **options: Any
) -> GeneratedEmbeddings[list[float], HarrierEmbeddingOptions]:
    given: Any = options or None
    return asyncio.run(client.get_embeddings(values, options=given))


def test_it_is_an_embedding_client(words: str, encoder: Encoder) -> None:
    """It has the protocol, base class and types, and the Encoder's vectors."""
    client = HarrierEmbeddingClient(words)
    assert isinstance(client, SupportsGetEmbeddings)
    assert isinstance(client, BaseEmbeddingClient)
    options: Options = {"role": "document"}
    made = asyncio.run(client.get_embeddings(["bread", "rivers"], options=options))
    assert isinstance(made, GeneratedEmbeddings)
    assert made.options is options
    assert all(type(each) is Embedding and type(each.vector) is list for each in made)
    assert [(each.model, each.dimensions) for each in made] == [(words, encoder.dimensions)] * 2
    assert type(made[0].vector[0]) is float
    expected = encoder.encode_documents(["bread", "rivers"])
    assert np.array_equal(np.array([each.vector for each in made], np.float32), expected)
    [query] = embeddings(client, "bread", role="query")
    assert np.array_equal(np.array(query.vector, np.float32), encoder.encode_queries(["bread"])[0])


@pytest.mark.parametrize(
    ("role", "options", "prompt"),
    [
        (None, {"role": "query"}, WEB),
        (None, {"role": "document"}, ""),
        ("query", {}, WEB),
        ("document", {}, ""),
        ("document", {"role": "query"}, WEB),
        ("query", {"role": "document"}, ""),
        ("query", {"role": "document", "task": None}, ""),
        (None, {"role": "query", "task": "sts_query"}, STS),
        ("query", {"task": "sts_query"}, STS),
        (None, {"role": "query", "task": Task("Find birds")}, "Instruct: Find birds\nQuery: "),
    ],
)
def test_roles(words: str, read: list[str], role: Any, options: Any, prompt: str) -> None:
    """The request's role takes precedence over the client's, and newlines are kept."""
    embeddings(HarrierEmbeddingClient(words, role=role), TEXT, "b", **options)
    assert read == [prompt + TEXT, prompt + "b"]


def test_dimensions_of_none(words: str, read: list[str]) -> None:
    """None is ignored, also from a collection."""
    embeddings(HarrierEmbeddingClient(words, role="document"), TEXT, dimensions=None)
    assert read == [TEXT]


def test_an_encoders_task(words: str, read: list[str]) -> None:
    """It applies to queries and not to documents."""
    client = HarrierEmbeddingClient(Encoder(words, task="sts_query"))
    embeddings(client, TEXT, role="query")
    embeddings(client, TEXT, role="document")
    assert read == [STS + TEXT, TEXT]


@pytest.mark.parametrize(
    ("role", "options"),
    [
        (None, {}),
        (None, {"model": "words"}),
        (None, {"role": None}),
        (None, {"dimensions": 96}),
        # As a vector collection asks, which has one client for both.
        ("document", {"dimensions": 96}),
        ("query", {"dimensions": 96}),
    ],
)
def test_a_request_without_a_role(words: str, read: list[str], role: Any, options: Any) -> None:
    """It is refused before anything is read, and the error names both roles."""
    client = HarrierEmbeddingClient(words, role=role)
    with pytest.raises(SettingError, match=r"pass options=\{'role': 'query'\} or \{'role': 'document'\}.*with_roles"):
        embeddings(client, TEXT, **options)
    assert read == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"role": "queries"}, "role must be 'query' or 'document', got 'queries'"),
        ({"role": "query", "dimensions": 8}, r"dimensions must be \d+ with .*, got 8; declare the vector field with"),
        ({"role": "query", "model": "another"}, "model must be '.*', got 'another'; create another client"),
        ({"role": "query", "rol": 1, "user": 2}, "options must be role, task, model or dimensions, got rol, user"),
        ({"role": "document", "task": "sts_query"}, "a document has no task"),
    ],
)
def test_unsupported_options(words: str, read: list[str], options: Any, message: str) -> None:
    """They are refused before anything is read."""
    with pytest.raises(SettingError, match=message):
        embeddings(HarrierEmbeddingClient(words), TEXT, **options)
    assert read == []


def test_invalid_roles(words: str) -> None:
    role: Any = "documents"
    with pytest.raises(SettingError, match="role must be 'query' or 'document', got 'documents'"):
        HarrierEmbeddingClient(words, role=role)


def test_options_of_a_collection(words: str, encoder: Encoder) -> None:
    """The collection's dimensions and the client's model are checked."""
    made = embeddings(HarrierEmbeddingClient(words), "a", role="query", dimensions=encoder.dimensions, model=words)
    assert made[0].dimensions == encoder.dimensions


def test_invalid_values(words: str) -> None:
    """The Encoder's error is raised for anything but a list of texts; no texts give no embeddings."""
    client = HarrierEmbeddingClient(words)
    assert embeddings(client, role="document") == []
    text: Any = "a single one"
    with pytest.raises(NotText, match="put a single text in a list"):
        asyncio.run(client.get_embeddings(text, options={"role": "query"}))
    with pytest.raises(EmptyText):
        embeddings(client, "a", " ", role="query")


def test_any_embedder(read: list[str], encoder: Encoder) -> None:
    """Other embedders work, and so does a cache, which never mixes roles."""
    client = HarrierEmbeddingClient(Elsewhere(encoder))
    assert embeddings(client, "bread", role="query")[0].model == "/no/such/folder/here"
    assert isinstance(client.index_encoder, Elsewhere)
    cached = HarrierEmbeddingClient(CachedEncoder(encoder, InMemoryByteStore()))
    read.clear()
    for role in ("document", "query", "document", "query"):
        embeddings(cached, "bread", role=role)
    assert read == ["bread", WEB + "bread"]


def test_both_roles_at_once(words: str, read: list[str]) -> None:
    """Concurrent requests keep their roles."""
    client = HarrierEmbeddingClient(words)

    async def main() -> None:
        asked: list[Options] = [{"role": "query"}, {"role": "document"}]
        await asyncio.gather(*(client.get_embeddings([f"{n}"], options=asked[n % 2]) for n in range(10)))

    asyncio.run(main())
    assert sorted(read) == sorted(str(n) if n % 2 else f"{WEB}{n}" for n in range(10))


class Waiting(Elsewhere):
    """An Embedder that loads until it is released."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.begun, self.go_on = threading.Event(), threading.Event()

    @property
    def dimensions(self) -> int:
        self._wait_here()
        return super().dimensions

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        self._wait_here()
        return super().submit_documents(texts)

    def _wait_here(self) -> None:
        self.begun.set()
        assert self.go_on.wait(10)


@pytest.mark.parametrize("dimensions", [False, True])
def test_the_event_loop_is_not_blocked(encoder: Encoder, dimensions: bool) -> None:
    """Neither loading nor reading the configuration blocks the event loop."""
    embedder = Waiting(encoder)
    options: Options = {"role": "document"}
    if dimensions:
        options["dimensions"] = encoder.dimensions

    async def main() -> None:
        asking = asyncio.ensure_future(HarrierEmbeddingClient(embedder).get_embeddings(["bread"], options=options))
        while not embedder.begun.is_set():
            await asyncio.sleep(0.001)
        embedder.go_on.set()
        assert len(await asking) == 1

    asyncio.run(main())


def test_construction_loads_nothing() -> None:
    """Construction loads nothing, and uses nothing experimental."""
    code = """
import sys, warnings
import agent_framework  # some releases warn of themselves
warnings.simplefilter("error")
from agent_framework_harrier import HarrierEmbeddingClient
client = HarrierEmbeddingClient("/no/such/folder", role="query")
assert client.index_encoder.name == "/no/such/folder"
assert not {"torch", "tokenizers", "transformers"} & {*sys.modules}
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "copied",
    [
        lambda each: pickle.loads(pickle.dumps(each)),
        copy.copy,
        copy.deepcopy,
        lambda each: HarrierEmbeddingClient.from_dict(each.to_dict()),
        lambda each: HarrierEmbeddingClient.from_json(each.to_json()),
    ],
    ids=["pickle", "copy", "deepcopy", "dict", "json"],
)
def test_copies_have_the_same_settings(words: str, read: list[str], copied: Callable[[Any], Any]) -> None:
    client = copied(HarrierEmbeddingClient(Path(words), role="document"))
    assert (client.model, client.role) == (words, "document")
    embeddings(client, TEXT)
    assert read == [TEXT]


def test_the_frameworks_serialization(words: str, encoder: Encoder) -> None:
    """Only settings are serialised; an Embedder is a dependency, and never replaced silently."""
    made = HarrierEmbeddingClient(words).to_dict()
    assert made == {"type": "harrier_embedding_client", "model": words}
    client = HarrierEmbeddingClient(Elsewhere(encoder), role="query", additional_properties={"a": 1})
    assert client.additional_properties == {"a": 1}
    made = client.to_dict()
    assert made == {"type": "harrier_embedding_client", "role": "query"}
    with pytest.raises(SettingError, match="no model is given"):
        HarrierEmbeddingClient.from_dict(dict(made))
    again = HarrierEmbeddingClient.from_dict(made, dependencies={"harrier_embedding_client": {"model": encoder}})
    assert again.index_encoder is encoder
    assert again.role == "query"
