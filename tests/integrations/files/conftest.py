"""A web server on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from websites import Site


@pytest.fixture
def site() -> Iterator[Site]:
    """Yield an empty web server."""
    with Site() as site:
        yield site
