"""A source split into shares, one file each, which are read by other processes or machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from harrier_core import Record, SettingError, Skipped
from harrier_files.files import File
from harrier_files.formats.kinds import GZIP, KINDS, suffix_of
from harrier_files.rows import ROWS
from harrier_files.sources import Source

_NAMED = ".jsonl, .ndjson, .csv, .tsv or .parquet, gzipped or not"


@dataclass(frozen=True, slots=True)
class Found:
    """The findings in a file that was read, in addition to its records, as in `Source`."""

    complete: bool = True
    unknown: tuple[str, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Share:
    """The rows of a file. It can be pickled."""

    file: File
    source: Source  # of this file alone

    def read(self, note: Callable[[Found], None]) -> Iterator[Record | Skipped]:
        """Yield the file's records. note: called at the end."""
        yield from self.source.read(self.file)
        walk = self.source.walk
        note(Found(self.source.complete, tuple(walk.unknown), walk.left_out))


@dataclass(frozen=True, slots=True)
class Unlisted:
    """Folders that could not be listed, as records that are rejected. It can be pickled."""

    skipped: tuple[Skipped, ...]

    def read(self, note: Callable[[Found], None]) -> Iterator[Record | Skipped]:
        """Yield a rejected record for each folder."""
        yield from self.skipped


def shares_of(source: Source) -> list[Share | Unlisted]:
    """Split a source of rows into shares. Raise SettingError if it has files that are not rows."""
    files = list(source.walk)
    others = [file for file in files if not _has_rows(file, source.format)]
    if others:
        more = f" and {len(others) - 1:,} more" if len(others) > 1 else ""
        raise SettingError(
            f"--ray reads rows, {_NAMED}, and not {others[0].path}{more}; choose files with --include, say what they "
            "are with --format, or omit --ray, and use --workers on one machine"
        )
    unlisted = Unlisted(tuple(Skipped(folder, reason) for folder, reason in source.walk.unreadable))
    return [*(Share(file, source.apart(file)) for file in files), unlisted]


def add_found(source: Source, found: Iterable[Found]) -> None:
    """Add the findings in its shares to a source, as if it had read them itself."""
    for each in found:
        source.complete = source.complete and each.complete
        source.walk.unknown.extend(each.unknown)
        source.walk.account.left_out.update(each.left_out)
    if source.walk.unknown and source.columns.id is not None:
        source.complete = False


def _has_rows(file: File, format_: str | None) -> bool:
    """Return whether a file has rows, by its name."""
    suffix = file.suffix
    if KINDS.get(suffix) == GZIP:
        suffix = suffix_of(file.inside[: -len(suffix)])
    return (format_ or KINDS.get(suffix)) in ROWS
