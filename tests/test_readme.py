"""The README's examples run as they stand, one after another, with models from a hub on loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from loopback_hub import Hub

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_example_runs(hub: Hub, built: Callable[..., Path], tmp_path: Path) -> None:
    """Stand-ins take the places of the published models; no example fails, and the first prints what it says."""
    hub.push("microsoft/harrier-oss-v1-270m", built("gemma3", vectors="words"))
    hub.push("microsoft/harrier-oss-v1-0.6b", built("qwen3", vectors="words"))
    script = tmp_path / "readme.py"
    script.write_text("\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL)), encoding="utf-8")
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-X", "utf8", str(script)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode == 0, done.stderr
    [shown] = re.findall(r"\n((?:    Instruct: .*\n    Query: .*\n))", README)
    assert re.sub(r"^    ", "", shown, flags=re.MULTILINE) in done.stdout


def test_it_names_every_command() -> None:
    """Each target of the Makefile that a newcomer or a developer types is in the README."""
    targets = re.findall(r"^(test[\w-]*|check):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert all(f"make {target}" in README for target in targets)
