"""Servers and their model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Serving, Within

from harrier_core import Encoder

Serve = Callable[..., Serving]
ServeWithin = Callable[..., Within]


@pytest.fixture(scope="session")
def folder(built: Callable[..., Path]) -> Path:
    return built("qwen3", vectors="words")


@pytest.fixture(scope="session")
def encoder(folder: Path) -> Iterator[Encoder]:
    """Return the same model in this process."""
    with Encoder(folder) as encoder:
        yield encoder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Serving]:
    """Return a ready server for all tests of a module."""
    serving = Serving(model=folder)
    serving.wait()
    yield serving
    serving.kill()


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Return a function that starts servers, which end with the test."""
    started: list[Serving] = []

    def start(*arguments: str, model: Path = folder, port: int = 0) -> Serving:
        serving = Serving(*arguments, model=model, port=port)
        serving.wait()
        started.append(serving)
        return serving

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def serve_within(encoder: Encoder) -> Iterator[ServeWithin]:
    """Return a function that starts servers in this process, which end with the test."""
    started: list[Within] = []

    def start(encoder: Encoder = encoder, **options: Any) -> Within:
        started.append(Within(encoder, **options))
        return started[-1]

    yield start
    for each in started:
        each.end()
