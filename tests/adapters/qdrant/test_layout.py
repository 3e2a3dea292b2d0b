"""How a collection is made: told, and taken over from another store where nothing else is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from harrier_qdrant import QdrantStore
from harrier_qdrant.schema import kinds_in
from ingesting import Hashing
from qdrant_client import QdrantClient
from qdrant_stub import Stub

from harrier_core import Hnsw, SettingError, StoreMissing
from harrier_core.layout import StoreLayout

NewStore = Callable[..., QdrantStore]

MADE = StoreLayout("float16", Hnsw(8, 100), {"year": "integer", "a b": "keyword", "x": "float"}, keywords=True)


@pytest.fixture(params=["edge", "server"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> NewStore:
    if request.param == "edge":
        return lambda **settings: QdrantStore.embedded(tmp_path / "q", **settings)
    stub: Stub = request.getfixturevalue("stub")
    return lambda **settings: QdrantStore(stub.url, **settings)


def test_taken_over(new_store: NewStore) -> None:
    """And told by another store object, of what is there; a collection that is there stays as it is."""
    with new_store() as store, new_store() as other:
        assert store.layout() == StoreLayout("float32", None, {}, keywords=False)
        store.adopt(MADE)
        assert store.layout() == MADE
        store.open(Hashing.space, create=True)
        assert other.layout() == store.layout() == MADE
        other.adopt(StoreLayout("float32", None, {}, keywords=False))
        other.open(Hashing.space, create=True)
        assert other.layout() == MADE


def test_own_settings_count_more(new_store: NewStore) -> None:
    with new_store(precision="float32", indexes={"n": "integer"}, keywords=False) as store:
        store.adopt(MADE)
        store.open(Hashing.space, create=True)
        assert store.layout() == StoreLayout("float32", MADE.hnsw, {"n": "integer"}, keywords=False)


def test_what_qdrant_cannot_make() -> None:
    """It is left out; asked for by the store's own settings it is an error."""
    with QdrantStore("http://localhost:6333") as store:
        store.adopt(StoreLayout(hnsw=Hnsw(ef_construction=2), indexes={'a "b"': "keyword", "n": "integer"}))
        assert store._layout.hnsw is None
        assert store._layout.indexes == {"n": "integer"}
    with pytest.raises(SettingError, match="cannot be indexed"):
        QdrantStore("http://localhost:6333", indexes={'a "b"': "keyword"})


def test_a_servers_missing_indexes(stub: Stub) -> None:
    """They are created by the end of a load, in a collection that is there as well."""
    with QdrantStore(stub.url) as store, QdrantStore(stub.url) as other:
        store.open(Hashing.space, create=True)
        other.adopt(StoreLayout(indexes={"year": "integer"}))
        other.open(Hashing.space).build_indexes()
        assert store.layout().indexes == {"year": "integer"}


def test_local_mode() -> None:
    """It has no indexes, and tells none."""
    with QdrantStore(QdrantClient(":memory:")) as store:
        store.adopt(StoreLayout("float16", keywords=True))
        store.open(Hashing.space, create=True)
        assert store.layout() == StoreLayout("float16", None, {}, keywords=True)


def test_nothing_there(new_store: NewStore) -> None:
    with new_store() as store:
        with pytest.raises(StoreMissing):
            store._backend.layout()
        assert store.space() is None


def test_paths_of_fields() -> None:
    """Others than of metadata, and of what lies deeper, are somebody else's."""
    paths = {"record_id": "keyword", "metadata.year": "integer", 'metadata."a.b"': "keyword", "metadata.a.b": "bool"}
    assert kinds_in({**paths, "metadata.text": "text", "page_content": "text"}) == {"year": "integer", "a.b": "keyword"}
