"""The common part of the stores' contracts: a model, and an index over the place of each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from harrier_core.encoder import Encoder
from harrier_core.index import Index
from harrier_core.store import VectorStore
from harrier_core.testing.models import build_model

NewStore = Callable[[], VectorStore]


class InAPlace:
    """The fixtures `encoder` and `index`; a subclass must define `new_store`."""

    @pytest.fixture(scope="class")
    def encoder(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
        """Yield an encoder that compares texts by their words."""
        with Encoder(build_model(tmp_path_factory.mktemp("words"), "gemma3", vectors="words")) as encoder:
            yield encoder

    @pytest.fixture
    def index(self, new_store: NewStore, encoder: Encoder) -> Iterator[Index]:
        """Yield an index over the test's place."""
        with Index(new_store(), encoder) as index:
            yield index
