"""Declared tables of the tests, which are closed when a test ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from harrier_pgvector.sync import TableSync

_open: list[TableSync] = []


def opened(place: str, **options: Any) -> TableSync:
    """A declared table that the test need not close."""
    _open.append(TableSync(place, **options))
    return _open[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _open:
        _open.pop().close()
