"""A collection that is replaced or removed while it is open, before or during a call."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harrier_qdrant import Layout, OpenCollection, QdrantStore, edge_backend, server_backend
from ingesting import Hashing
from qdrant_client import QdrantClient
from qdrant_stub import Stub

from harrier_core import Index, Record, Search, StoreError, StoreMissing, WrongSpace
from harrier_core.filters import parse
from harrier_core.records import Chunk
from harrier_core.store import Write

BREAD = [Record(f"bread {number}", f"bread number {number}", {"topic": "food", "n": number}) for number in range(5)]
RIVER = [Record(f"river {number}", f"river number {number}", {"topic": "earth", "n": number}) for number in range(10)]
RECORDS = [*BREAD, *RIVER]


ServerOrFolder = tuple[Callable[[], QdrantStore], Callable[[], None]]


@pytest.fixture(params=["REST", "gRPC", "memory", "Edge"])
def place(request: pytest.FixtureRequest, stub: Stub, tmp_path: Path) -> Iterator[ServerOrFolder]:
    """Return stores of one collection, and a way to remove it without them."""
    if request.param == "Edge":
        stores: list[QdrantStore] = []

        def new_store() -> QdrantStore:
            stores.append(QdrantStore.embedded(tmp_path / "qdrant", collection="docs"))
            return stores[-1]

        yield new_store, lambda: shutil.rmtree(tmp_path / "qdrant" / "docs")
        for store in stores:
            store.close()
        return
    grpc = request.param == "gRPC"
    with closing(QdrantClient(":memory:") if request.param == "memory" else stub.client(prefer_grpc=grpc)) as client:

        def remove() -> None:
            (client if request.param == "memory" else stub.local).delete_collection("docs")

        yield lambda: QdrantStore(client, collection="docs", retry_for=2), remove


def write_of(record: Record, vector: np.ndarray[Any, Any]) -> Write:
    return Write({record.id: 1}, [Chunk.of(record, 0, 0, record.text)], vector, [], {record.id: {}})


def uses_of(opened: OpenCollection, vectors: Any) -> list[Callable[[], Any]]:
    return [
        lambda: opened.search(Search(vectors, 3)),
        lambda: opened.known(["bread 1"]),
        lambda: opened.write(write_of(BREAD[0], vectors)),
        lambda: opened.delete(["bread 1"]),
        lambda: list(opened.read()),
        lambda: list(opened.record_ids()),
        opened.build_indexes,
        opened.count,
    ]


@pytest.mark.parametrize("dimensions", [16, 24])
def test_replaced_by_another_space(place: ServerOrFolder, dimensions: int) -> None:
    """Every call raises the error, whatever the vector length, and nothing is written or removed."""
    new_store, remove = place
    encoder = Hashing()
    with Index(new_store(), encoder) as index:
        index.ingest(RECORDS)
    opened = new_store().open(encoder.space)
    assert opened.count() == 15
    remove()
    other = new_store().open(replace(encoder.space, weights="others", dimensions=dimensions), create=True)
    other.write(write_of(RIVER[0], np.ones((1, dimensions), np.float32)))
    for use in uses_of(opened, encoder.encode_queries(["bread"])):
        with pytest.raises(WrongSpace, match="the weights differ"):
            use()
    assert list(other.record_ids()) == ["river 0"]


def test_removed_and_recreated(place: ServerOrFolder) -> None:
    """Every call reports the removal; if recreated with the same space, the handle works again."""
    new_store, remove = place
    encoder = Hashing()
    store = new_store()
    opened = store.open(encoder.space, create=True)
    vectors = encoder.encode_queries(["bread"])
    opened.write(write_of(BREAD[0], vectors))
    remove()
    for use in uses_of(opened, vectors):
        with pytest.raises(StoreMissing, match="there is no collection .*; ingest something into it first"):
            use()
    assert store.space() is None
    new_store().open(encoder.space, create=True)
    assert opened.count() == 0
    opened.write(write_of(RIVER[0], vectors))
    [[match]] = opened.search(Search(vectors, 3))
    assert match.record_id == "river 0"
    assert store.space() == encoder.space


# -- during a call


def replaced() -> pytest.RaisesExc[StoreError]:
    """Expect the error; between the two collections, the server has none."""
    return pytest.raises((WrongSpace, StoreMissing), match="the weights differ|there is no collection")


class Midst:
    """An open handle, and a collection of another space that replaces its own."""

    def __init__(self, place: ServerOrFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        self._new_store, self._remove = place
        self._monkeypatch = monkeypatch
        self._encoder = Hashing()
        self.backend = self._new_store()._backend
        self.opened = OpenCollection(self.backend, Layout(), self._encoder.space)
        self.backend.create(self._encoder.space, Layout())
        self.other: OpenCollection

    def vectors(self, number: int) -> Any:
        return self._encoder.encode_documents([f"text {n}" for n in range(number)])

    def replace(self, *records: Record, dimensions: int = 16) -> None:
        """Replace the collection by one of another space with these records."""
        self._remove()
        space = replace(self._encoder.space, weights="others", dimensions=dimensions)
        self.other = self._new_store().open(space, create=True)
        for record in records:
            self.other.write(write_of(record, np.ones((1, dimensions), np.float32)))

    def before(self, name: str, number: int, change: Callable[[], None]) -> None:
        """Make a change before the given request to the backend."""
        real, calls = getattr(self.backend, name), [0]

        def changing(*arguments: Any, **named: Any) -> Any:
            calls[0] += 1
            if calls[0] == number:
                change()
            return real(*arguments, **named)

        self._monkeypatch.setattr(self.backend, name, changing)


@pytest.fixture
def midst(place: ServerOrFolder, monkeypatch: pytest.MonkeyPatch) -> Midst:
    return Midst(place, monkeypatch)


def shortened(midst: Midst) -> Write:
    """Return a record whose two chunks become one."""
    two = [Chunk("two", number, f"text {number}", {}, 0, 6, bytes([number])) for number in range(2)]
    midst.opened.write(Write({"two": 2}, two, midst.vectors(2), [], {"two": {}}))
    return Write({"two": 1}, [replace(two[0], hash=b"x")], midst.vectors(1), [], {"two": {0: b"\0", 1: b"\1"}})


def new(midst: Midst) -> Write:
    return write_of(Record("new", "new"), midst.vectors(1))


@pytest.mark.parametrize("write", [new, shortened])
@pytest.mark.parametrize("dimensions", [16, 24])
def test_replaced_while_it_writes(midst: Midst, write: Callable[[Midst], Write], dimensions: int) -> None:
    """The write raises the error, and leaves nothing in the new collection."""
    own = write(midst)
    midst.before("upsert", 1, lambda: midst.replace(*RIVER[:2], dimensions=dimensions))
    with replaced():
        midst.opened.write(own)
    assert sorted(midst.other.record_ids()) == ["river 0", "river 1"]


def test_records_of_the_new_collection_stay(midst: Midst) -> None:
    """Records with the same ids stay in a new collection with another vector length."""
    own = new(midst)
    midst.before("upsert", 1, lambda: midst.replace(Record("new", "of the others"), dimensions=24))
    with replaced():
        midst.opened.write(own)
    assert [each.chunk.text for each in midst.other.read()] == ["of the others"]


def test_replaced_before_it_compares(midst: Midst) -> None:
    """Writes went to the old collection; equal ids in the new one are kept."""
    if not midst.backend.may_race:
        return  # a folder's engine has nothing to compare
    own = new(midst)
    midst.before("count", 1, lambda: midst.replace(Record("new", "of the others")))
    with pytest.raises(WrongSpace, match="the weights differ"):
        midst.opened.write(own)
    assert [each.chunk.text for each in midst.other.read()] == ["of the others"]


@pytest.mark.parametrize("step", ["set_payloads", "delete"])
def test_replaced_after_it_uploaded(midst: Midst, step: str) -> None:
    """Nothing is updated or removed in the new collection."""
    own = shortened(midst)
    if step == "set_payloads":
        own = replace(own, sizes={"two": 2}, encoded=[], vectors=midst.vectors(0), described=own.encoded)
    others = [Chunk("two", number, f"theirs {number}", {"n": number}, 0, 8, b"o") for number in range(2)]
    upsert = midst.opened._upsert

    def replacing(write: Write, *, words: bool) -> Any:
        refused = upsert(write, words=words)
        midst.replace()
        midst.other.write(Write({"two": 2}, others, np.ones((2, 16), np.float32), [], {"two": {}}))
        return refused

    midst.opened._upsert = replacing  # type: ignore[method-assign]
    with replaced():
        midst.opened.write(own)
    assert sorted((each.chunk for each in midst.other.read()), key=lambda chunk: chunk.number) == others


def test_removed_while_it_writes(place: ServerOrFolder, midst: Midst) -> None:
    """The removal is reported, whatever the failed request says."""
    own = new(midst)
    midst.before("upsert", 1, place[1])
    with pytest.raises(StoreMissing, match="ingest something into it first"):
        midst.opened.write(own)


READS: dict[str, Callable[[OpenCollection], Iterator[Any]]] = {
    "read": lambda opened: opened.read(),
    "some": lambda opened: opened.read([record.id for record in RECORDS]),
    "ids": lambda opened: opened.record_ids(),
    "audit": lambda opened: opened.audit(lambda _: None),
}


@pytest.mark.parametrize("reads", READS)
def test_replaced_while_it_reads(midst: Midst, reads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No chunks of the new collection are returned."""
    for record in RECORDS:
        midst.opened.write(write_of(record, midst.vectors(1)))
    monkeypatch.setattr(server_backend, "_PAGE", 8)
    monkeypatch.setattr(edge_backend, "_PAGE", 4)
    reading = READS[reads](midst.opened)
    next(reading)
    midst.replace(*RECORDS)
    with pytest.raises(WrongSpace, match="the weights differ"):
        list(reading)


def test_replaced_while_it_compares_with_known(midst: Midst, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison of many hashes, in several pages, notices the replacement."""
    for record in RECORDS:
        midst.opened.write(write_of(record, midst.vectors(1)))
    monkeypatch.setattr("harrier_qdrant.opened._RECORDS", 4)
    midst.before("scroll", 2, lambda: midst.replace(*RECORDS))
    with replaced():
        midst.opened.known([record.id for record in RECORDS])


def test_replaced_while_it_searches(midst: Midst) -> None:
    """A search that needs several requests notices the replacement."""
    for record in RECORDS:
        midst.opened.write(write_of(record, midst.vectors(1)))
    midst.before("search", 2, lambda: midst.replace(*RECORDS))
    with replaced():
        midst.opened.search(Search(midst.vectors(1), 3, parse({"topic": {"$contains": "nowhere"}})))
