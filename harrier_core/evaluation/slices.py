"""Slices of the questions: by a metadata field, by script and by length. Pure."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harrier_core.evaluation.intervals import Estimate
from harrier_core.evaluation.question import Question

LENGTH, SCRIPT = "length", "script"
_MOST = 12  # parts of one kind; all others form one more part
_OTHERS = "others"
_THIRDS = (1 / 3, 2 / 3)
_NAMES = {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana", "HALFWIDTH": "Kana"}


@dataclass(frozen=True, slots=True)
class Slice:
    """Questions that have something in common, and each system's results for them.

    differences: from the first system, whose own is None.
    """

    field: str
    value: str
    questions: int
    estimates: Sequence[Estimate]  # one per system
    differences: Sequence[Estimate | None]


def parts(
    questions: Sequence[Question], fields: Sequence[str], value_of: Callable[[Question, str], str | None]
) -> list[tuple[str, str, list[int]]]:
    """Return the field, the value and the questions' positions of each part, in a readable order.

    A field whose value all questions share has no parts.
    """
    found: list[tuple[str, str, list[int]]] = []
    for field in dict.fromkeys(fields):
        if field == LENGTH:
            order, names = _lengths(questions)
        else:
            names = [script_of(each.text) if field == SCRIPT else value_of(each, field) for each in questions]
            order = _commonest(names)
        found += [(field, value, positions) for value, positions in _parted(names, order).items()]
    return found


def _parted(names: Sequence[str | None], order: Sequence[str]) -> Mapping[str, list[int]]:
    places: dict[str, list[int]] = {name: [] for name in order}
    for at, name in enumerate(names):
        if name is not None:
            places.setdefault(name if name in places else _OTHERS, []).append(at)
    places = {name: own for name, own in places.items() if own}
    return places if len(places) > 1 else {}


def _commonest(names: Sequence[str | None]) -> list[str]:
    counts = Counter(name for name in names if name is not None)
    return [name for name, _ in counts.most_common(_MOST if len(counts) <= _MOST else _MOST - 1)]


def _lengths(questions: Sequence[Question]) -> tuple[list[str], list[str | None]]:
    """Return the names of three parts, each with about a third of the questions, and the part of each question."""
    lengths = np.array([len(each.text) for each in questions])
    low, high = (int(each) for each in np.quantile(lengths, _THIRDS))
    middle = f"{low + 1:,} to {high:,}" if high > low + 1 else f"{high:,}"
    order = [f"up to {low:,} characters", middle, f"more than {high:,}"]
    return order, [order[int(length > low) + int(length > high)] for length in lengths]


def script_of(text: str) -> str:
    """Return the script that most letters of a text belong to."""
    found = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in text if letter.isalpha())
    if not found:
        return "none"
    name = found.most_common(1)[0][0]
    return _NAMES.get(name, name.capitalize())
