"""Dropping a collection removes the kit's own objects, and nothing that others need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from harrier_qdrant import QdrantStore
from ingesting import Hashing
from qdrant_client import QdrantClient, models
from qdrant_stub import Fault, Stub

from harrier_core import EmbeddingSpace, Index, Record, StoreMissing, StoreUnavailable, StoreUnsuitable

RECORDS = [Record(f"r{number}", f"text number {number}") for number in range(5)]
OTHER = EmbeddingSpace("other", None, "v", "t", 8, "last token", "l2", "{text}")

# -- on a server


@pytest.mark.parametrize("way", ["REST", "gRPC"])
def test_a_lost_answer(stub: Stub, way: str) -> None:
    """If the answer is lost, the request is repeated, and a missing collection is a success."""
    with closing(stub.client(prefer_grpc=way == "gRPC")) as client:
        store = QdrantStore(client, collection="docs")
        Index(store, Hashing()).ingest(RECORDS)
        stub.plan = lambda name, number: (
            Fault(503, carried_out=True) if (name, number) == ("delete_collection", 1) else None
        )
        store.drop()
        assert stub.counts["delete_collection"] == 2
        assert not stub.local.collection_exists("docs")


def test_a_foreign_collection(stub: Stub) -> None:
    """A collection without a space, or of a newer kit, is refused."""
    vectors = models.VectorParams(size=8, distance=models.Distance.COSINE)
    with closing(stub.client()) as client:
        store = QdrantStore(client, collection="docs")
        for metadata in (None, {"harrier_space": OTHER.to_json(), "harrier_layout": 2}):
            stub.local.create_collection("docs", {"text-dense": vectors}, metadata=metadata)
            with pytest.raises(StoreUnsuitable, match="does not identify its embedding space|has layout 2"):
                store.drop()
            assert stub.local.collection_exists("docs")
            stub.local.delete_collection("docs")
        store.open(OTHER, create=True)  # of whatever model
        store.drop()
        assert not stub.local.collection_exists("docs")
        assert stub.counts["delete_collection"] == 1


def test_an_alias() -> None:
    """The target of an alias is not removed."""
    with closing(QdrantClient(":memory:")) as client:
        store = QdrantStore(client, collection="docs")
        Index(store, Hashing()).ingest(RECORDS)
        alias = models.CreateAlias(collection_name="docs", alias_name="current")
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
        with pytest.raises(StoreUnsuitable, match="'current' at :memory: was not removed: an alias has that name"):
            QdrantStore(client, collection="current").drop()
        assert Index(store, Hashing()).count() == 5
        store.drop()
        assert client.get_aliases().aliases == []


# -- in a folder


@pytest.mark.slow
def test_the_folder_stays(tmp_path: Path) -> None:
    """The folder, its lock and other collections are kept, and nothing is created."""
    store, other = (QdrantStore.embedded(tmp_path / "q", collection=name) for name in ("docs", "other"))
    store.drop()
    assert list(tmp_path.iterdir()) == []
    with Index(store, Hashing()) as index, Index(other, Hashing()) as others:
        index.ingest(RECORDS)
        others.ingest(RECORDS)
        store.drop()
        assert {each.name for each in (tmp_path / "q").iterdir()} == {".harrier", "other"}
        assert {each.name for each in (tmp_path / "q" / ".harrier" / "docs").iterdir()} == {"lock"}
        assert others.count() == 5
        store.open(OTHER, create=True)
        assert (store.space(), other.space()) == (OTHER, Hashing.space)


USE = """
import sys
from harrier_qdrant import QdrantStore
from ingesting import Hashing
opened = QdrantStore.embedded(sys.argv[1], collection="docs").open(Hashing.space)
print(opened.count(), flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_open_in_another_process(tmp_path: Path) -> None:
    """A collection that is open in another process is not removed."""
    with QdrantStore.embedded(tmp_path, collection="docs") as store:
        Index(store, Hashing()).ingest(RECORDS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", USE, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == "5\n"
        with (
            QdrantStore.embedded(tmp_path, collection="docs") as store,
            pytest.raises(StoreUnavailable, match="is open in another process"),
        ):
            store.drop()
        other.stdin.close()
    with QdrantStore.embedded(tmp_path, collection="docs") as store:
        assert Index(store, Hashing()).count() == 5
        store.drop()
        assert store.space() is None


def test_concurrent_drops(tmp_path: Path) -> None:
    """Concurrent drops raise no error; readers see all of the collection, or an error that it is gone."""
    stores = [QdrantStore.embedded(tmp_path, collection="docs") for _ in range(4)]
    index = Index(stores[0], Hashing())
    for _ in range(3):
        index.ingest(RECORDS)

        def read() -> int | None:
            try:
                return index.count()
            except (StoreMissing, StoreUnavailable):
                return None

        with ThreadPoolExecutor(8) as pool:
            drops = [pool.submit(store.drop) for store in stores]
            reads = [pool.submit(read) for _ in range(4)]
            assert [each.result() for each in drops] == [None] * 4
            assert {each.result() for each in reads} <= {5, None}
        with pytest.raises(StoreMissing):
            index.count()
    for store in stores:
        store.close()


def test_killed_while_it_is_removed(tmp_path: Path) -> None:
    """Remains are moved aside, and removed when the next collection is opened."""
    rest = tmp_path / ".harrier" / "docs" / "dropped"
    with Index(QdrantStore.embedded(tmp_path, collection="docs"), Hashing()) as index:
        index.ingest(RECORDS)
    (tmp_path / "docs").replace(rest)
    with Index(QdrantStore.embedded(tmp_path, collection="docs"), Hashing()) as index:
        with pytest.raises(StoreMissing):
            index.count()
        assert index.ingest(RECORDS).written == 5
        assert not rest.exists()


def test_its_process_is_killed(tmp_path: Path) -> None:
    """If the engine's process was killed before, it is started again and removes the collection."""
    with Index(QdrantStore.embedded(tmp_path, collection="docs"), Hashing()) as index:
        index.ingest(RECORDS)
        store = index.store
        assert isinstance(store, QdrantStore)
        process = store._backend._process._process  # type: ignore[attr-defined]
        os.kill(process.pid, signal.SIGKILL)
        store.drop()
        assert not (tmp_path / "docs").exists()


@pytest.mark.skipif(os.name != "posix", reason="this system has no symbolic links for everybody")
@pytest.mark.parametrize("damage", ["link", "foreign"])
def test_links_and_foreign_files_are_kept(tmp_path: Path, damage: str) -> None:
    """The target of a link and a folder with foreign files are not removed."""
    with QdrantStore.embedded(tmp_path, collection="docs") as store:
        Index(store, Hashing()).ingest(RECORDS)
    if damage == "link":
        (tmp_path / "docs").replace(tmp_path / "elsewhere")
        (tmp_path / "docs").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "docs" / "harrier_space.json").unlink()
    files = sorted(tmp_path.rglob("*"))
    said = {"link": "is a symbolic link; remove the link", "foreign": "was not created by Harrier Kit"}
    with (
        QdrantStore.embedded(tmp_path, collection="docs") as store,
        pytest.raises(StoreUnsuitable, match=said[damage]),
    ):
        store.drop()
    assert sorted(tmp_path.rglob("*")) == files


def test_removed_by_a_local_client(tmp_path: Path) -> None:
    """A client in local mode removes the collection's files completely."""
    with closing(QdrantClient(path=str(tmp_path))) as client:
        store = QdrantStore(client, collection="docs")
        index = Index(store, Hashing())
        index.ingest(RECORDS)
        store.drop()
        uses: list[Callable[[], object]] = [index.count, store.describe]
        for use in uses:
            with pytest.raises(StoreMissing):
                use()
        assert not (tmp_path / "collection" / "docs").exists()
