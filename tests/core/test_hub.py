"""Models from the hub: the real client with a hub on loopback, in separate processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import Hub

from harrier_core import Encoder
from harrier_core.testing import build_model

NAME = "microsoft/harrier-oss-v1-270m"

USE = """
import json, sys
from harrier_core import Encoder, HarrierError
model, revision, *steps = json.loads(sys.argv[1])
encoder = Encoder(model, revision=revision)
for step in steps:
    try:
        print(json.dumps(eval(step, {"encoder": encoder})), flush=True)
    except HarrierError as error:
        print(json.dumps(f"{type(error).__name__}: {error}"), flush=True)
    if step != steps[-1]:
        sys.stdin.readline()
"""

COUNT = "encoder.count_tokens(['a text'])"
VECTOR = "encoder.encode_queries(['a text']).tolist()"
REVISION = "encoder.space.revision"


class Client:
    """Run steps with an Encoder in a process with this hub and cache folder."""

    def __init__(self, url: str, cache: Path) -> None:
        self.environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}

    def start(self, model: str, revision: str | None, *steps: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", USE, json.dumps([model, revision, *steps])]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env={**self.environment, **environment}
        )

    def run(self, model: str, revision: str | None, *steps: str, **environment: str) -> list[Any]:
        process = self.start(model, revision, *steps, **environment)
        output, errors = process.communicate("\n" * len(steps), timeout=100)
        assert process.returncode == 0, errors
        return [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    return Client(hub.url, tmp_path / "cache")


@pytest.fixture
def vector(built: Callable[..., Path]) -> list[list[float]]:
    """Return the vector of the model when it is read from its folder."""
    with Encoder(str(built("gemma3"))) as encoder:
        return encoder.encode_queries(["a text"]).tolist()  # type: ignore[no-any-return]


def test_text_files_first(hub: Hub, client: Client, built: Callable[..., Path], vector: list[list[float]]) -> None:
    """Counting and prompts download no weights; encoding downloads those of the same commit."""
    commit = hub.push(NAME, built("gemma3"))
    process = client.start("harrier-270m", None, COUNT, VECTOR, REVISION)
    assert process.stdin is not None
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())[0] > 2
    assert "tokenizer.json" in hub.requested
    assert "model.safetensors" not in hub.requested
    hub.push(NAME, built("qwen3"))
    process.stdin.write("\n\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline()) == vector
    assert json.loads(process.stdout.readline()) == commit
    process.communicate(timeout=100)  # closes its pipes
    assert hub.requested.count("model.safetensors") == 1


@pytest.mark.slow
def test_a_pinned_revision(hub: Hub, client: Client, built: Callable[..., Path], vector: list[list[float]]) -> None:
    """The requested commit is used, whatever the head is."""
    commit = hub.push(NAME, built("gemma3"))
    hub.push(NAME, built("qwen3"))
    assert client.run(NAME, commit, VECTOR, REVISION) == [vector, commit]


@pytest.mark.slow
def test_from_the_cache(hub: Hub, client: Client, built: Callable[..., Path], vector: list[list[float]]) -> None:
    """A cached model needs no hub, whether offline mode is set or the hub is unreachable."""
    hub.push(NAME, built("gemma3"))
    client.run(NAME, None, VECTOR)
    fetched = len(hub.requested)
    assert client.run(NAME, None, VECTOR) == [vector]
    assert client.run(NAME, None, VECTOR, HF_HUB_OFFLINE="1") == [vector]
    assert client.run(NAME, None, VECTOR, HF_ENDPOINT="http://127.0.0.1:9") == [vector]
    assert len(hub.requested) == fetched


@pytest.mark.slow
def test_weights_that_are_not_in_the_cache(hub: Hub, client: Client, built: Callable[..., Path]) -> None:
    """The error names the missing files."""
    hub.push(NAME, built("gemma3"))
    client.run(NAME, None, COUNT)
    [message] = client.run(NAME, None, VECTOR, HF_HUB_OFFLINE="1")
    # Which of the two depends on whether this release of the client keeps a list of the repository's files.
    assert "is not in the local cache" in message or "lacks model.safetensors; fetch the model again" in message


@pytest.mark.parametrize(
    "environment",
    [
        {"HF_HUB_OFFLINE": "1"},
        {"HF_ENDPOINT": "http://127.0.0.1:9"},
        {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""},
    ],
)
def test_no_hub_and_nothing_cached(client: Client, environment: dict[str, str]) -> None:
    """The error says how to obtain the model."""
    [message] = client.run("harrier-270m", None, COUNT, **environment)
    assert message == (
        f"ModelNotFound: the hub cannot be reached, and '{NAME}' is not in the local cache; on a machine that can "
        f"reach it, run 'hf download {NAME} --local-dir FOLDER', then pass the folder's path as the model"
    )


def test_no_such_model(client: Client) -> None:
    """A missing model and a private one are not distinguished by the hub."""
    [message] = client.run("microsoft/harrier-oss-v2", None, COUNT)
    assert message.startswith("ModelNotFound: the hub has no model 'microsoft/harrier-oss-v2' that you may read")


def test_a_hub_that_refuses(hub: Hub, client: Client, built: Callable[..., Path]) -> None:
    """The hub's answer is passed on."""
    hub.push(NAME, built("gemma3"))
    hub.failing = True
    [message] = client.run(NAME, None, COUNT)
    assert message.startswith(f"ModelNotFound: the hub refused to serve '{NAME}': ")
    assert "418" in message


def test_no_such_revision(hub: Hub, client: Client, built: Callable[..., Path]) -> None:
    """It is distinguished from a missing model."""
    hub.push(NAME, built("gemma3"))
    [message] = client.run(NAME, "v9", COUNT)
    assert message == f"ModelNotFound: the hub has '{NAME}', but not its revision 'v9'"


@pytest.mark.slow
def test_pickled_weights_on_the_hub(hub: Hub, client: Client, tmp_path: Path) -> None:
    """They are refused without being downloaded."""
    folder = build_model(tmp_path / "model", "gemma3")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    hub.push(NAME, folder)
    [message] = client.run(NAME, None, VECTOR)
    assert message.startswith("ModelUnsafe: ")
    assert "pytorch_model.bin" not in hub.requested
