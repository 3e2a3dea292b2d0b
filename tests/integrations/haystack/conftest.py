"""Models, places and document stores for the Haystack tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore
from haystack_integrations.document_stores.harrier import HarrierDocumentStore
from slowly import quick

from harrier_core import Encoder, Index
from harrier_core.store import VectorStore
from harrier_core.testing import MemoryStore
from harrier_core.tokens import Tokens

# A store's name, and how to make one. Each test runs on all of them.
STORES: dict[str, Callable[[pytest.FixtureRequest], VectorStore]] = {
    "memory": lambda request: MemoryStore(),
    "pgvector": lambda request: PgVectorStore(
        request.getfixturevalue("postgres"), table=request.getfixturevalue("table")
    ),
    "qdrant": lambda request: QdrantStore.embedded(request.getfixturevalue("tmp_path") / "qdrant"),
}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the developer's environment variables."""
    for name in [name for name in os.environ if name.startswith("HARRIER_")]:
        monkeypatch.delenv(name)


@pytest.fixture(params=quick(STORES, "memory"))
def place(request: pytest.FixtureRequest) -> Iterator[VectorStore]:
    """Return an empty place in each kind of store."""
    store = STORES[request.param](request)
    yield store
    store.close()


@pytest.fixture(scope="session")
def words(built: Callable[..., Path]) -> str:
    """Return a model that compares texts by their words."""
    return str(built("qwen3", vectors="words"))


@pytest.fixture(scope="session")
def encoder(words: str) -> Iterator[Encoder]:
    """Return one encoder that all tests share, because there are many."""
    with Encoder(words) as encoder:
        yield encoder


@pytest.fixture
def document_store(place: VectorStore, encoder: Encoder) -> HarrierDocumentStore:
    return HarrierDocumentStore(Index(place, encoder))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record every string that the tokenizer encodes."""
    strings: list[str] = []
    tokenize = Tokens.tokenize

    def listening(tokens: Tokens, texts: Sequence[str], prompt: str, *limits: Any, **how: Any) -> Any:
        strings.extend(prompt + text for text in texts)
        return tokenize(tokens, texts, prompt, *limits, **how)

    monkeypatch.setattr(Tokens, "tokenize", listening)
    return strings
