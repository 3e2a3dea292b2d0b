"""Servers, and the model that they serve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import Serving

from harrier_core import Encoder

Serve = Callable[..., Serving]


@pytest.fixture(scope="session")
def folder(built: Callable[..., Path]) -> Path:
    return built("qwen3", vectors="words")


@pytest.fixture(scope="session")
def encoder(folder: Path) -> Iterator[Encoder]:
    """The same model in this process."""
    with Encoder(folder) as encoder:
        yield encoder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Serving]:
    """A server that is ready, for all tests of a module."""
    serving = Serving(model=folder)
    serving.wait()
    yield serving
    serving.kill()


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Starts servers, which are ready and end with the test."""
    started: list[Serving] = []

    def start(*arguments: str, model: Path = folder, port: int = 0) -> Serving:
        serving = Serving(*arguments, model=model, port=port)
        serving.wait()
        started.append(serving)
        return serving

    yield start
    for each in started:
        each.kill()
