"""Fixtures and options. Models are real but tiny; `--model FOLDER_OR_NAME` adds models to the parity tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import settings
from loopback_hub import Hub, serve

import harrier_core
from harrier_core import Encoder
from harrier_core.testing import ARCHITECTURES, build_model

pytest_plugins = ["databases", "loaded", "syncs", "telemetry"]
pytest.register_assert_rewrite("killing")  # so that a failure shows what differs

ROOT = Path(__file__).parents[1]

# The duration of an example mostly shows how busy the machine is.
settings.register_profile("harrier", deadline=None, max_examples=15)
settings.register_profile("thorough", deadline=None, max_examples=200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "harrier"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--model", action="append", default=[], help="run the parity tests on this model too: a folder or a hub name"
    )

    parser.addoption("--retriever", help="a trained model of sentence-transformers: a folder, for test_worked_case.py")
    parser.addoption("--slim", help="a Python with the kit and none of its extras; without it, imports are blocked")
    parser.addoption("--kills", type=int, default=4, help="how often the crash tests kill an ingest at random")
    parser.addoption("--sync-seconds", type=float, default=8.0, help="how long the live sync is tormented")


def pytest_configure() -> None:
    """Restore SIGINT if a background shell ignores it, because tests interrupt processes."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Use a separate cache of file states instead of the user's."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["HARRIER_CACHE"] = str(folder)
    return folder


def pytest_report_header(config: pytest.Config) -> list[str]:
    models = ", ".join(config.getoption("--model")) or "none; give --model to test with released weights"
    return [
        f"harrier_core: {Path(harrier_core.__file__).parent}",
        f"torch {torch.__version__}, transformers {transformers.__version__}, CUDA {torch.cuda.is_available()}",
        f"models beyond the tiny ones: {models}",
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "model" in metafunc.fixturenames:
        metafunc.parametrize("model", [*ARCHITECTURES, *metafunc.config.getoption("--model")], indirect=True)


# The oldest llama-index-core would download data that it bundles: sentence boundaries and stop words.
if spec := find_spec("llama_index.core"):
    os.environ.setdefault("NLTK_DATA", str(Path(str(spec.origin)).parent / "_static" / "nltk_cache"))


os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # before it is imported, here or in a process that a test starts


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that builds a tiny model once per session; do not change the model."""
    folders: dict[tuple[Any, ...], Path] = {}

    def build(architecture: Any = "qwen3", **options: Any) -> Path:
        key = (architecture, *sorted(options.items()))
        if key not in folders:
            folders[key] = build_model(tmp_path_factory.mktemp(architecture), architecture, **options)
        return folders[key]

    return build


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest, built: Callable[..., Path]) -> str:
    """Return each tiny architecture and each --model."""
    name: str = request.param
    return str(built(name)) if name in ARCHITECTURES else name


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Yield a model hub on loopback, without models."""
    with serve() as hub:
        yield hub


@pytest.fixture
def encoder(built: Callable[..., Path]) -> Iterator[Encoder]:
    """Yield an encoder of the tiny Qwen3."""
    with Encoder(str(built())) as encoder:
        yield encoder


@pytest.fixture
def folder(built: Callable[..., Path], tmp_path: Path) -> Path:
    """Return a separate copy of a tiny Qwen3, which the test may damage."""
    return shutil.copytree(built(), tmp_path / "model")


@pytest.fixture
def edit() -> Callable[..., None]:
    """Return a function that changes keys of a JSON file; None removes a key."""

    def change(path: Path, **changes: Any) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        content.update(changes)
        content = {key: value for key, value in content.items() if value is not None}
        path.write_text(json.dumps(content), encoding="utf-8")

    return change
