"""Texts as rows of token ids: equal texts once, windows to tokenize, rows grouped by length. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

_WINDOW_TEXTS, _WINDOW_CHARACTERS = 1_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """The ids of one text, in two parts: a beginning that others share, computed once, and the rest."""

    rest: Sequence[int]  # never empty
    shared: tuple[int, ...] = ()

    @property
    def ids(self) -> list[int]:
        """All ids of the text."""
        return [*self.shared, *self.rest]


def split(ids: Sequence[int], shared: tuple[int, ...]) -> Row:
    """Return the row of these ids, sharing that beginning if it has it.

    Ids decide, not text: a tokenizer may merge the end of an instruction with the beginning of a query.
    """
    if shared and len(ids) > len(shared) and tuple(ids[: len(shared)]) == shared:
        return Row(ids[len(shared) :], shared)
    return Row(ids)


def unique(texts: Iterable[str]) -> tuple[list[str], list[int]]:
    """Return the texts without repetitions, and for each given text its place among those."""
    place: dict[str, int] = {}
    places = [place.setdefault(text, len(place)) for text in texts]
    return list(place), places


def windows(texts: Sequence[str]) -> Iterator[slice]:
    """Yield windows of texts to tokenize at once: enough for all cores, few enough that the encodings stay small."""
    begin = size = 0
    for number, text in enumerate(texts):
        if number > begin and (number - begin == _WINDOW_TEXTS or size + len(text) > _WINDOW_CHARACTERS):
            yield slice(begin, number)
            begin, size = number, 0
        size += len(text)
    yield slice(begin, len(texts))


def by_length(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Yield row numbers, grouping rows with the same number of own tokens after the same beginning."""

    def key(number: int) -> tuple[int, tuple[int, ...]]:
        return len(rows[number].rest), rows[number].shared

    for _, same in groupby(sorted(range(len(rows)), key=key), key):
        yield list(same)
