"""Arguments that newcomers pass to a store: names of qdrant-client and of other libraries."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from harrier_qdrant import QdrantStore
from ingesting import Hashing
from qdrant_client import QdrantClient
from qdrant_stub import Stub

from harrier_core import Hnsw, Index, Record, SettingError

URL = "http://localhost:6333"


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    with closing(QdrantClient(":memory:")) as client:
        yield client


def test_names_of_a_server() -> None:
    """Argument names of qdrant-client and LangChain are accepted."""
    same: list[QdrantStore] = [
        QdrantStore(URL),
        QdrantStore(url=URL),
        QdrantStore(location=URL),
        QdrantStore(host="localhost"),
        QdrantStore(host="localhost", port=6333),
    ]
    assert {repr(store) for store in same} == {"QdrantStore('documents' at http://localhost:6333)"}
    assert repr(QdrantStore(host="localhost", port=None)) == repr(QdrantStore(URL))  # type: ignore[arg-type]
    for host in (None, ""):  # such as a variable of the environment that is not set
        with pytest.raises(SettingError, match="host= of QdrantStore must be"):
            QdrantStore(host=host)  # type: ignore[arg-type]
    addresses: dict[tuple[str, int], str] = {
        ("::1", 7333): "http://[::1]:7333",
        ("10.0.0.1", 80): "http://10.0.0.1:80",
        ("https://db.example.com", 443): "https://db.example.com:443",
    }
    for (host, port), shown in addresses.items():
        assert str(QdrantStore(host=host, port=port)) == f"'documents' at {shown}"
    assert pickle.loads(pickle.dumps(QdrantStore(host="h", collection_name="c"))).__getstate__()["collection"] == "c"


def test_names_of_a_client(client: QdrantClient) -> None:
    """A client may be passed by name, and so may arguments of a client in memory."""
    for store in (QdrantStore(client=client), QdrantStore(location=":memory:")):
        with Index(store, Hashing()) as index:
            assert index.ingest([Record("a", "a text")]).written == 1


@pytest.mark.parametrize("name", ["collection", "collection_name"])
def test_names_of_a_collection(name: str) -> None:
    """Names for the collection are accepted on a server and in a folder."""
    named: Any = {name: "docs"}
    assert str(QdrantStore(URL, **named)) == f"'docs' at {URL}"
    assert str(QdrantStore.embedded("/a", **named)) == "qdrant:/a?collection=docs"


def test_a_setting_given_twice(client: QdrantClient) -> None:
    """Two names for one setting are refused, because the intended value is unclear."""
    twice: list[tuple[dict[str, Any], str]] = [
        ({"url": URL, "client": client}, "url= and client= of QdrantStore are one setting; give one of them"),
        ({"location": URL, "host": "localhost"}, "location= and host= of QdrantStore are one setting"),
        ({"url": URL, "collection": "a", "collection_name": "b"}, "collection= and collection_name= "),
        ({"url": URL, "port": 6333}, "port= of QdrantStore belongs to host=; a URL contains it"),
    ]
    for given, said in twice:
        with pytest.raises(SettingError, match=said):
            QdrantStore(**given)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("path", r"use QdrantStore.embedded\(folder\), or pass a QdrantClient\(path=...\)"),
        ("prefer_grpc", "pass grpc_port="),
        ("https", "put it in the URL"),
        ("aclient", "pass a QdrantClient; for asyncio, use asearch and aingest"),
        ("embedding", "a store has no model"),
        ("vector_name", "write vector="),
        ("distance", "compared by cosine"),
        *((name, "write keywords=True") for name in ("sparse_embedding", "sparse_vector_name", "retrieval_mode")),
        ("enable_hybrid", "write keywords=True"),
        ("hnsw_config", "write hnsw=Hnsw"),
        ("quantization_config", "write quantization='int8'"),
        ("shard_number", "write shards="),
        ("shard_key", "shard keys are not supported; use a separate collection for each part"),
        ("force_recreate", r"call store.drop\(\) first"),
    ],
)
def test_refused_names(client: QdrantClient, name: str, said: str) -> None:
    """The error has the kit's own name for the setting, also next to valid ones."""
    makes: list[Any] = [partial(QdrantStore, client), QdrantStore, partial(QdrantStore.embedded, "folder")]
    for make in makes:
        with pytest.raises(SettingError, match=f"QdrantStore takes no {name}=; .*{said}"):
            make(**{name: "x"})


def test_unknown_names(client: QdrantClient) -> None:
    """Unknown names raise the usual errors; a folder has no URL."""
    makes: list[Any] = [partial(QdrantStore, client), partial(QdrantStore.embedded, "folder")]
    for make in makes:
        with pytest.raises(TypeError, match="unexpected keyword argument 'replcas'"):
            make(replcas=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'location'"):
        QdrantStore.embedded("folder", location=":memory:")  # type: ignore[call-arg]
    with pytest.raises(SettingError, match="a Qdrant server must be given as a URL"):
        QdrantStore()


def test_repr(stub: Stub, tmp_path: Path) -> None:
    """The repr shows non-default settings, the model of an open collection, and no key."""
    shown = {
        QdrantStore(URL, api_key="s3cr3t"): f"QdrantStore('documents' at {URL})",
        QdrantStore(
            URL,
            collection="docs",
            precision="float16",
            hnsw=Hnsw(m=8),
            indexes={"year": "integer"},
            shards=2,
            keywords=True,
        ): f"QdrantStore('docs' at {URL}, precision='float16', hnsw=Hnsw(m=8, ef_construction=None), "
        "indexes={'year': 'integer'}, shards=2, keywords=True)",
        QdrantStore.embedded(tmp_path, vector="v"): f"QdrantStore(qdrant:{tmp_path}?collection=documents, vector='v')",
    }
    for store, said in shown.items():
        assert repr(store) == said
    with QdrantStore(stub.url, collection="docs", api_key="s3cr3t") as store:
        assert repr(store.open(Hashing.space, create=True)) == f"OpenCollection('docs' at {stub.url}, hashing)"
