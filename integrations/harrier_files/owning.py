"""The records of an index that belong to a source, and that an ingest may therefore overwrite."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

from harrier_core import Index, SettingError, StoreMissing
from harrier_files.files import Origin
from harrier_files.sources import ROOT, SOURCE


def refuse_other_roots(index: Index, origins: Iterable[Origin], *, moved: bool) -> None:
    """Refuse to write to a source that was made from something else: the records would replace one another.

    A source that the index has from the same location is the same, even if the user names it. moved: the user says that
    it is the same, but has moved; then it must no longer be in the old location.
    """
    for origin in origins:
        if origin.root is not None and _any(index, {SOURCE: origin.name, ROOT: origin.root}):
            continue  # existing records were made from this, whatever its name
        if moved:
            _refuse_if_not_moved(index, origin)
        elif origin.named or origin.root is None:
            _refuse_taken_name(index, origin)
        else:
            _refuse_other_root(index, origin)


def _refuse_taken_name(index: Index, origin: Origin) -> None:
    """Refuse a name given by --source that records of a folder or a table already have."""
    other = _any(index, {SOURCE: origin.name, ROOT: {"$exists": True}})
    if other is not None:
        raise SettingError(
            f"the index holds a source {origin.name!r} from {other[ROOT]}, whose records this one could replace; give "
            "this one another name with --source NAME, or, if it is the same, add --moved"
        )


def _refuse_other_root(index: Index, origin: Origin) -> None:
    """Refuse a source with the same name that was made from something else."""
    other = _any(index, {SOURCE: origin.name})
    if other is None:
        return
    if before := other.get(ROOT):
        known, same = f"a source {origin.name!r} from {before}", "if it was moved, add --moved"
    else:
        known = f"a source that was named by --source {origin.name}"
        same = f"if this is it, add --source {origin.name}"
    raise SettingError(
        f"the index holds {known}, and this one is {origin.root}, whose records could replace its records; give this "
        f"one another name with --source NAME, or, {same}"
    )


def _refuse_if_not_moved(index: Index, origin: Origin) -> None:
    other = _any(index, {SOURCE: origin.name, ROOT: {"$exists": True}})
    if other is not None and Path(str(other[ROOT])).exists():
        raise SettingError(
            f"source {origin.name!r} was not moved: {other[ROOT]} still exists; give this one another name with "
            "--source NAME"
        )


def _any(index: Index, where: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the metadata of a chunk that meets the conditions, if there is one."""
    try:
        found = index.read(where=where)
    except StoreMissing:
        return None
    try:
        return next((stored.chunk.metadata for stored in found), None)
    finally:
        if isinstance(found, Generator):  # it holds a cursor open
            found.close()
