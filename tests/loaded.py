"""How many models are in the memory of the tests' process."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest

from harrier_core.decoder import Decoder


@pytest.fixture(scope="module")
def few_objects() -> Iterator[None]:
    """Leave what earlier tests made out of `loaded_models`, which takes seconds to look through it."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def loaded_models() -> int:
    """Return how many models are in this process's memory."""
    gc.collect()
    return sum(isinstance(each, Decoder) for each in gc.get_objects())


def models_left(number: int) -> int:
    """Return how many models are in memory, once there are at most so many: closed ones are released by a thread."""
    deadline = time.monotonic() + 60
    while (left := loaded_models()) > number and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
