"""Numbers with their nouns: "1 chunk", "1,200 chunks". Pure."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number and a noun that takes an s for more than one."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"
