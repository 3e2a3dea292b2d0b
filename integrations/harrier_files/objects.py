"""Files from anything that fsspec opens: a prefix in a bucket, an archive, a server."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from harrier_core import SettingError
from harrier_core.extras import require
from harrier_files.choosing import Choice
from harrier_files.files import Account, File, Origin, stamp_of

# Listing fields that differ if a file's content does: without any of them, changes cannot be detected.
_CHANGING = (
    *("ETag", "etag", "e_tag", "VersionId", "version_id", "generation", "sha", "checksum", "md5", "md5Hash", "CRC"),
    *("content_md5", "LastModified", "last_modified", "mtime", "modified", "modify", "updated", "created", "date_time"),
)
_BUFFER = 1 << 16


@dataclass(slots=True)
class StoredFile(File):
    """A file in one of fsspec's file systems."""

    system: Any  # fsspec's
    info: Mapping[str, Any]  # its entry in the listing

    @property
    def size(self) -> int | None:
        """Its size in bytes, if the listing has it."""
        size = self.info.get("size")
        return size if isinstance(size, int) else None

    @property
    def stamp(self) -> bytes | None:
        """Facts from the listing: its size, and its ETag, version, checksum or time."""
        facts = {key: str(self.info[key]) for key in _CHANGING if self.info.get(key) is not None}
        return stamp_of(self.size, sorted(facts.items())) if facts else None

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open it. Each package has its own errors, which become OSError."""
        try:
            content = self.system.open(self.info["name"], "rb")
        except Exception as error:
            raise as_os_error(error) from None
        with content:
            yield io.BufferedReader(_Guarded(content), _BUFFER)


class _Guarded(io.RawIOBase):
    """A stream whose errors are OSError."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._stream.seekable())

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._stream.read(len(buffer))
        except Exception as error:
            raise as_os_error(error) from None
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return int(self._stream.seek(offset, whence))
        except Exception as error:
            raise as_os_error(error) from None

    def tell(self) -> int:
        return int(self._stream.tell())


def as_os_error(error: Exception) -> OSError:
    """Return an OSError with the reason, in one line and without the URL, which may contain a key."""
    if isinstance(error, OSError) and error.strerror:
        return error
    return OSError(0, type(error).__name__)


@dataclass(frozen=True, slots=True)
class _Prefix:
    """A URL that was named."""

    system: Any
    top: str  # path of the source, in the file system
    path: str  # path of the part that is meant: the same, or a file in it
    origin: Origin
    alone: bool  # whether it is a file

    def listed(self) -> dict[str, Any]:
        """Return its files, each with its entry in the listing."""
        found: dict[str, Any] = (
            {self.path: self.system.info(self.path)} if self.alone else self.system.find(self.path, detail=True)
        )
        return found


