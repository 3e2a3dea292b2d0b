"""Parquet files as places: how users name them, and how they are written next to their path until complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harrier_core.errors import SettingError, StoreMissing, StoreUnavailable, WrongSpace
from harrier_core.layout import Precision
from harrier_core.migration.dumps import Dump
from harrier_core.space import EmbeddingSpace


def is_file(place: object) -> bool:
    """Return whether a place is a Parquet file, and not a store or its URL."""
    if not isinstance(place, str):
        return isinstance(place, Path)
    scheme, colon, _ = place.partition(":")
    has_scheme = bool(colon) and len(scheme) > 1 and scheme.replace("+", "").isalnum()  # C: is a drive of Windows
    return not has_scheme and place.partition("?")[0].endswith(".parquet")


def file_of(place: str | Path) -> tuple[Path, Precision | None]:
    """Return the path of a file and the requested precision, as in docs.parquet?precision=float32."""
    if isinstance(place, Path):
        return place.expanduser().resolve(), None
    path, _, query = place.partition("?")
    name, _, value = query.partition("=")
    if query and (name != "precision" or value not in ("float16", "float32")):
        raise SettingError("a Parquet file must be FILE.parquet, optionally with ?precision=float16 or float32")
    return Path(path).expanduser().resolve(), value or None  # type: ignore[return-value]  # one of the two


@contextmanager
def replacing(file: Path, space: EmbeddingSpace) -> Iterator[Path]:
    """Yield a path to write to, which replaces the file on success. Only one process at a time can do so.

    Raise WrongSpace or StoreUnsuitable if the file exists and is not a dump of this space.
    """
    check_place(file, space)
    part = file.with_name(f".{file.name}.part")
    with _held(part) as descriptor:
        try:
            yield part
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        os.fsync(descriptor)
        part.replace(file)
    with suppress(OSError):  # a file system that does not support it
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def check_place(file: Path, space: EmbeddingSpace) -> None:
    """Raise WrongSpace or StoreUnsuitable if there is a file that is no dump of this space."""
    try:
        there = Dump(file)
    except StoreMissing:
        return
    if there.space != space:
        raise WrongSpace(f"{file} holds vectors of another space: {there.space.explain(space)}; use another file name")


@contextmanager
def _held(part: Path) -> Iterator[int]:
    """Yield a descriptor of a new or leftover file, under a lock that ends with the process."""
    while True:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _lock(descriptor, part)
            if _is(descriptor, part):  # the previous owner of the lock may have renamed it
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int, part: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreUnavailable(f"another process is writing {part}; wait for it, or use another file name") from None
