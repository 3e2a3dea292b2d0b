"""A Jupyter notebook: its cells, without their output."""

from __future__ import annotations

import json
from typing import Any

from harrier_files.formats.decoding import decoded
from harrier_files.formats.document import Document, Given, Marker
from harrier_files.formats.plain import mark_headings
from harrier_files.limits import Unreadable, too_large


def notebook_text(given: Given) -> Document:
    """Return the cells of a notebook, with a blank line between them, and the language of its code."""
    try:
        notebook = json.loads(decoded(given.content, given.encoding))
        cells = notebook["cells"]
        sources = [(cell["cell_type"], _joined(cell["source"])) for cell in cells]
        language = notebook.get("metadata", {}).get("kernelspec", {}).get("language")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unreadable("cannot be read as a notebook of Jupyter 4; save it again") from None
    parts: list[str] = []
    marker, size = Marker(), 0
    for number, (kind, source) in enumerate(sources, 1):
        if not source.strip():
            continue
        marker.mark(size, "cell", number)
        if kind == "markdown":
            mark_headings(source, marker, size)
        parts.append(source.rstrip("\n"))
        size += len(parts[-1]) + 2
        if size > given.most + 2:
            raise Unreadable(too_large("text", given.most))
    known = {"language": language[:100]} if isinstance(language, str) else {}
    return Document("\n\n".join(parts), known, marker.marks)


def _joined(source: Any) -> str:
    return source if isinstance(source, str) else "".join(source)
