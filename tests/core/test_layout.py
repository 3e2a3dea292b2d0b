"""Settings that the layouts of all stores have in common."""

from __future__ import annotations

import pytest

from harrier_core import Hnsw
from harrier_core.filters import Key
from harrier_core.layout import StoreLayout

FULL = StoreLayout("float32", Hnsw(32, 128), {"year": "integer", "a.b": "keyword"}, keywords=True)


def test_explicit_settings_take_precedence() -> None:
    assert StoreLayout().over(FULL) == FULL
    own = StoreLayout("float16", indexes={})
    assert own.over(FULL) == StoreLayout("float16", Hnsw(32, 128), {}, keywords=True)
    assert StoreLayout(keywords=False).over(FULL).keywords is False


def test_as_json() -> None:
    """A field whose name has a dot is read back as a Key."""
    for layout in (FULL, StoreLayout(), StoreLayout(hnsw=Hnsw(m=8), indexes={})):
        assert StoreLayout.from_json(layout.as_json()) == layout
    fields = StoreLayout.from_json(FULL.as_json()).indexes or {}
    assert [type(name) for name in fields] == [str, Key]
    assert StoreLayout.from_json({"precision": "float16", "of a later release": 1}) == StoreLayout("float16")


@pytest.mark.parametrize(
    ("made", "lost"),
    [
        (FULL, []),
        (StoreLayout("float32", Hnsw(32, 128), {"year": "float", "a.b": "keyword", "more": "bool"}, keywords=True), []),
        (StoreLayout("float16", FULL.hnsw, FULL.indexes, keywords=True), ["vectors in float16, not float32"]),
        (
            StoreLayout("float32", Hnsw(16, 128), {"year": "keyword"}, keywords=False),
            [
                "HNSW by m=16, ef_construction=128, not m=32, ef_construction=128",
                "no index of 'year', 'a.b'",
                "no words of chunks",
            ],
        ),
    ],
)
def test_lost_settings(made: StoreLayout, lost: list[str]) -> None:
    assert FULL.lost_in(made) == lost
    assert StoreLayout().lost_in(made) == []


def test_defaults_are_not_lost() -> None:
    """A number that was not set is filled in by the database."""
    assert StoreLayout(hnsw=Hnsw(m=8)).lost_in(StoreLayout(hnsw=Hnsw(8, 100))) == []
    [lost] = StoreLayout(hnsw=Hnsw(m=8)).lost_in(StoreLayout())
    assert lost == "HNSW by the database's choice, not m=8"
