"""The metadata fields of chunks, with their kinds and values. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harrier_core.conditions import Scalar, kind

# Metadata about the machine that ingested, such as the folder that a file was in, are for programs on that machine.
PRIVATE = frozenset({"harrier_root"})

_LEVELS = 3  # of nested dicts
_MOST_FIELDS = 100


@dataclass(frozen=True, slots=True)
class Field:
    """A field of metadata, as a condition names it: "author.name" is the field "name" of a dict at "author"."""

    name: str
    kinds: tuple[str, ...]  # of its values, or of the elements of its lists: text, number, bool; most frequent first
    share: float  # the share of chunks that have it
    values: tuple[tuple[Scalar, int], ...]  # with the number of chunks that have each, most frequent first

    @property
    def range(self) -> tuple[float, float] | None:
        """The lowest and the highest of its numbers, if it has any."""
        numbers = [value for value, _ in self.values if kind(value) == "number"]
        found = [value for value in numbers if isinstance(value, int | float)]
        return (min(found), max(found)) if found else None


def fields_of(chunks: Iterable[Mapping[str, Any]]) -> list[Field]:
    """Return the fields of the given chunks' metadata, the most common first."""
    number = 0
    found: dict[str, Counter[tuple[str, Scalar]]] = {}
    having: Counter[str] = Counter()
    for metadata in chunks:
        number += 1
        for name, values in _flat(metadata, "", _LEVELS):
            having[name] += 1
            own = found.setdefault(name, Counter())
            own.update({(kind(value), value) for value in values})
    names = sorted(found, key=lambda name: (-having[name], name))[:_MOST_FIELDS]
    return [_field(name, found[name], having[name] / number) for name in names]


def _field(name: str, values: Counter[tuple[str, Scalar]], share: float) -> Field:
    kinds: Counter[str] = Counter()
    for (of_kind, _), number in values.items():
        kinds[of_kind] += number
    ordered = sorted(values.items(), key=lambda each: (-each[1], each[0][0], str(each[0][1])))
    told = tuple((value, number) for (_, value), number in ordered)
    return Field(name, tuple(each for each, _ in kinds.most_common()), share, told)


def _flat(metadata: Mapping[str, Any], before: str, levels: int) -> Iterator[tuple[str, list[Scalar]]]:
    """Yield each name with its scalars; those of a list together."""
    for key, value in metadata.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            if levels > 1:
                yield from _flat(value, f"{name}.", levels - 1)
            continue
        values = value if isinstance(value, list | tuple) else [value]
        scalars: list[Scalar] = [each for each in values if isinstance(each, str | int | float)]
        if scalars:
            yield name, scalars
