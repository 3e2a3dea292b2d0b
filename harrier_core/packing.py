"""Which rows of tokens go through the model together. Pure: lengths in, row numbers out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Row:
    """The ids of one text, in two parts: a beginning that others share, computed once, and the rest."""

    rest: Sequence[int]  # never empty
    shared: tuple[int, ...] = ()

    @property
    def ids(self) -> list[int]:
        """All of them."""
        return [*self.shared, *self.rest]


def split(ids: Sequence[int], shared: tuple[int, ...]) -> Row:
    """The row of these ids, sharing that beginning if it has it.

    Ids decide, not text: a tokenizer may merge the last of an instruction with the first of a query.
    """
    if shared and len(ids) > len(shared) and tuple(ids[: len(shared)]) == shared:
        return Row(ids[len(shared) :], shared)
    return Row(ids)


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


def by_length(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Row numbers, those together that have the same number of own tokens behind the same beginning."""

    def key(number: int) -> tuple[int, tuple[int, ...]]:
        return len(rows[number].rest), rows[number].shared

    for _, same in groupby(sorted(range(len(rows)), key=key), key):
        yield list(same)
