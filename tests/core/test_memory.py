"""What a closed encoder leaves behind in memory, as the operating system counts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harrier_core.testing import build_model

PROGRAM = """
import sys
from pathlib import Path
from harrier_core import Encoder
def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
with Encoder(sys.argv[1], dtype="float32") as encoder:
    encoder.encode_documents(["a text " * 50] * 20)
    loaded = held()
print(loaded - held())
"""
# Matrices of some megabytes each, as in the released models: larger ones, glibc returns by itself.
SHAPE = {"hidden_size": 640, "intermediate_size": 2_048}


@pytest.mark.skipif(sys.platform != "linux", reason="memory was not measured: /proc is Linux's")
def test_memory_goes_back(tmp_path: Path) -> None:
    """A closed model's memory is the system's again, not only the allocator's."""
    folder = build_model(tmp_path, config=SHAPE)
    weights = (folder / "model.safetensors").stat().st_size * 2  # stored in bfloat16, computed in float32
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    assert int(done.stdout) > 0.8 * weights
