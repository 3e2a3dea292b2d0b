"""The page docs/reembed.md: its program runs, and its commands and options exist."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harrier_cli.app import app
from loopback_hub import Hub
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reembed.md").read_text(encoding="utf-8")


def test_the_program_runs(
    hub: Hub, built: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand-in models replace the published ones, and both find the records."""
    hub.push("microsoft/harrier-oss-v1-270m", built("gemma3", vectors="words"))
    hub.push("microsoft/harrier-oss-v1-0.6b", built("qwen3", vectors="words"))
    for name, value in {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}.items():
        monkeypatch.setenv(name, value)
    [program] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    command = [sys.executable, "-X", "utf8", "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=110, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plan, filled, checked, found, back = done.stdout.splitlines()
    assert plan.startswith("2 chunks: 2 encoded (")
    assert filled.startswith("2 chunks: 2 encoded (")
    assert checked.startswith("3 chunks in use, 2 in the new space; 1 record still to catch up; 2 chunks checked")
    assert (found, back) == (
        "river microsoft/harrier-oss-v1-0.6b",
        "['bread', 'river'] microsoft/harrier-oss-v1-270m",
    )


@pytest.mark.parametrize("command", ["reembed", "ingest", "sync create", "sync run"])
def test_the_options_exist(command: str) -> None:
    told = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    lines = [line for line in PAGE.splitlines() if line.startswith(f"    harrier {command} ")]
    assert lines
    for option in {option for line in lines for option in re.findall(r"--[a-z][a-z-]+", line.partition("#")[0])}:
        assert option in told.output, option


def test_targets_and_links_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([\w-]+)`", PAGE):
        assert f"\n{target}:" in makefile
    for link in re.findall(r"\]\(([\w.]+)\)", PAGE):
        assert (ROOT / "docs" / link).is_file()
