"""Settings of a store, in a pickle and in a URL."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harrier_qdrant import QdrantStore
from harrier_qdrant.urls import open_url
from ingesting import Hashing
from qdrant_client import QdrantClient
from qdrant_stub import Stub

from harrier_core import Hnsw, Index, Record, SettingError, StoreMissing, StoreWarning


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub(with_grpc=False)
    yield stub
    stub.close()


# -- pickling

USE = """
import multiprocessing, pickle, sys
from ingesting import Hashing

def use(pickled):
    opened = pickle.loads(pickled).open(Hashing().space)
    return opened.count()

if __name__ == "__main__":
    pickled = sys.stdin.buffer.read()
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        print(pool.apply(use, [pickled]))
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_in_another_process(stub: Stub, tmp_path: Path, method: str) -> None:
    """A pickled store connects with its key and layout, and the original keeps working."""
    url, key = os.environ.get("QDRANT_URL", stub.url), os.environ.get("QDRANT_API_KEY", "s3cr3t")
    collection = f"pickled-{os.getpid()}-{method}"
    program = tmp_path / "use.py"
    program.write_text(USE)
    with Index(QdrantStore(url, collection=collection, api_key=key, vector="dense"), Hashing()) as index:
        index.ingest([Record("bread", "a text")])
        stub.headers.clear()
        command = [sys.executable, "-W", "ignore", str(program), method]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        pickled = pickle.dumps(index.store)
        done = subprocess.run(command, input=pickled, env=environment, capture_output=True, timeout=100, check=False)
        assert done.stdout == b"1\n", done.stderr.decode()
        if url == stub.url:
            assert {each.get("api-key") for each in stub.headers} == {key}
        assert index.count() == 1
    if url != stub.url:
        with closing(QdrantClient(url=url, api_key=key)) as client:
            client.delete_collection(collection)


def test_all_settings_are_pickled() -> None:
    """Settings of the connection and of the layout survive pickling."""
    layout: dict[str, Any] = {"vector": "v", "precision": "float16", "quantization": "int8", "on_disk": True}
    more: dict[str, Any] = {"indexes": {"n": "integer"}, "shards": 2, "replicas": 3, "write_consistency": 1}
    more |= {"hnsw": Hnsw(m=8, ef_construction=32), "keywords": True}
    of_connection: dict[str, Any] = {"api_key": "s3cr3t", "grpc_port": 6335, "retry_for": 7.0, "timeout": 9.0}
    store = QdrantStore("https://host:6333", collection="docs", **of_connection, **layout, **more)
    again = pickle.loads(pickle.dumps(store))
    assert str(again) == str(store) == "'docs' at https://host:6333"
    state = {"url": "https://host:6333", "collection": "docs", **of_connection, **layout, **more}
    assert again.__getstate__() == store.__getstate__() == state


def test_stores_that_cannot_be_pickled(tmp_path: Path) -> None:
    """The error gives the reason, also for an Index over the store."""
    with closing(QdrantClient(":memory:")) as client:
        stores = {
            "the connections of its QdrantClient belong to this process": QdrantStore(client),
            "its data is in this process": QdrantStore(":memory:"),
            "Qdrant Edge lets one process at a time into its folder": QdrantStore.embedded(tmp_path),
        }
        for why, store in stores.items():
            for each in (store, Index(store, Hashing())):
                with pytest.raises(SettingError, match=f"cannot be pickled: {why}"):
                    pickle.dumps(each)


# -- URLs


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """URLs may have the port of either interface, and name a collection."""
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    shown = {
        "qdrant://host:6334/docs": "'docs' at http://host:6333",
        "qdrant://host:6333/docs": "'docs' at http://host:6333",
        "qdrant://host": "'documents' at http://host:6333",
        "qdrant://[::1]:7000/docs?tls=true": "'docs' at https://[::1]:7000",
        "qdrant://host/a%20b/": "'a b' at http://host:6333",
        f"qdrant:{tmp_path}/q?collection=a+b": f"qdrant:{tmp_path}/q?collection=a+b",
        f"qdrant:{tmp_path}/q": f"qdrant:{tmp_path}/q?collection=documents",
    }
    assert {url: str(open_url(url)) for url in shown} == shown
    ports = {"qdrant://host:6334": 6334, "qdrant://host:6333": 6334, "qdrant://host": 6334, "qdrant://host:7333": None}
    assert {url: open_url(url)._backend._connection.grpc_port for url in ports} == ports  # type: ignore[attr-defined]
    store = open_url(f"qdrant:{tmp_path}/q?collection=docs")
    for use in (lambda: store.open(Hashing().space), store.describe):
        with pytest.raises(StoreMissing, match="ingest something"):
            use()
    assert store.space() is None
    assert list(tmp_path.iterdir()) == []
    with Index(store, Hashing()) as index:
        index.ingest([Record("bread", "a text")])
    assert (tmp_path / "q" / "docs" / "harrier_space.json").is_file()


def test_the_key_of_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key comes from the environment, and is never shown."""
    monkeypatch.setenv("QDRANT_API_KEY", "s3cr3t")
    store = open_url("qdrant://host/docs?tls=true")
    assert store.__getstate__()["api_key"] == "s3cr3t"
    assert "s3cr3t" not in f"{store} {store!r}"
    with pytest.warns(StoreWarning, match="the API key goes to http://host:6333 unencrypted"):
        open_url("qdrant://host/docs")


@pytest.mark.parametrize(
    "url",
    [
        "qdrant://",
        "qdrant://s3cr3t@host/docs",
        "qdrant://:s3cr3t@host/docs",
        "qdrant://host:s3cr3t/docs",
        "qdrant://[s3cr3t/docs",
        "qdrant://host/docs?tls=s3cr3t",
        "qdrant://host/docs?api_key=s3cr3t",
        "qdrant://host/docs#s3cr3t",
        "qdrant:",
        "qdrant:?collection=docs",
        "qdrant:folder?collection=docs&tls=s3cr3t",
    ],
)
def test_invalid_urls(url: str) -> None:
    """The error shows the valid form, and quotes nothing."""
    with pytest.raises(SettingError, match="a Qdrant (URL|folder) must be qdrant:") as caught:
        open_url(url)
    assert "s3cr3t" not in str(caught.value)


def test_options_of_a_url() -> None:
    """Options of a URL are parsed to the right types."""
    for url in ("qdrant:folder?keywords=yes", "qdrant://host/docs?keywords="):
        with pytest.raises(SettingError, match="keywords in a URL must be true or false"):
            open_url(url)
