"""Text of documents, made safe to pass on: bounded, in one line, without invisible characters. Pure.

Texts themselves are passed on as they are, as JSON strings. A model reads whatever surrounds them as the server's own
words, so that must not contain sentences from a document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_MORE = "…"
_KEYS, _ELEMENTS, _DEPTH, _TEXT = 40, 20, 3, 500  # of metadata
# A word or two, a date or a version: too short for a sentence.
_WORD = re.compile(r"[^\W_]{1,20}([-_./+ ][^\W_]{1,20})?")
_NUMERIC = re.compile(r"v?[\d.:+TZ-]{1,32}")
_FIELD = re.compile(r"[^\W\d][\w-]{0,31}(\.[^\W\d][\w-]{0,31}){0,2}")


def line(text: str, most: int) -> str:
    """Return a text in one line, with at most the given number of characters, all of them visible."""
    seen = " ".join("".join(each if each.isprintable() else " " for each in text[: 4 * most]).split())
    return seen if len(seen) <= most else f"{seen[: most - 1].rstrip()}{_MORE}"


def cut(text: str, most: int) -> str:
    """Return the beginning of a text, with at most the given number of characters."""
    return text if len(text) <= most else text[:most]


def is_field(name: str) -> bool:
    """Return whether a field's name is one that people choose, not a sentence."""
    return name.isprintable() and _FIELD.fullmatch(name) is not None


def is_plain(value: str) -> bool:
    """Return whether a metadata value is short and simple enough to appear in a description."""
    return value.isprintable() and (_WORD.fullmatch(value) or _NUMERIC.fullmatch(value)) is not None


def bounded(metadata: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return metadata with bounded values, as many of them as there is room for."""
    told: dict[str, Any] = {}
    room = most
    for name, value in list(metadata.items())[:_KEYS]:
        short = _bounded(value, _DEPTH)
        room -= len(json.dumps([name, short], ensure_ascii=False))
        if room < 0:
            break
        told[cut(name, _TEXT)] = short
    return told


def _bounded(value: Any, depth: int) -> Any:  # any JSON value
    if isinstance(value, str):
        return value if len(value) <= _TEXT else f"{value[:_TEXT]}{_MORE}"
    if isinstance(value, Mapping):
        some = list(value.items())[:_ELEMENTS] if depth else []
        return {cut(name, _TEXT): _bounded(each, depth - 1) for name, each in some}
    if isinstance(value, list | tuple):
        return [_bounded(each, depth - 1) for each in value[:_ELEMENTS]] if depth else []
    return value
