"""A web server of this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from websites import Site


@pytest.fixture
def site() -> Iterator[Site]:
    """One with nothing on it yet."""
    with Site() as site:
        yield site
