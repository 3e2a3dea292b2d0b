"""Parameter values that `make test` runs, and those that only `make test-slow` runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def quick(values: Iterable[str], *named: str) -> list[Any]:
    """Return all values; those that are not named are marked as slow."""
    found: Collection[str] = list(values)
    assert set(named) <= set(found)
    return [value if value in named else pytest.param(value, marks=pytest.mark.slow) for value in found]
