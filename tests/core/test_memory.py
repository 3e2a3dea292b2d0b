"""Memory of a closed encoder, as the operating system counts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harrier_core.testing import build_model

BEGIN = """
import sys, threading, time
from pathlib import Path
from harrier_core import Encoder
def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
texts = ["a text " * 50] * 20
model, weights = sys.argv[1], int(sys.argv[2])
"""
# `close` waits for nothing, and the thread that ran the last pass may have the model for a moment yet.
END = """
until = time.monotonic() + 60
while loaded - held() < 0.9 * weights and time.monotonic() < until:
    time.sleep(0.05)
print(loaded - held())
"""
PROGRAMS = {
    "a close": """
with Encoder(model, dtype="float32") as encoder:
    encoder.encode_documents(texts)
    loaded = held()
""",
    # The last moment at which a function on an engine thread still holds its objects.
    "a close while a pass is just ending": """
armed, known, ending, closed = (threading.Event() for _ in range(4))
def at_its_end(frame, event, value):
    if event == "return" and armed.is_set() and known.wait(60) and future.done():
        ending.set()
        closed.wait(60)
def trace(frame, event, value):
    on_engine = threading.current_thread().name.startswith("harrier-engine")
    if on_engine and frame.f_back.f_code.co_filename.endswith("concurrent/futures/thread.py"):
        frame.f_trace_lines = False
        return at_its_end
threading.settrace(trace)
encoder = Encoder(model, dtype="float32")
encoder.encode_documents(texts)
loaded = held()
armed.set()
future = encoder.submit_documents(texts)
known.set()
assert ending.wait(60)
encoder.close()
closed.set()
""",
}
# Matrices of some megabytes each, as in the released models; glibc returns the memory of larger ones on its own.
SHAPE = {"hidden_size": 640, "intermediate_size": 2_048}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory was not measured: /proc is Linux's")
@pytest.mark.parametrize("after", PROGRAMS)
def test_memory_is_returned(tmp_path: Path, after: str) -> None:
    """A closed model's memory is returned to the operating system."""
    folder = build_model(tmp_path, config=SHAPE)
    weights = (folder / "model.safetensors").stat().st_size * 2  # stored in bfloat16, computed in float32
    command = [sys.executable, "-c", BEGIN + PROGRAMS[after] + END, str(folder), str(weights)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=110)
    assert int(done.stdout) > 0.9 * weights
