"""Layouts of collections: described, and copied from another store unless set explicitly."""

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


def test_a_layout_is_copied(new_store: NewStore) -> None:
    """A layout is described by any store object; an existing collection is unchanged."""
    with new_store() as store, new_store() as other:
        assert store.layout() == StoreLayout("float32", None, {}, keywords=False)
        store.adopt(MADE)
        assert store.layout() == MADE
        store.open(Hashing.space, create=True)
        assert other.layout() == store.layout() == MADE
        other.adopt(StoreLayout("float32", None, {}, keywords=False))
        other.open(Hashing.space, create=True)
        assert other.layout() == MADE


def test_own_settings_take_precedence(new_store: NewStore) -> None:
    with new_store(precision="float32", indexes={"n": "integer"}, keywords=False) as store:
        store.adopt(MADE)
        store.open(Hashing.space, create=True)
        assert store.layout() == StoreLayout("float32", MADE.hnsw, {"n": "integer"}, keywords=False)


def test_unsupported_settings() -> None:
    """They are left out of a copied layout, and are an error in a store's own settings."""
    with QdrantStore("http://localhost:6333") as store:
        store.adopt(StoreLayout(hnsw=Hnsw(ef_construction=2), indexes={'a "b"': "keyword", "n": "integer"}))
        assert store._layout.hnsw is None
        assert store._layout.indexes == {"n": "integer"}
    with pytest.raises(SettingError, match="cannot be indexed"):
        QdrantStore("http://localhost:6333", indexes={'a "b"': "keyword"})


def test_a_servers_missing_indexes(stub: Stub) -> None:
    """They are created by the end of a load, also in an existing collection."""
    with QdrantStore(stub.url) as store, QdrantStore(stub.url) as other:
        store.open(Hashing.space, create=True)
        other.adopt(StoreLayout(indexes={"year": "integer"}))
        other.open(Hashing.space).build_indexes()
        assert store.layout().indexes == {"year": "integer"}


def test_local_mode() -> None:
    """Local mode has no indexes and reports none."""
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
    """Indexes outside the metadata are foreign, and not reported."""
    paths = {"record_id": "keyword", "metadata.year": "integer", 'metadata."a.b"': "keyword", "metadata.a.b": "bool"}
    assert kinds_in({**paths, "metadata.text": "text", "page_content": "text"}) == {"year": "integer", "a.b": "keyword"}
