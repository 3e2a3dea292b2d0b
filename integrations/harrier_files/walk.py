"""All files of a Source, wherever its PATHs are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from harrier_core import SettingError
from harrier_files.choosing import Choice
from harrier_files.files import STANDARD_INPUT, Account, File, Origin, StandardInput
from harrier_files.folders import Folders

_PIPED = "stdin"  # the source of standard input
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # at least two letters, because Windows has drives


class Place(Protocol):
    """A kind of location with files."""

    @property
    def origins(self) -> list[Origin]:
        """The sources that its files belong to."""

    @property
    def whole(self) -> set[str]:
        """The names of the sources that were named as a whole."""

    @property
    def alone(self) -> list[File]:
        """The files of the other sources that were named individually."""

    def __iter__(self) -> Iterator[File]:
        """Yield the files. Each is to be opened before the next one is requested."""


@dataclass(slots=True)
class Walk:
    """The files of PATHs, and other findings there."""

    paths: Sequence[str]
    source: str | None = None  # the name of all of them
    choice: Choice = field(default_factory=Choice)
    follow: bool = False  # links to files and folders elsewhere
    piped: str = STANDARD_INPUT  # the id of the text from standard input
    most: int = 0  # bytes of a list of pages; 0 means no limit
    account: Account = field(default_factory=Account)
    origins: list[Origin] = field(init=False)
    whole: set[str] = field(init=False)  # names of the sources that were named as a whole
    alone: list[File] = field(init=False)  # files of the other sources that were named individually
    _places: list[Place] = field(init=False)

    def __post_init__(self) -> None:
        if self.source is not None and (not self.source.strip() or "/" in self.source or "\0" in self.source):
            raise SettingError(f"--source must be a name without slashes, got {self.source!r}")
        self._places = list(self._placed())
        self.origins = [origin for place in self._places for origin in place.origins]
        if self.source is not None and len(self.origins) > 1:
            raise SettingError("--source names one folder, and there are several PATHs; ingest them one at a time")
        _refuse_equal_names(self.origins)
        self.whole = {name for place in self._places for name in place.whole}
        self.alone = [file for place in self._places for file in place.alone]

    def _placed(self) -> Iterator[Place]:
        paths: dict[str, list[str]] = {}
        for path in dict.fromkeys(self.paths):
            paths.setdefault(_kind(path), []).append(_local(path))
        if local := paths.get("local"):
            yield Folders(local, self.source, self.choice, self.account, self.follow)
        if urls := paths.get("web"):
            from harrier_files.web import Pages

            yield Pages(urls, self.source, self.choice, self.account, self.most)
        if urls := paths.get("stored"):
            from harrier_files.objects import Prefixes

            yield Prefixes(urls, self.source, self.choice, self.account)
        if "piped" in paths:
            yield _Pipe(self.source, self.piped)

    @property
    def is_local(self) -> bool:
        """Whether it is cheap to look at all files twice."""
        return all(isinstance(place, Folders) for place in self._places)

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """Folders and lists that could not be read, with the reasons."""
        return self.account.unreadable

    @property
    def links(self) -> list[tuple[str, str]]:
        """Links that were skipped, with the reasons."""
        return self.account.links

    @property
    def left_out(self) -> Counter[str]:
        """How many files of each kind are not read: ".gz", "hidden", "ignored"; the most frequent first."""
        return Counter(dict(self.account.left_out.most_common()))

    @property
    def unknown(self) -> list[str]:
        """The prefixes of ids whose records may or may not be gone."""
        return self.account.unknown

    def __iter__(self) -> Iterator[File]:
        for place in self._places:
            yield from place


@dataclass(slots=True)
class _Pipe:
    """Standard input."""

    source: str | None
    piped: str

    @property
    def origins(self) -> list[Origin]:
        """The source of standard input."""
        return [Origin(self.source or _PIPED)]

    @property
    def whole(self) -> set[str]:
        """None: text piped under another name is not gone."""
        return set()

    @property
    def alone(self) -> list[File]:
        """The file of standard input."""
        return [StandardInput(self.origins[0], self.piped, STANDARD_INPUT)]

    def __iter__(self) -> Iterator[File]:
        yield from self.alone


def is_url(path: str) -> bool:
    """Return whether a PATH is a URL."""
    return _SCHEME.match(path) is not None


def is_stored(path: str) -> bool:
    """Return whether a PATH is a URL of files that fsspec opens."""
    return _kind(path) == "stored"


def _kind(path: str) -> str:
    scheme = _SCHEME.match(path)
    if path == STANDARD_INPUT:
        return "piped"
    if scheme is None or scheme[1].lower() == "file":
        return "local"
    if scheme[1].lower() in ("postgres", "postgresql"):
        raise SettingError("a Postgres is not a PATH; read it with --from and --table or --query")
    return "web" if scheme[1].lower() in ("http", "https") else "stored"


def _local(path: str) -> str:
    return url2pathname(urlsplit(path).path) if path[:7].lower() == "file://" else path


def _refuse_equal_names(origins: Sequence[Origin]) -> None:
    first: dict[str, Origin] = {}
    for origin in origins:
        if origin.name in first:
            raise SettingError(
                f"{first[origin.name].root} and {origin.root or 'standard input'} would both be the source "
                f"{origin.name!r}; ingest one of them separately, with --source NAME"
            )
        first[origin.name] = origin