@dataclass(slots=True)
class Prefixes:
    """The files of URLs: a prefix is a source, like a folder."""

    urls: Sequence[str]
    source: str | None
    choice: Choice
    account: Account
    origins: list[Origin] = field(init=False)
    _prefixes: list[_Prefix] = field(init=False)

    def __post_init__(self) -> None:
        named = [self._prefix(url) for url in self.urls]
        self._prefixes = list(dict.fromkeys(_within(each, named) for each in named))
        self.origins = list(dict.fromkeys(each.origin for each in self._prefixes))

    def _prefix(self, url: str) -> _Prefix:
        system, path = opened(url)
        alone = bool(path) and system.isfile(path)
        top = path.rpartition("/")[0] if alone else path
        root = _rooted(url, path, top)
        name = self.source or top.strip("/").rpartition("/")[2] or _container(root)
        return _Prefix(system, top, path, Origin(name, root, named=self.source is not None), alone)

    @property
    def whole(self) -> set[str]:
        """The names of the sources whose prefixes were named as a whole."""
        return {each.origin.name for each in self._prefixes if not each.alone}

    @property
    def alone(self) -> list[File]:
        """The files that were named individually, from sources that were not named as a whole."""
        named = [each for each in self._prefixes if each.origin.name not in self.whole]
        return [self._file(each, each.path, {"name": each.path}) for each in named]

    def __iter__(self) -> Iterator[File]:
        seen: set[str] = set()  # files that are named and also below a named prefix
        for prefix in self._prefixes:
            for file in self._files(prefix):
                if file.name not in seen:
                    seen.add(file.name)
                    yield file

    def _files(self, prefix: _Prefix) -> Iterator[File]:
        try:
            prefix.system.invalidate_cache()
            found = prefix.listed()
            missing = "" if found or prefix.system.exists(prefix.path) else "no such file or prefix"
        except Exception as error:  # each package has its own
            found, missing = {}, str(as_os_error(error).strerror)
        if missing:
            reason = f"cannot be listed: {missing}"
            self.account.unreadable.append((prefix.origin.root or prefix.path, reason))
            self.account.unknown.append(prefix.origin.prefix)
            return
        for path in sorted(found):
            file = self._file(prefix, path, found[path])
            left_out = None if path == prefix.path else self._leaves_out(file.inside)
            if left_out is None:
                yield file
            else:
                self.account.left_out[left_out] += 1

    def _leaves_out(self, inside: str) -> str | None:
        """Return why a file is not read, or one of its parent folders not searched."""
        parts = inside.split("/")
        folders = ("/".join(parts[:end]) for end in range(1, len(parts)))
        why = (self.choice.leaves_out_folder(each) for each in folders)
        return next(filter(None, why), None) or self.choice.leaves_out(inside)

    def _file(self, prefix: _Prefix, path: str, info: Mapping[str, Any]) -> StoredFile:
        inside = path.removeprefix(prefix.top).lstrip("/")
        return StoredFile(prefix.origin, inside, f"{prefix.origin.root}/{inside}", prefix.system, info)


def _within(prefix: _Prefix, named: Sequence[_Prefix]) -> _Prefix:
    """Return a URL as part of the outermost of the prefixes that it is in, with its id there."""
    around = [
        each
        for each in named
        if not each.alone
        and each.system is prefix.system
        and f"{prefix.path}/".startswith(each.path and f"{each.path}/")
    ]
    largest = min(around, key=lambda each: len(each.path), default=prefix)
    return replace(prefix, top=largest.top, origin=largest.origin)


def opened(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    require("a URL of files", "fsspec")
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    scheme = url.partition("://")[0].lower()
    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        package = known_implementations.get(scheme, {}).get("class", "").partition(".")[0]
        install = f"; run pip install {package}" if package and package != "fsspec" else ""
        raise SettingError(f"{scheme}:// needs a package that is not installed ({error}){install}") from None
    except Exception as error:
        if scheme not in known_implementations:
            reason = f"fsspec does not support {scheme}://"
        else:
            reason = f"{scheme}:// cannot be opened: {as_os_error(error).strerror}"
        raise SettingError(f"{reason}; a PATH is a file, a folder, a URL, or - for standard input") from None
    return system, str(path).rstrip("/")


def _rooted(url: str, path: str, top: str) -> str:
    """Return a URL of the source, independent of the current folder, and without keys."""
    first, *around = url.split("::")
    first = first.partition("?")[0].rstrip("/")
    if path != top:
        first = first.rpartition("/")[0]
    scheme, mark, rest = first.partition("://")
    first = f"{scheme}{mark}{_without_user(rest)}"
    return "::".join([first, *map(_placed, around)])


def _placed(url: str) -> str:
    if "://" not in url:
        return str(Path(url).resolve())
    scheme, mark, rest = url.partition("?")[0].partition("://")
    return f"{scheme}{mark}{_without_user(rest)}"


def _without_user(rest: str) -> str:
    place, slash, path = rest.partition("/")
    return f"{place.rpartition('@')[2]}{slash}{path}"


def _container(root: str) -> str:
    """Return the name of the bucket or archive if all of it is meant."""
    last = root.rpartition("::")[2]
    name = urlsplit(last).path.strip("/").rpartition("/")[2] or urlsplit(last).hostname
    if not name:
        raise SettingError(f"{root} has no name for a source; give it one with --source NAME")
    return name
