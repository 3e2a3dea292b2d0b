"""Another model for an index in use: what the new space holds, who finds what, and what is never lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore
from ingesting import CHUNKING, Hashing, after, before
from reembeds import Other

from harrier_core import (
    Contents,
    Index,
    Record,
    SettingError,
    StoreMissing,
    StoreUnsuitable,
    VectorStore,
    WrongSpace,
    ingest,
)
from harrier_core.migration import back, drop_old, reembed, switch
from harrier_core.testing import MemoryStore

NewStore = Callable[[], Any]

RECORDS = list(before())[:60]


@pytest.fixture(params=["postgres", "edge"])
def new_store(request: pytest.FixtureRequest, postgres: str, table: str, tmp_path: Path) -> Iterator[NewStore]:
    """The same place at every call, empty at the first."""
    made: list[VectorStore] = []

    def new() -> VectorStore:
        if request.param == "postgres":
            made.append(PgVectorStore(postgres, table=table, keywords=True))
        else:
            made.append(QdrantStore.embedded(tmp_path / "edge", collection="docs", keywords=True))
        return made[-1]

    yield new
    for store in made:
        store.close()


@pytest.fixture
def store(new_store: NewStore) -> Any:
    """A place with some records of the old model."""
    made = new_store()
    Index(made, Hashing(), chunking=CHUNKING).ingest(RECORDS)
    return made


def content(store: VectorStore) -> list[Any]:
    found = []
    for each in Contents(store).read():
        c = each.chunk
        found.append((c.record_id, c.number, c.text, dict(c.metadata), c.start, c.end, c.hash, each.vector.tobytes()))
    return sorted(found, key=lambda row: row[:2])


def clean(records: Any, encoder: Hashing, store: VectorStore) -> list[Any]:
    """What an ingest of these records into an empty place makes."""
    store.drop()
    Index(store, encoder, chunking=CHUNKING).ingest(records)
    made = content(store)
    store.drop()
    return made


def test_there_and_back(store: Any, new_store: NewStore) -> None:
    """The new space is what a clean ingest makes; back, and with what was written since, it is so of the old one."""
    old, new = Index(store, Hashing(), chunking=CHUNKING), Index(new_store(), Other(), chunking=CHUNKING)
    had = content(store)
    report = reembed(store, Other())
    assert report.sound
    assert (report.total, report.encoded, report.deleted) == (len(had), len(had), 0)
    assert content(store) == had
    assert old.search(RECORDS[0].text)[0].record_id == RECORDS[0].id
    again = reembed(store, Other())
    assert (again.encoded, again.passes, again.sound) == (0, 1, True)

    old.ingest(after(), prune=True)  # and some of it again, and gone
    assert switch(store, Other()).sound
    made = content(new_store())
    assert made == clean(after(), Other(), store.beside("_clean"))
    with pytest.raises(WrongSpace):
        old.search("anything")
    with pytest.raises(WrongSpace):
        old.ingest(RECORDS)
    assert new.search(made[0][2])[0].record_id == made[0][0]
    assert switch(store, Other()).encoded == 0  # it is done

    new.ingest(RECORDS, prune=True)
    assert back(store, Hashing()).sound
    assert content(new_store()) == had
    assert old.search(RECORDS[0].text)[0].record_id == RECORDS[0].id
    with pytest.raises(WrongSpace):
        new.search("anything")
    switch(store, Other())
    drop_old(store)
    with pytest.raises(StoreMissing, match="nothing to drop"):
        drop_old(store)
    with pytest.raises(StoreMissing, match="nothing to go back to"):
        back(store, Hashing())


def test_of_either_model(store: Any, new_store: NewStore) -> None:
    """An Index of both encoders goes on over the switch and back, in whatever it is doing."""
    index = Index(new_store(), encoders=[Hashing(), Other()], chunking=CHUNKING)
    text = RECORDS[0].text
    reembed(store, Other())
    for turn, encoder, dimensions in ((switch, Other(), 24), (back, Hashing(), 16), (switch, Other(), 24)):
        assert index.search(text, mode="hybrid")[0].record_id == RECORDS[0].id
        turn(store, encoder)
        assert index.search(text, expand="record")[0].record_id == RECORDS[0].id
        assert index.encoder.dimensions == dimensions
        assert {each.vector.size for each in index.read()} == {dimensions}
        assert index.verify().sound
        assert (index.count(), index.delete(["no such record"])) == (len(content(store)), 0)


@pytest.mark.parametrize("turn", [switch, back])
def test_an_ingest_over_the_switch(store: Any, new_store: NewStore, turn: Any) -> None:
    """What the old model encoded is encoded again where it is written; nothing is lost and nothing is mixed."""
    models: list[Hashing] = [Hashing(), Other()]
    reembed(store, Other())
    if turn is back:
        switch(store, Other())
        models.reverse()
    index = Index(new_store(), encoders=[Hashing(), Other()], chunking=CHUNKING)

    def records() -> Iterator[Record]:
        for number, record in enumerate(after()):
            if number == 100:
                turn(store, models[1])
            yield record

    ingest.WINDOW_RECORDS, window = 20, ingest.WINDOW_RECORDS
    try:
        index.ingest(records(), prune=True)
    finally:
        ingest.WINDOW_RECORDS = window
    assert content(store) == clean(after(), models[1], store.beside("_clean"))
