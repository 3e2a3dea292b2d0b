"""Numbers with their nouns: "1 chunk", "1,200 chunks". Pure."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with a noun, which gets an s unless the number is 1."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"
