"""The columns of a row that make a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harrier_core import Record
from harrier_files.limits import Unreadable, too_large
from harrier_files.rows import plain


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a row that make the record."""

    id: str | None = None  # by default file:line is the id
    text: str = "text"
    metadata: Sequence[str] = ()

    @property
    def wanted(self) -> tuple[str, ...]:
        """All columns that are needed."""
        return (*([] if self.id is None else [self.id]), self.text, *self.metadata)

    def record(self, name: str, row: Any, most: int) -> Record:  # a mapping of anything
        """Return the record of a row, whose text must not exceed the given number of characters."""
        if missing := [each for each in self.wanted if each not in row]:
            raise Unreadable(f"has no column {missing[0]!r}; it has {', '.join(map(str, row)) or 'none'}")
        values = {each: _plain(each, row[each]) for each in self.wanted}
        key = name if self.id is None else values[self.id]
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise Unreadable(f"has an id that is {type(key).__name__}, neither text nor an integer")
        text = row[self.text]
        if isinstance(text, str) and len(text) > most:
            raise Unreadable(too_large("a text", most))
        return Record(str(key), text, {each: values[each] for each in self.metadata})


def _plain(column: str, value: object) -> Any:
    try:
        return plain(value)
    except Unreadable as error:
        raise Unreadable(f"has a value in column {column!r} {error}") from None
