"""Files of many formats, by the command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_pieces_in_an_index(call: Run, tmp_path: Path) -> None:
    """What is known of a piece is stored with it, and a second run writes nothing."""
    text = "".join(f"# Part {part}\n\n" + "Bread rises slowly in the warm kitchen. " * 8 + "\n\n" for part in range(9))
    (tmp_path / "a.md").write_text(text, encoding="utf-8")
    place = f"qdrant:{tmp_path}/qdrant"
    call("ingest", "a.md", "--to", place, "--chunk-tokens", "64")
    found = json.loads(call("search", "Part 5", "--in", place, "--json", "-k", "50").stdout.splitlines()[0])
    line, heading = found["metadata"]["line"], found["metadata"]["heading"]
    assert text.splitlines()[line - 1].startswith(found["text"].splitlines()[0])
    assert heading.startswith("Part ")
    assert " 0 chunks written" in call("ingest", "a.md", "--to", place, "--chunk-tokens", "64").stdout
