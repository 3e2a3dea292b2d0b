"""Search options: which are refused before the model runs, and which reach a store."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ingesting import Hashing

from harrier_core import Index, Match, Record, Search, SettingError
from harrier_core.testing import MemoryStore

RECORDS = [Record(f"r{number}", f"text number {number}") for number in range(12)]


class Noting(MemoryStore):
    """A store that records its searches."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Search] = []

    def search(self, search: Search) -> list[list[Match]]:
        self.asked.append(search)
        return super().search(search)


def filled() -> tuple[Index, Noting, Hashing]:
    store, encoder = Noting(), Hashing()
    index = Index(store, encoder)
    index.ingest(RECORDS)
    return index, store, encoder


VECTOR = np.ones((1, 16), dtype=np.float32)
SEARCHES: dict[str, Callable[..., Any]] = {
    "search": lambda index, **options: index.search("a", **options),
    "search_many": lambda index, **options: index.search_many(["a"], **options)[0],
    "search_diverse": lambda index, **options: index.search_diverse("a", **options),
    "search_vectors": lambda index, **options: index.search_vectors(VECTOR, **options)[0],
    "asearch": lambda index, **options: asyncio.run(index.asearch("a", **options)),
    "asearch_many": lambda index, **options: asyncio.run(index.asearch_many(["a"], **options))[0],
    "asearch_diverse": lambda index, **options: asyncio.run(index.asearch_diverse("a", **options)),
    "asearch_vectors": lambda index, **options: asyncio.run(index.asearch_vectors(VECTOR, **options))[0],
}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"k": 0}, "k must be a positive integer"),
    ({"k": 2**31}, r"k must be an integer below 2\*\*31"),
    ({"offset": 2**31 - 1, "k": 1}, r"k must be an integer below 2\*\*31, offset included"),
    ({"offset": -1}, "offset must be an integer of at least 0, got -1"),
    ({"offset": 1.0}, "offset must be an integer of at least 0, got 1.0"),
    ({"offset": True}, "offset must be an integer of at least 0, got True"),
    ({"min_score": float("nan")}, "min_score must be a number, got nan"),
    ({"min_score": "0.5"}, "min_score must be a number, got str"),
    ({"min_score": False}, "min_score must be a number, got False"),
    ({"ef": 0}, "ef must be an integer of at least 1, got 0"),
    ({"ef": "64"}, "ef must be an integer of at least 1, got str"),
    ({"expand": -1}, "expand must be 'record' or an integer of at least 0, got -1"),
    ({"expand": "all"}, "expand must be 'record' or an integer of at least 0, got str"),
    ({"expand": True}, "expand must be 'record' or an integer of at least 0, got True"),
]
DIVERSE: list[tuple[dict[str, Any], str]] = [
    ({"among": 0}, "among must be an integer of at least 1, got 0"),
    ({"relevance": 1.5}, "relevance must be a number from 0 to 1"),
]


@pytest.mark.parametrize("name", SEARCHES)
def test_invalid_options_are_refused_before_the_model_runs(name: str) -> None:
    """Every search refuses them, and no text is in the error."""
    index, store, encoder = filled()
    runs: list[object] = []

    def submit(*given: Any, **_: Any) -> Any:
        runs.append(given)

    encoder.submit_queries = submit  # type: ignore[method-assign]
    for options, message in [*WRONG, *(DIVERSE if "diverse" in name else [])]:
        if "offset" in options and "diverse" in name:
            continue
        with pytest.raises(SettingError, match=message):
            SEARCHES[name](index, **options)
    assert (runs, store.asked) == ([], [])


@pytest.mark.parametrize("name", SEARCHES)
def test_options_reach_the_store(name: str) -> None:
    """The store gets the options, and a k that includes the offset."""
    index, store, _ = filled()
    SEARCHES[name](index)
    SEARCHES[name](index, k=3, exact=True, ef=77, **({} if "diverse" in name else {"offset": 4}))
    plain, asked = store.asked
    assert (plain.exact, plain.ef) == (False, None)
    assert (asked.exact, asked.ef, asked.k) == (True, 77, 20 if "diverse" in name else 7)
    assert asked.with_vectors is ("diverse" in name)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_minimum_score(name: str) -> None:
    """Matches below it are left out, and are not candidates for diversity."""
    index, _, _ = filled()
    scores = sorted((match.score for match in SEARCHES[name](index, k=12)), reverse=True)
    least = (scores[4] + scores[5]) / 2
    kept = SEARCHES[name](index, k=12, min_score=least)
    assert sorted((match.score for match in kept), reverse=True) == pytest.approx(scores[:5])
    assert SEARCHES[name](index, k=12, min_score=np.float32(2)) == []
    assert len(SEARCHES[name](index, k=12, min_score=Fraction(-1))) == 12


@given(st.integers(1, 15), st.integers(0, 15), st.floats(-1, 1))
def test_a_page_is_a_slice(k: int, offset: int, least: float) -> None:
    """A page is a slice of the list above the minimum score."""
    index, _, _ = FILLED
    whole = index.search("a", k=12)
    assume(min(abs(match.score - least) for match in whole) > 1e-6)  # of which two searches differ in the last place
    page = index.search("a", k=k, offset=offset, min_score=least)
    assert [match.id for match in page] == [match.id for match in whole[offset : offset + k] if match.score >= least]


FILLED = filled()


@pytest.mark.parametrize("name", ["search", "search_many", "search_diverse", "search_vectors"])
def test_async_signatures_are_the_same(name: str) -> None:
    """Editors show the same parameters for the async method."""
    sync, twin = (inspect.signature(getattr(Index, each)) for each in (name, f"a{name}"))
    assert sync == twin
    named = [each.annotation for each in sync.parameters.values() if each.kind is each.VAR_KEYWORD]
    assert all(str(each).startswith("Unpack[") for each in named)
