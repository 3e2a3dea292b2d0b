"""The location of a match: the file and line to open, the page of a PDF, the title and heading above it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harrier_core import Match

_LINE = re.compile(r"(?P<path>.+):(?P<line>\d+)")
_PARTS = ("page", "slide", "sheet")  # metadata that identify a part of a document


def path_of(record_id: str, metadata: Mapping[str, Any]) -> str:
    """Return the path of a record's file as one would open it from the current folder, or else the record's id.

    The path is known for records of a folder: its name and location are in their metadata.
    """
    source, root = metadata.get("harrier_source"), metadata.get("harrier_root")
    if not isinstance(root, str) or not isinstance(source, str) or not record_id.startswith(f"{source}/"):
        return record_id
    inside, line = record_id.removeprefix(f"{source}/"), ""
    if (row := _LINE.fullmatch(inside)) and not _exists(Path(root, inside)):
        inside, line = row["path"], f":{row['line']}"  # a row of a file
    file = Path(root, inside)
    return f"{_shortest(file)}{line}" if _exists(file) else record_id


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError):  # a name that is too long, a NUL
        return False


def _shortest(file: Path) -> str:
    """Return the path from the current folder, unless that is longer than the absolute one."""
    try:
        relative = os.path.relpath(file)
    except (OSError, ValueError):  # another drive on Windows; a folder that was removed
        return str(file)
    return min(relative, str(file), key=len)


def part_of(match: Match) -> str:
    """Return which part of its record a chunk is: ":12" for a line, "page 12", or "chunk 3"; empty for all of it."""
    metadata = match.metadata
    if _is_number(line := metadata.get("line")) and not _LINE.fullmatch(match.record_id):
        return f":{line}"
    for name in _PARTS:
        value = metadata.get(name)
        if _is_number(value) or (isinstance(value, str) and value):
            return f"{name} {value}"
    return f"chunk {match.number}" if match.number else ""


def heading_of(metadata: Mapping[str, Any]) -> str:
    """Return the title and the headings above a chunk, from the outermost to the innermost."""
    said = [metadata.get("title"), metadata.get("heading")]
    parts = [" ".join(each.split()) for each in said if isinstance(each, str) and each.strip()]
    if len(parts) > 1 and (parts[1] == parts[0] or parts[1].startswith(f"{parts[0]} › ")):
        parts = parts[1:]  # the title is the first heading as well
    return " › ".join(parts)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
