"""Fixtures of the Qdrant tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qdrant_stub import Stub

from harrier_core import Encoder
from harrier_core.testing import build_model


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    yield stub
    stub.close()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """Yield a model that compares texts by their words."""
    with Encoder(build_model(tmp_path_factory.mktemp("words"), vectors="words")) as encoder:
        yield encoder
