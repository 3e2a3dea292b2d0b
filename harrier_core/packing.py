"""Which rows of tokens go through the model together. Pure: lengths in, row numbers out."""

from __future__ import annotations

from collections.abc import Sequence


def unique(rows: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """The first of each set of equal rows, and for every row its place among those."""
    place: dict[tuple[int, ...], int] = {}
    firsts: list[int] = []
    places: list[int] = []
    for number, row in enumerate(rows):
        found = place.setdefault(tuple(row), len(firsts))
        if found == len(firsts):
            firsts.append(number)
        places.append(found)
    return firsts, places


def pack(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Row numbers in batches: equal lengths only, so nothing is padded; longest first; each within the budget.

    Longest first makes the most memory-hungry pass the first one, so what does not fit fails at once.
    A row longer than the budget is a batch of its own.
    """
    batches: list[list[int]] = []
    room = 0
    previous = -1
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        length = lengths[row]
        if length != previous or room < length:
            batches.append([])
            room = token_budget
            previous = length
        batches[-1].append(row)
        room -= length
    return batches
