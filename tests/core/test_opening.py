"""Listing all stores of a database or folder by the URL of any of them."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harrier_core import Encoder, Index, Record, SettingError, StoreMissing, open_store, open_stores
from harrier_core.testing import MemoryStore


@pytest.mark.parametrize(
    ("url", "query"), [("qdrant:{}/q", "?collection={}"), ("pgvector:{}/pg", "?table={}")], ids=["edge", "postgres"]
)
def test_the_stores_of_a_folder(url: str, query: str, encoder: Encoder, tmp_path: Path) -> None:
    """Each can be opened, and other parts of the URL do not matter."""
    place = url.format(tmp_path)
    with pytest.raises(StoreMissing, match="ingest something"):
        open_stores(place)
    assert list(tmp_path.iterdir()) == []
    for name in ("beta", "alpha"):
        with Index(open_store(place + query.format(name)), encoder) as index:
            index.ingest([Record(name, "a text")])
    for asked in (place, place + query.format("beta"), place + query.format("nothing")):
        found = open_stores(asked)
        assert [str(each) for each in found] == [place + query.format(name) for name in ("alpha", "beta")]
        assert [each.describe().chunks for each in found] == [1, 1]
        for each in found:
            each.close()


def test_keywords_are_an_option_of_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every adapter gets the option in the same way."""
    asked: list[str] = []

    def opener(url: str) -> MemoryStore:
        asked.append(url)
        return MemoryStore()

    entry = EntryPoint("mem", "", "harrier.stores")
    monkeypatch.setattr(EntryPoint, "load", lambda _: opener)
    monkeypatch.setattr("harrier_core.opening.entry_points", lambda **_: [entry])
    for url in ("mem:", "mem:a?table=b"):
        open_store(url)
        open_store(url, keywords=True)
    assert asked == ["mem:", "mem:?keywords=true", "mem:a?table=b", "mem:a?table=b&keywords=true"]


def test_an_adapter_without_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters that cannot list stores raise an error."""
    monkeypatch.setattr("harrier_core.opening.open_store", lambda _: MemoryStore())
    with pytest.raises(SettingError, match="cannot list other indexes next to it"):
        open_stores("memory:")
