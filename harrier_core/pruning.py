"""Remove stored records that an ingest did not find in its source, once all of the source was read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from harrier_core.errors import SettingError, WrongSpace
from harrier_core.filters import Condition, parse
from harrier_core.records import Chunk, Metadata
from harrier_core.store import IngestStore, Write

Gone = Callable[[str, Metadata], bool]
Unseen = Callable[[Iterable[str]], Sequence[str]]

T = TypeVar("T")

_AT_ONCE = 1_000  # records
_TURNS = 5  # attempts while the space keeps changing


@dataclass(frozen=True, slots=True)
class Pruning:
    """Which stored records to remove, of those that an ingest did not find in its source.

    where: only records that meet these conditions on metadata, as in `harrier_core.filters`. gone: only records for
    which this returns True, given the id and the metadata; it is called at the end.
    """

    where: Mapping[str, Any] | None = None
    gone: Gone | None = None

    def __post_init__(self) -> None:
        parse(self.where)  # so that an error is raised before anything is written


def prune(store: IngestStore, pruning: Pruning, seen: int, nameless: Sequence[str], unseen: Unseen) -> int:
    """Remove records that did not occur, and return how many chunks they had.

    seen: how many occurred. nameless: why others have no id. unseen: returns those of the given ids that did not occur.
    """
    if not seen and pruning == Pruning():
        raise SettingError(
            "prune=True, and there were no records: that would remove everything; if that is intended, use delete"
        )
    if nameless:
        raise SettingError(
            f"prune=True, but records had no id, {len(nameless)} in all, the first of them {nameless[0]}; nothing "
            f"was removed, because they may stand for any record: fix them, and try again"
        )
    gone = unseen(store.record_ids())
    remove = store.delete if pruning == Pruning() else partial(_remove_some, store, pruning)
    return sum(remove(gone[begin : begin + _AT_ONCE]) for begin in range(0, len(gone), _AT_ONCE))


def _remove_some(store: IngestStore, pruning: Pruning, record_ids: Sequence[str]) -> int:
    """Remove those of the records that the pruning applies to, unless someone changes them meanwhile.

    Then they may belong to another source, or be there again: `gone` may take long.
    """
    import numpy as np

    known = store.known(record_ids)
    found = read_records(store, record_ids, parse(pruning.where), lambda chunk: chunk.metadata)
    ids = [id_ for id_, metadata in found.items() if pruning.gone is None or pruning.gone(id_, metadata)]
    read = {id_: known[id_] for id_ in ids if id_ in known}
    if not read:
        return 0
    nothing = Write(dict.fromkeys(read, 0), [], np.empty((0, 0), np.float32), [], read)
    return store.write(nothing).deleted


def read_records(
    store: IngestStore, record_ids: Sequence[str] | None, where: Condition | None, value: Callable[[Chunk], T]
) -> dict[str, T]:
    """Return a value for each of these records, or of all, with a chunk that meets the condition.

    If the space of the store changes meanwhile, all are read once more: only vectors must not be mixed.
    """
    for _ in range(_TURNS - 1):
        with suppress(WrongSpace):
            return {each.chunk.record_id: value(each.chunk) for each in store.read(record_ids, where)}
    return {each.chunk.record_id: value(each.chunk) for each in store.read(record_ids, where)}
