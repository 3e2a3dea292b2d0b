"""Limits on the size of a file, a line or a text, and the messages for what is not read."""

from __future__ import annotations

import re
from typing import IO

from harrier_core import SettingError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmg]?)b?\s*", re.IGNORECASE)
DEFAULT_SIZE = 100 * 10**6
_READ = 1 << 20


class Unreadable(Exception):
    """A file, or one of its rows, that yields no record; the message says why."""


def parse_size(said: str) -> int:
    """Return the bytes in "100MB", "1.5 GB" or "4096"."""
    found = _SIZE.fullmatch(said)
    size = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if not size:
        raise SettingError(f"--max-size must be a size such as 100MB, 1.5GB or 4096, got {said!r}")
    return size


def shown_size(size: int) -> str:
    """Return a size in the largest unit that fits into it."""
    unit = next((unit for unit in "gmk" if size >= _UNITS[unit]), "")
    return f"{size / _UNITS[unit]:,.4g} {unit.upper()}B".replace("KB", "kB")


def too_large(what: str, most: int) -> str:
    """Return why something is rejected; `what` is "text", "a line" and the like."""
    return f"has {what} of more than {shown_size(most)}; split it, or raise --max-size"


def read_at_most(file: IO[bytes], most: int) -> bytes:
    """Read a whole file, unless it is too large."""
    parts: list[bytes] = []
    left = most
    while part := file.read(min(_READ, left + 1)):
        left -= len(part)
        if left < 0:
            raise Unreadable(f"is larger than {shown_size(most)}; split it, or raise --max-size")
        parts.append(part)
    return b"".join(parts)
