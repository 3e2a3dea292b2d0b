"""The citation of a record: its title and its address."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from harrier_core.fields import PRIVATE
from harrier_mcp.cleaning import line

SCHEME = "harrier"
_TITLE, _URL = 200, 2_000
_TITLES, _URLS = ("title", "subject", "name", "heading"), ("url", "link", "source", "href")
SOURCE, ROOT = "harrier_source", "harrier_root"  # as written by the command line's ingest

Metadata = Mapping[str, Any]


def title_of(record_id: str, metadata: Metadata) -> str:
    """Return a record's title, or else its id."""
    for name in _TITLES:
        value = metadata.get(name)
        if isinstance(value, str) and (title := line(value, _TITLE)):
            return title
    return line(record_id, _TITLE)


def url_of(record_id: str, metadata: Metadata, index: str, *, local: bool) -> str:
    """Return the address to view a record: a page, a file if it is on the user's machine, or its resource."""
    for value in (record_id, *(metadata.get(name) for name in _URLS)):
        if isinstance(value, str) and _is_page(value):
            return value
    file = _file(record_id, metadata) if local else None
    return resource_of(record_id, index) if file is None else file.as_uri()


def resource_of(record_id: str, index: str) -> str:
    """Return the address of a record as a resource of the server."""
    return f"{SCHEME}://{index}/{quote(record_id, safe='')}"


def record_of(uri: str, index: str) -> str | None:
    """Return the id of the record that a resource's address names, if it belongs to this index."""
    begin = f"{SCHEME}://{index}/"
    return unquote(uri[len(begin) :]) or None if uri.startswith(begin) else None


def _is_page(value: str) -> bool:
    if len(value) > _URL or not value.isascii() or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None


def _file(record_id: str, metadata: Metadata) -> Path | None:
    """Return the file of a record from an ingested folder, if it exists."""
    root, source = metadata.get(ROOT), metadata.get(SOURCE)
    if not isinstance(root, str) or not isinstance(source, str) or not record_id.startswith(f"{source}/"):
        return None
    file = Path(root, record_id.removeprefix(f"{source}/"))
    try:
        return file if file.is_absolute() and ".." not in file.parts and file.is_file() else None
    except (OSError, ValueError):  # a name that is too long, a NUL
        return None


def shared(metadata: Metadata, *, local: bool) -> dict[str, Any]:
    """Return metadata, without the folder that a record came from unless the client is on the same machine."""
    return {name: value for name, value in metadata.items() if local or name not in PRIVATE}
