"""Every integration takes a server's model by URL: the same vectors, and a key that is never written."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from agent_framework import SecretString
from agent_framework_harrier import HarrierEmbeddingClient
from haystack import Document as HaystackDocument
from haystack.core.serialization import component_from_dict, component_to_dict
from haystack.utils import Secret
from haystack_integrations.components.embedders.harrier import HarrierDocumentEmbedder, HarrierTextEmbedder
from haystack_integrations.components.retrievers.harrier import HarrierRetriever
from haystack_integrations.document_stores.harrier import HarrierDocumentStore
from langchain_core.load import dumps
from langchain_core.stores import InMemoryByteStore
from langchain_harrier import HarrierEmbeddings, HarrierVectorStore
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.embeddings.harrier import HarrierEmbedding
from llama_index.vector_stores.harrier import HarrierVectorStore as LlamaIndexStore
from numpy.typing import NDArray
from pydantic import SecretStr
from serving import Serving

from harrier_core import Encoder, Index, Record, RemoteEncoder, ServerRefused, SettingError
from harrier_core.testing import MemoryStore

Vector = NDArray[np.float32]
KEY = "a-key-that-nobody-knows"
TEXTS = {"bread": "Bread rises\nbecause of yeast.", "river": "Rivers carry sand to the sea."}
QUERY = "why does bread rise"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the developer's environment variables."""
    for name in [name for name in os.environ if name.startswith("HARRIER_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def folder(built: Callable[..., Path]) -> Path:
    return built("qwen3", vectors="words")


@pytest.fixture(scope="module")
def here(folder: Path) -> Iterator[Encoder]:
    """Return the same model in this process."""
    with Encoder(folder) as encoder:
        yield encoder


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a server that requires a key."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{KEY}\n", encoding="utf-8")
    serving = Serving("--api-key-file", str(keys), model=folder)
    serving.wait()
    yield serving.url
    serving.kill()


# -- the same vectors


def stored(index: Index) -> dict[str, Vector]:
    return {each.chunk.record_id: each.vector for each in index.read()}


def same(found: Any, expected: Any) -> bool:
    """Return whether the numbers are bit-identical."""
    return np.array_equal(np.asarray(found, np.float32), expected)


@pytest.fixture
def expected(here: Encoder) -> dict[str, Vector]:
    """Return the content of an Index with the local model."""
    with Index(MemoryStore(), here) as index:
        index.ingest([Record(id_, text) for id_, text in TEXTS.items()])
        return stored(index)


def test_langchain(url: str, here: Encoder, expected: dict[str, Vector]) -> None:
    embeddings = HarrierEmbeddings(url=url, api_key=KEY)
    assert same(embeddings.embed_query(QUERY), here.encode_queries([QUERY])[0])
    assert same(asyncio.run(embeddings.aembed_documents(TEXTS.values())), here.encode_documents(TEXTS.values()))
    similar = embeddings.with_task("sts_query").embed_query(QUERY)
    assert same(similar, here.encode_queries([QUERY], task="sts_query")[0])
    store = HarrierVectorStore.from_texts(list(TEXTS.values()), embeddings, ids=list(TEXTS), store=MemoryStore())
    assert store.similarity_search(QUERY, k=1)[0].id == "bread"
    found = stored(store.index)
    assert all(same(found[id_], vector) for id_, vector in expected.items())


def test_llama_index(url: str, here: Encoder, folder: Path) -> None:
    embedding = HarrierEmbedding(url=url, api_key=KEY)
    assert same(embedding.get_query_embedding(QUERY), here.encode_queries([QUERY])[0])
    texts = asyncio.run(embedding.aget_text_embedding_batch(list(TEXTS.values())))
    assert same(texts, here.encode_documents(TEXTS.values()))

    def built(embedding: HarrierEmbedding) -> dict[str, Vector]:
        store = LlamaIndexStore(Index(MemoryStore(), embedding))
        nodes = [TextNode(id_=id_, text=text) for id_, text in TEXTS.items()]
        context = StorageContext.from_defaults(vector_store=store)
        index = VectorStoreIndex(nodes, storage_context=context, embed_model=embedding)
        assert [each.node_id for each in index.as_retriever(similarity_top_k=1).retrieve(QUERY)] == ["bread"]
        return stored(store.client)

    found = built(embedding)
    assert all(same(found[id_], vector) for id_, vector in built(HarrierEmbedding(folder)).items())


def test_haystack(
    url: str, here: Encoder, expected: dict[str, Vector], postgres: str, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its document store works too, by the URLs of both."""
    monkeypatch.setenv("HAYSTACK_KEY", KEY)
    secret = Secret.from_env_var("HAYSTACK_KEY")
    query = HarrierTextEmbedder(url=url, api_key=secret).run(QUERY)["embedding"]
    assert same(query, here.encode_queries([QUERY])[0])
    documents = [HaystackDocument(id=id_, content=text) for id_, text in TEXTS.items()]
    embedder = HarrierDocumentEmbedder(url=url, api_key=KEY, progress_bar=False)
    assert same([each.embedding for each in embedder.run(documents)["documents"]], [*expected.values()])
    store = HarrierDocumentStore(f"{postgres}&table={quote(table)}", url=url, api_key=secret)
    store.write_documents(documents)
    assert store.index.encoder is store.index_encoder
    assert all(same(vector, expected[id_].astype(np.float16)) for id_, vector in stored(store.index).items())
    assert HarrierRetriever(store, top_k=1).run(QUERY)["documents"][0].id == "bread"
    store.close()
    index = Index(MemoryStore(), HarrierTextEmbedder(url=url, api_key=KEY))
    HarrierDocumentStore(index).write_documents(documents)
    assert all(same(vector, expected[id_]) for id_, vector in stored(index).items())


def test_agent_framework(url: str, here: Encoder, expected: dict[str, Vector]) -> None:
    client = HarrierEmbeddingClient("tiny", url=url, api_key=SecretString(KEY))
    [query] = asyncio.run(client.get_embeddings([QUERY], options={"role": "query"}))
    assert same(query.vector, here.encode_queries([QUERY])[0])
    assert query.model == "tiny"
    index = Index(MemoryStore(), client)
    index.ingest([Record(id_, text) for id_, text in TEXTS.items()])
    found = stored(index)
    assert all(same(found[id_], vector) for id_, vector in expected.items())


def test_caches(url: str, here: Encoder) -> None:
    """The frameworks' caches work as with a local model."""
    vector = here.encode_documents([QUERY])[0]
    store, values = InMemoryByteStore(), SimpleKVStore()
    for _ in range(2):
        assert same(HarrierEmbeddings(url=url, api_key=KEY, cache=store).embed_documents([QUERY])[0], vector)
        embedding = HarrierEmbedding(url=url, api_key=KEY, embeddings_cache=values)
        assert same(embedding.get_text_embedding(QUERY), vector)
    assert len(list(store.yield_keys())) == len(values.get_all("harrier_vectors")) == 1


def test_the_server_must_have_the_model(url: str) -> None:
    with pytest.raises(ServerRefused, match="there is no model 'harrier-27b'; this server has tiny-query"):
        HarrierEmbeddings("harrier-27b", url=url, api_key=KEY).embed_query(QUERY)
    with pytest.raises(ServerRefused, match="the key is missing or wrong") as refused:
        HarrierEmbedding(url=url, api_key=f"{KEY}-not").get_query_embedding(QUERY)
    assert refused.value.usage


def test_a_remote_encoders_own_key(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A given key is pickled; one from the environment is read where it is needed."""
    with RemoteEncoder(url, api_key=KEY) as given, pickle.loads(pickle.dumps(given)) as again:
        assert again.space == given.space
    monkeypatch.setenv("HARRIER_API_KEY", KEY)
    with RemoteEncoder(url) as found:
        assert found.max_tokens
        pickled = pickle.dumps(found)
    assert KEY.encode() not in pickled
    with pickle.loads(pickled) as again:
        assert again.max_tokens
    monkeypatch.setenv("HARRIER_API_KEY", "")
    with pickle.loads(pickled) as again, pytest.raises(ServerRefused, match="the key is missing or wrong"):
        _ = again.max_tokens


# -- settings

Make = Callable[..., Any]

SURFACES: dict[str, Make] = {
    "langchain": HarrierEmbeddings,
    "llama_index": HarrierEmbedding,
    "haystack": HarrierTextEmbedder,
    "agent_framework": HarrierEmbeddingClient,
}


@pytest.fixture(params=SURFACES)
def make(request: pytest.FixtureRequest) -> Make:
    return SURFACES[request.param]


def encoder_of(surface: Any) -> Encoder | RemoteEncoder:
    encoder: Encoder | RemoteEncoder = surface.index_encoder
    return encoder


def test_the_key_from_the_environment(make: Make, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument overrides it; without a server no key is needed."""
    monkeypatch.setenv("HARRIER_API_KEY", KEY)
    assert encoder_of(make(url=url)).max_tokens
    assert isinstance(encoder_of(make("harrier-270m")), Encoder)
    with pytest.raises(ServerRefused, match="the key is missing or wrong"):
        _ = encoder_of(make(url=url, api_key=f"{KEY}-not")).max_tokens
    with pytest.raises(ValueError, match="api_key needs url"):
        make("harrier-270m", api_key=KEY)
    monkeypatch.setenv("HARRIER_API_KEY", "of two words")
    with pytest.raises(ValueError, match="HARRIER_API_KEY must be printable ASCII characters") as refused:
        make(url=url)
    assert "of two words" not in str(refused.value)


LOCAL = {"device": "cpu", "dtype": "float32", "revision": "main", "max_tokens": 9, "token_budget": 99}


@pytest.mark.parametrize("surface", ["langchain", "llama_index", "haystack"])
@pytest.mark.parametrize(("name", "value"), [*LOCAL.items(), ("on_overflow", "truncate")])
def test_settings_of_a_local_model(surface: str, name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused with a URL; settings in the environment apply to local models."""
    make, said = SURFACES[surface], f"{name} is for a locally loaded model, but url names a server"
    for options in ({"url": NOWHERE, "api_key": KEY}, {"url": NOWHERE, "model": "tiny"}):
        with pytest.raises(ValueError, match=said) as refused:
            make(**options, **{name: value})
        assert KEY not in str(refused.value)
    monkeypatch.setenv(f"HARRIER_{name.upper()}", str(value))
    monkeypatch.setenv("HARRIER_URL", NOWHERE)
    assert repr(encoder_of(make())) == f"RemoteEncoder('{NOWHERE}')"
    with pytest.raises(ValueError, match=said):
        make(**{name: value})


@pytest.mark.parametrize("surface", ["langchain", "llama_index", "haystack"])
def test_precedence_of_model_and_server(surface: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's choice counts; server and model in the environment belong together."""
    make = SURFACES[surface]
    monkeypatch.setenv("HARRIER_URL", NOWHERE)
    monkeypatch.setenv("HARRIER_MODEL", "harrier-27b")
    assert repr(encoder_of(make())) == f"RemoteEncoder('{NOWHERE}', 'harrier-27b')"
    assert repr(encoder_of(make("harrier-270m"))) == "Encoder('harrier-270m')"
    other = f"{NOWHERE}0"
    assert repr(encoder_of(make(url=other))) == f"RemoteEncoder('{other}')"
    assert repr(encoder_of(make("tiny", url=other))) == f"RemoteEncoder('{other}', 'tiny')"
    monkeypatch.delenv("HARRIER_URL")
    assert repr(encoder_of(make())) == "Encoder('harrier-27b')"


def test_invalid_addresses(make: Make) -> None:
    with pytest.raises(ValueError, match="url must be the address of a server, such as http://127.0.0.1:8000"):
        make(url="gpu-host:8000")
    with pytest.raises(ValueError, match="url must not contain a user or password; pass api_key"):
        make(url="http://me:hunter2@gpu-host")


COPIES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "langchain": {
        "model_dump": lambda each: HarrierEmbeddings(**each.model_dump()),
        "json": lambda each: HarrierEmbeddings.model_validate_json(each.model_dump_json()),
    },
    "llama_index": {
        "dict": lambda each: HarrierEmbedding.from_dict(each.to_dict()),
        "json": lambda each: HarrierEmbedding.from_json(each.to_json()),
    },
    "haystack": {},
    "agent_framework": {
        "dict": lambda each: HarrierEmbeddingClient.from_dict(each.to_dict()),
        "json": lambda each: HarrierEmbeddingClient.from_json(each.to_json()),
    },
}
WRITTEN = [(surface, how) for surface, copies in COPIES.items() for how in ("pickle", *copies)]


@pytest.mark.parametrize(("surface", "how"), WRITTEN)
def test_serialised_settings(surface: str, how: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have the URL and the model's name, and never the key."""
    made = SURFACES[surface]("tiny", url=url, api_key=KEY)
    again = {"pickle": lambda each: pickle.loads(pickle.dumps(each)), **COPIES[surface]}[how](made)
    assert repr(encoder_of(again)) == repr(encoder_of(made)) == f"RemoteEncoder('{url}', 'tiny')"
    with pytest.raises(ServerRefused, match="the key is missing or wrong"):
        _ = encoder_of(again).max_tokens
    monkeypatch.setenv("HARRIER_API_KEY", KEY)
    again = {"pickle": lambda each: pickle.loads(pickle.dumps(each)), **COPIES[surface]}[how](made)
    assert encoder_of(again).max_tokens


def test_the_key_is_never_written(make: Make) -> None:
    made = make(url=NOWHERE, api_key=KEY)
    told = [repr(made), str(made), pickle.dumps(made).decode("latin-1"), repr(encoder_of(made))]
    if isinstance(made, HarrierEmbeddings):
        told += [dumps(made), made.model_dump_json(), str(made.model_dump())]
        assert NOWHERE in dumps(made)
    if isinstance(made, HarrierEmbedding):
        told += [made.to_json(), str(made.to_dict()), str(made.to_payload())]
    if isinstance(made, HarrierEmbeddingClient):
        told += [made.to_json(), str(made.to_dict())]
    if isinstance(made, HarrierTextEmbedder):
        with pytest.raises(ValueError, match="Cannot serialize token-based secret"):
            component_to_dict(made, "embedder")
    assert not [each for each in told if KEY in each]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_in_this_process_have_the_key(make: Make, url: str, copied: Callable[[Any], Any]) -> None:
    assert encoder_of(copied(make(url=url, api_key=KEY))).max_tokens


def test_haystacks_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the name of the variable with the key."""
    monkeypatch.setenv("HAYSTACK_KEY", KEY)
    made = HarrierDocumentEmbedder("tiny", url=NOWHERE, api_key=Secret.from_env_var("HAYSTACK_KEY"), task="sts_query")
    data = component_to_dict(made, "embedder")
    assert KEY not in json.dumps(data)
    again = component_from_dict(HarrierDocumentEmbedder, data, "embedder")
    assert component_to_dict(again, "embedder") == data
    assert (again.index_encoder.url, again.settings["task"]) == (NOWHERE, "sts_query")


def test_keys_as_each_framework_has_them() -> None:
    """A str and a SecretStr are equal; a given embedder has its own key."""
    assert HarrierEmbeddings(url=NOWHERE, api_key=SecretStr(KEY)) == HarrierEmbeddings(url=NOWHERE, api_key=KEY)
    assert HarrierEmbeddings(url=NOWHERE, api_key=KEY) != HarrierEmbeddings(url=NOWHERE)
    remote = RemoteEncoder(NOWHERE, "tiny")
    with pytest.raises(SettingError, match="url and api_key are settings of RemoteEncoder"):
        HarrierEmbeddingClient(remote, url=NOWHERE)
    with pytest.raises(SettingError, match="url is a setting of RemoteEncoder"):
        HarrierTextEmbedder(remote, url=NOWHERE)
    with pytest.raises(ValueError, match="url is a setting of embedder"):
        HarrierEmbedding(embedder=remote, url=NOWHERE)
    with pytest.raises(ValueError, match="settings differ from those of the embedder"):
        HarrierEmbeddings("tiny", embedder=remote, url=NOWHERE)
