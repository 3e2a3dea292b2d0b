"""The programs in examples/ run as their docstrings say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from serving import Serving

EXAMPLES = Path(__file__).parents[1] / "examples"
BREAD, RIVER = "Bread rises because yeast turns sugar into gas.", "Rivers carry sand to the sea."
QUESTION = "why does bread rise"


@pytest.fixture
def weights(built: Callable[..., Path]) -> str:
    return str(built("gemma3", vectors="words"))


def run(name: str, *arguments: object, **environment: str) -> str:
    command = [sys.executable, "-X", "utf8", str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=100, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    """A new example needs a test."""
    said = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{each.name}"' in said for each in EXAMPLES.glob("*.py"))


def test_postgres_pipeline_and_remote_model(weights: str, tmp_path: Path) -> None:
    """A second run encodes nothing, and the index is searched with a served model too."""
    lines = [{"id": 1, "text": BREAD, "year": 2021}, {"id": 2, "text": RIVER, "year": 2022}]
    file = tmp_path / "records.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    place = f"pgvector:{tmp_path}/index?table=notes"
    assert "2 chunks written (2 encoded)" in run("postgres_pipeline.py", file, place, HARRIER_MODEL=weights)
    again = run("postgres_pipeline.py", file, place, QUESTION, HARRIER_MODEL=weights)
    assert "0 chunks written" in again
    assert again.splitlines()[-2].endswith(f"1  {BREAD}")
    server = Serving(model=weights)
    try:
        server.wait()
        assert BREAD in run("remote_model.py", server.url, place, QUESTION).splitlines()[0]
    finally:
        server.kill()


def test_langchain_rag(weights: str, tmp_path: Path) -> None:
    """The prompt begins with the passage that answers."""
    (tmp_path / "bread.txt").write_text(BREAD, encoding="utf-8")
    (tmp_path / "river.txt").write_text(RIVER, encoding="utf-8")
    prompt = run("langchain_rag.py", tmp_path, QUESTION, HARRIER_MODEL=weights)
    assert prompt.index(BREAD) < prompt.index(RIVER)
    assert f"Question: {QUESTION}" in prompt
