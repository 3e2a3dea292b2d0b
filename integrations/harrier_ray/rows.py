"""Rows of a dataset as records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from harrier_core import Record, SettingError
from harrier_core.records import Ingestible

Row = Mapping[str, Any]
MakeRecord = Callable[[Row], Ingestible]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a row are its id, its text and its metadata."""

    id: str
    text: str
    metadata: Sequence[str]

    def __call__(self, row: Row) -> Record:
        """Return the row as a record. An id that is a number is written out."""
        id_ = row[self.id]
        written = str(id_) if type(id_) is int else id_
        return Record(written, row[self.text], {name: row[name] for name in self.metadata if row[name] is not None})

    def check(self, names: Iterable[str]) -> None:
        """Raise SettingError if a dataset that has columns of these names lacks one."""
        there = list(names)
        if missing := [name for name in (self.id, self.text, *self.metadata) if name not in there]:
            raise SettingError(f"the dataset has no column {missing[0]!r}; it has {', '.join(there)}")


def name_of(records: Sequence[Ingestible]) -> str:
    """Return a name for a block, the same at every try."""
    ids = blake2b(digest_size=16)
    for each in records:
        id_ = each["id"] if isinstance(each, Mapping) else each.id
        ids.update(f"{id_!r}\0".encode(errors="surrogatepass"))
    return ids.hexdigest()
