"""Fixtures of the command-line tests: a model that compares words, places, and processes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from harrier_cli import main
from qdrant_stub import Stub
from slowly import quick

Run = Callable[..., subprocess.CompletedProcess[str]]


def _server(request: pytest.FixtureRequest) -> str:
    stub = Stub()
    request.addfinalizer(stub.close)
    return f"{stub.url.replace('http:', 'qdrant:')}/docs"


# A place with nothing in it yet.
PLACES: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "postgres": lambda request: (
        f"{request.getfixturevalue('postgres')}&table={quote(request.getfixturevalue('table'))}"
    ),
    "edge": lambda request: f"qdrant:{request.getfixturevalue('tmp_path')}/qdrant?collection=docs",
    "qdrant": _server,
}


@pytest.fixture(params=quick(PLACES, "postgres"))
def place(request: pytest.FixtureRequest) -> str:
    """Return one place of each kind."""
    return PLACES[request.param](request)


@pytest.fixture(scope="session")
def environment(built: Callable[..., Path], cache: Path) -> dict[str, str]:
    """Return a user's environment with a tiny model and a wide terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HARRIER_", "QDRANT_"))}
    own = {"HARRIER_MODEL": str(built("qwen3", vectors="words")), "HARRIER_CACHE": str(cache)}
    return {**kept, **own, "COLUMNS": "120", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def command() -> list[str]:
    """Return the command as the console script runs it."""
    return [sys.executable, "-X", "utf8", "-m", "harrier_cli"]


@pytest.fixture
def run(command: list[str], environment: dict[str, str], tmp_path: Path) -> Run:
    """Return a function that runs the command in a separate process without a terminal."""

    def run(*arguments: str, code: int = 0, given: str | bytes = b"", **more: str) -> Any:
        done = subprocess.run(
            [*command, *arguments],
            check=False,
            capture_output=True,
            input=given.encode() if isinstance(given, str) else given,
            env={**environment, **more},
            timeout=60,
            cwd=tmp_path,
        )
        told = subprocess.CompletedProcess(arguments, done.returncode, done.stdout.decode(), done.stderr.decode())
        assert told.returncode == code, (told.stdout, told.stderr)
        assert "Traceback" not in told.stderr
        return told

    return run


@pytest.fixture
def call(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """Return a function that runs the command in this process, where its imports are loaded already."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("harrier_cli.progress._EVERY", 1e9)  # no progress lines, however busy the machine is
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0, given: str | bytes = "") -> Any:
        content = given.encode() if isinstance(given, str) else given
        monkeypatch.setattr(sys, "argv", ["harrier", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        told = capfd.readouterr()
        assert (end.value.code or 0) == code, told
        return subprocess.CompletedProcess(arguments, code, told.out, told.err)

    return call


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Return a typical folder: several formats, a subfolder, hidden files, and a broken one."""
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / ".git" / "hidden.txt").write_text("never read", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "bread.txt").write_text("Bread rises because yeast turns sugar into gas.", encoding="utf-8")
    (folder / "sub" / "river.md").write_text("# Rivers\n\nRivers carry sand to the sea.\n", encoding="utf-8")
    (folder / "virus.html").write_text(
        "<html><head><title>Vaccines &amp; you</title></head><body><script>no()</script><p>Vaccines <b>train</b>\n"
        "the immune system</p><div>against a virus.</div></body></html>",
        encoding="utf-8",
    )
    (folder / "broken.txt").write_bytes(b"caf\xe9")
    return folder
