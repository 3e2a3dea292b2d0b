"""Type checking of a user's program against the installed kit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CONFIGURATION = """
[mypy]
strict = True
[mypy-torch.*,transformers.*]
follow_imports = skip
"""


@pytest.mark.slow
@pytest.mark.timeout(600)  # it reads the types of two frameworks; torch's, which would take as long, are not needed
def test_a_users_program(tmp_path: Path) -> None:
    """All types are known, and each misuse is found."""
    for name in ("usage.py", "misuse.py"):
        (tmp_path / name).write_bytes((HERE / name).read_bytes())
    (tmp_path / "mypy.ini").write_text(CONFIGURATION, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "usage.py", "misuse.py"]
    environment = {name: value for name, value in os.environ.items() if name != "MYPYPATH"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
