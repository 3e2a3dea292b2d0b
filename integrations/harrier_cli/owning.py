"""Which records of an index belong to a source: what an ingest may overwrite, and what it may remove."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from harrier_cli.folders import Origin
from harrier_cli.sources import ROOT, SOURCE, Source
from harrier_core import Index, SettingError

_WINDOW = 1_000  # records that are looked at, or removed, at once


def refuse_other_roots(index: Index, origins: Iterable[Origin], *, moved: bool) -> None:
    """Refuse to write records of a source that was made from something else: they would replace one another.

    moved: the user says that it is the same, elsewhere now; then it must not be where it was any more.
    """
    for origin in origins:
        mine = {SOURCE: origin.name}
        if moved:
            _refuse_if_not_moved(index, origin)
            continue
        if origin.root is None:
            other = _any(index, {**mine, ROOT: {"$exists": True}})
            if other is not None:
                raise SettingError(
                    f"the index holds a source {origin.name!r} from {other[ROOT]}, whose records this one could "
                    "replace; give this one another name with --source NAME, or, if it is the same, add --moved"
                )
            continue
        if _any(index, {**mine, ROOT: origin.root}):
            continue
        other = _any(index, mine)
        if other is not None:
            root = other.get(ROOT)
            now = (
                f"the index holds a source {origin.name!r} from {root}"
                if root
                else (f"the index holds a source that was named by --source {origin.name}")
            )
            same = "if it was moved, add --moved" if root else f"if this is it, add --source {origin.name}"
            raise SettingError(
                f"{now}, and this one is {origin.root}, whose records could replace its records; give this one a name "
                f"of its own with --source NAME, or, {same}"
            )


def _refuse_if_not_moved(index: Index, origin: Origin) -> None:
    other = _any(index, {SOURCE: origin.name, ROOT: {"$exists": True}})
    if other is not None and other[ROOT] != origin.root and Path(str(other[ROOT])).exists():
        raise SettingError(
            f"source {origin.name!r} was not moved: {other[ROOT]} is still there; give this one another name with "
            "--source NAME"
        )


def _any(index: Index, where: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The metadata of a chunk that meets the conditions."""
    found = index.read(where=where)
    try:
        return next((stored.chunk.metadata for stored in found), None)
    finally:
        if isinstance(found, Generator):  # which holds a cursor open
            found.close()


def prune(index: Index, source: Source) -> int:
    """Remove the records that this source owns and does not have, of which all could be read or named."""
    if not source.ids:
        raise SettingError(
            "--prune, and there was no record at all: that would remove everything of this source; if it is meant, use "
            "delete"
        )
    unseen = (each for each in index.store.record_ids() if hash(each) not in source.ids and source.may_own(each))
    gone: list[str] = []
    while batch := list(islice(unseen, _WINDOW)):
        owned = index.read(batch, {SOURCE: {"$in": sorted({origin.name for origin in source.origins})}})
        gone += {
            stored.chunk.record_id for stored in owned if source.owns(stored.chunk.record_id, stored.chunk.metadata)
        }
    return sum(index.delete(gone[begin : begin + _WINDOW]) for begin in range(0, len(gone), _WINDOW))
