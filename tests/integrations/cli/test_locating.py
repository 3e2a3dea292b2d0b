"""The location of a match, from its metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harrier_cli.locating import heading_of, part_of, path_of

from harrier_core import Chunk, Match


def match(number: int = 0, record_id: str = "notes/a.md", **metadata: Any) -> Match:
    return Match(Chunk(record_id, number, "a text", metadata, 0, 6), 0.5)


@pytest.mark.parametrize(
    ("found", "part"),
    [
        (match(line=42), ":42"),
        (match(3, line=42, page=7), ":42"),
        (match(3, page=7), "page 7"),
        (match(slide=2), "slide 2"),
        (match(sheet="Prices"), "sheet Prices"),
        (match(3), "chunk 3"),
        (match(), ""),
        (match(line=True, page=None), ""),
        (match(record_id="notes/rows.csv:7", line=7), ""),  # its id has it
    ],
)
def test_the_part_of_a_record(found: Match, part: str) -> None:
    assert part_of(found) == part


@pytest.mark.parametrize(
    ("metadata", "heading"),
    [
        ({"title": "Guide", "heading": "Install › Linux"}, "Guide › Install › Linux"),
        ({"title": "Guide", "heading": "Guide › Linux"}, "Guide › Linux"),
        ({"title": "Guide", "heading": "Guide"}, "Guide"),
        ({"title": "A \n title"}, "A title"),
        ({"heading": "Linux", "title": 3}, "Linux"),
        ({}, ""),
    ],
)
def test_the_heading(metadata: dict[str, Any], heading: str) -> None:
    """It leads from the title to the innermost heading, each once."""
    assert heading_of(metadata) == heading


def test_the_path_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is relative to the current folder if the file exists there; otherwise the id is shown."""
    notes = tmp_path / "my notes"
    (notes / "sub").mkdir(parents=True)
    (notes / "sub" / "a.md").write_text("a", encoding="utf-8")
    (notes / "rows.csv").write_text("a", encoding="utf-8")
    own = {"harrier_source": "notes", "harrier_root": str(notes)}
    monkeypatch.chdir(tmp_path)
    assert path_of("notes/sub/a.md", own) == str(Path("my notes", "sub", "a.md"))
    assert path_of("notes/rows.csv:12", own) == f"{Path('my notes', 'rows.csv')}:12"
    assert path_of("notes/gone.md", own) == "notes/gone.md"
    assert path_of("SKU-7", own) == "SKU-7"
    assert path_of("notes/sub/a.md", {}) == "notes/sub/a.md"
    assert path_of("notes/\0", own) == "notes/\0"
    monkeypatch.chdir(notes / "sub")
    assert path_of("notes/sub/a.md", own) == "a.md"
    assert path_of("notes/rows.csv:12", own) == f"{Path('..', 'rows.csv')}:12"
