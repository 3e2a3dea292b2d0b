"""Zipped XML files, read within limits: nothing is unpacked to disk, no entity expanded, nothing fetched."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import IO, Any, Protocol
from zipfile import ZipFile

from harrier_files.formats.document import Given
from harrier_files.limits import Unreadable, shown_size

_FED = 1 << 16
_XML = 10  # allowed bytes of XML for each byte of text
Attributes = Mapping[str, str]


class Events(Protocol):
    """Handles the events of a parser."""

    def start(self, tag: str, attributes: Attributes) -> None:
        """Begin an element."""

    def end(self, tag: str) -> None:
        """End an element."""

    def data(self, text: str) -> None:
        """Take some text."""

    def close(self) -> None:
        """End the document."""


class Zipped:
    """The members of a zip. Only a limited number of bytes is read, whatever sizes the zip declares."""

    def __init__(self, given: Given) -> None:
        self._zip = ZipFile(BytesIO(given.content))
        self._names = set(self._zip.namelist())
        self._left = self._most = _XML * given.most

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._zip.namelist())

    def read(self, name: str) -> bytes:
        """Return the content of a member."""
        with self._open(name) as member:
            return b"".join(self._parts(member))

    def _open(self, name: str) -> IO[bytes]:
        if name not in self._names:
            raise Unreadable(f"has no part {name[:200]!r}; save it again")
        return self._zip.open(name)

    def _parts(self, member: IO[bytes]) -> Iterator[bytes]:
        while part := member.read(_FED):
            self._left -= len(part)
            if self._left < 0:
                raise Unreadable(f"unpacks to more than {shown_size(self._most)}; split it, or raise --max-size")
            yield part

    def parse(self, name: str, target: Events) -> None:
        """Parse a member. No tree is built; libxml2's own limits on depth and length apply."""
        from lxml import etree

        parser = etree.XMLParser(
            target=target, resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True
        )
        with self._open(name) as member:
            for part in self._parts(member):
                parser.feed(part)
        parser.close()

    def elements(self, name: str, *tags: str) -> list[tuple[str, Attributes]]:
        """Return the elements with these local names in a member: their names and attributes."""
        found = _Elements(tags)
        if name in self:
            self.parse(name, found)
        return found.found

    def related(self, part: str) -> dict[str, tuple[str, str]]:
        """Return the parts to which a part of Office Open XML refers: by id, the kind and the name of each."""
        folder, name = posixpath.split(part)
        found = self.elements(posixpath.join(folder, "_rels", f"{name}.rels"), "Relationship")
        return {
            each.get("Id", ""): (each.get("Type", "").rpartition("/")[2], resolved(folder, each.get("Target", "")))
            for _, each in found
            if each.get("TargetMode") != "External"
        }


def resolved(folder: str, target: str) -> str:
    """Return the name of the member that a link leads to."""
    return posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")


def local(tag: str) -> str:
    """Return a name without its namespace."""
    return tag.rpartition("}")[2]


def local_attributes(attributes: Attributes) -> dict[str, str]:
    """Return attributes by their names without namespaces."""
    return {local(name): value for name, value in attributes.items()}


class _Elements:
    """Collects elements with certain names."""

    def __init__(self, tags: tuple[str, ...]) -> None:
        self.found: list[tuple[str, Attributes]] = []
        self._tags = tags

    def start(self, tag: str, attributes: Attributes) -> None:
        if local(tag) in self._tags:
            self.found.append((local(tag), {**local_attributes(attributes), **_prefixed_id(attributes)}))

    def end(self, tag: str) -> None:
        pass

    def data(self, text: str) -> None:
        pass

    def close(self) -> Any:
        pass


def _prefixed_id(attributes: Attributes) -> dict[str, str]:
    """Return the id with a namespace, that of a relationship, if there is a plain one as well."""
    found = [value for name, value in attributes.items() if name.startswith("{") and local(name) == "id"]
    return {"rid": found[0]} if found else {}
