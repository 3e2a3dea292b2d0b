"""Files of many formats in the command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_chunk_metadata_in_an_index(call: Run, tmp_path: Path) -> None:
    """Metadata of chunks is stored, and a second run writes nothing."""
    text = "".join(f"# Part {part}\n\n" + "Bread rises slowly in the warm kitchen. " * 8 + "\n\n" for part in range(9))
    (tmp_path / "a.md").write_text(text, encoding="utf-8")
    place = f"qdrant:{tmp_path}/qdrant"
    call("ingest", "a.md", "--to", place, "--chunk-tokens", "64")
    found = json.loads(call("search", "Part 5", "--in", place, "--json").stdout)[0]
    line, heading = found["metadata"]["line"], found["metadata"]["heading"]
    assert text.splitlines()[line - 1].startswith(found["text"].splitlines()[0])
    assert heading.startswith("Part ")
    assert " 0 chunks written" in call("ingest", "a.md", "--to", place, "--chunk-tokens", "64").stdout


def test_encodings_and_readers(call: Run, tmp_path: Path) -> None:
    """Options set them, and the help lists the formats."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.txt").write_bytes("läuft".encode("cp1252"))
    (docs / "b.rtf").write_bytes(b"bread")
    place = f"qdrant:{tmp_path}/qdrant"
    told = call("ingest", "docs", "--to", place, code=1)
    assert (
        "rejected: docs/a.txt: is not UTF-8 at byte 1; convert it, or name its encoding, such as --encoding cp1252"
        in (told.stderr)
    )
    told = call("ingest", "docs", "--to", place, "--encoding", "cp1252", "--reader", "rtf=cat {}")
    assert " 2 chunks written" in told.stdout
    assert "--encoding must be" in call("ingest", "docs", "--to", place, "--encoding", "zip", code=2).stderr
    assert "--reader must be" in call("ingest", "docs", "--to", place, "--reader", "cat", code=2).stderr
    assert "docx" in call("ingest", "--help").stdout
