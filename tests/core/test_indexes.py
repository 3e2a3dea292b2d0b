"""Settings of a store's indexes, and their bounds."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from harrier_core import Hnsw, SettingError
from harrier_core.filters import Key
from harrier_core.indexes import checked_hnsw, checked_indexes


def test_hnsw() -> None:
    """Given numbers must be positive; Hnsw is a value object."""
    assert Hnsw() == Hnsw(None, None) != Hnsw(m=16)
    assert pickle.loads(pickle.dumps(Hnsw(8, 32))) == Hnsw(m=8, ef_construction=32)
    wrongs: list[Any] = [0, -1, 1.0, True, "16"]
    for wrong in wrongs:
        with pytest.raises(SettingError, match="m of an HNSW index must be a positive integer, got"):
            Hnsw(m=wrong)
        with pytest.raises(SettingError, match="ef_construction of an HNSW index must be a positive integer, got"):
            Hnsw(ef_construction=wrong)


def test_bounds() -> None:
    """Both limits are included, and missing numbers have none."""
    for hnsw in (None, Hnsw(), Hnsw(m=2), Hnsw(m=100, ef_construction=10**6)):
        assert checked_hnsw(hnsw, m=(2, 100), ef_construction=(4, None)) == hnsw
    for hnsw, said in (
        (Hnsw(m=1), "m of this database's HNSW index must be from 2 to 100, got 1"),
        (Hnsw(m=101), "must be from 2 to 100, got 101"),
        (Hnsw(ef_construction=3), "must be at least 4, got 3"),
    ):
        with pytest.raises(SettingError, match=said):
            checked_hnsw(hnsw, m=(2, 100), ef_construction=(4, None))
    other: Any = {"m": 16}
    with pytest.raises(SettingError, match="hnsw must be Hnsw"):
        checked_hnsw(other)


def test_kinds() -> None:
    """Each field has one of four kinds; the given dict is copied."""
    given: Any = {"year": "integer", "lang": "keyword", "score": "float", "draft": "bool"}
    own = checked_indexes(given)
    assert own == given
    assert own is not given
    assert checked_indexes(None) == {}
    wrong: list[tuple[Any, str]] = [
        (["year"], "indexes must be a dict of fields and kinds, got list"),
        ({5: "integer"}, "the names in indexes must be strings"),
        ({"a\0b": "integer"}, "the names in indexes must be strings"),
        ({"author.year": "integer"}, r"at the top level of the metadata; .* write Key\('author.year'\)"),
    ]
    for given, said in wrong:
        with pytest.raises(SettingError, match=said):
            checked_indexes(given)
    assert checked_indexes({Key("author.year"): "integer"}) == {"author.year": "integer"}
    with pytest.raises(SettingError, match="the index of field 'year' must be one of keyword, .* got 'number'"):
        checked_indexes({"year": "number"})  # type: ignore[dict-item]
