"""Word documents and PowerPoint presentations: Office Open XML."""

from __future__ import annotations

from typing import Any

from harrier_files.formats.document import Document, Given, Writer
from harrier_files.formats.flow import Flow
from harrier_files.formats.zipped import Attributes, Zipped, local, local_attributes
from harrier_files.limits import Unreadable

_NOTES = ("footnotes", "endnotes")
_DEEP = 20  # depth of styles based on others


def word_text(given: Given) -> Document:
    """Return the text of a Word document, with its notes at the end, and the title."""
    zipped, writer = Zipped(given), Writer(given.most)
    document = _main(zipped)
    parts = zipped.related(document)
    found = _Styles()
    for name in _of_kind(parts, "styles"):
        zipped.parse(name, found)
    styles = found.levels()
    for part in (document, *(name for kind in _NOTES for name in _of_kind(parts, kind))):
        zipped.parse(part, Flow(writer, styles=styles))
    return writer.document(title=title_of(zipped))


def slides_text(given: Given) -> Document:
    """Return the text of the slides in order, each with its notes."""
    zipped, writer = Zipped(given), Writer(given.most)
    presentation = _main(zipped)
    parts = zipped.related(presentation)
    shown = [parts.get(slide.get("rid", "")) for _, slide in zipped.elements(presentation, "sldId")]
    names = [part[1] for part in shown if part]
    for number, name in enumerate(names, 1):
        writer.blank()
        writer.mark("slide", number)
        for part in (name, *_of_kind(zipped.related(name), "notesSlide")):
            zipped.parse(part, Flow(writer))
    return writer.document(title=title_of(zipped), slides=len(names))


def _main(zipped: Zipped) -> str:
    """Return the name of the main part, which refers to the others."""
    found = _of_kind(zipped.related(""), "officeDocument")
    if not found:
        raise Unreadable("names no main part; save it again")
    return found[0]


def _of_kind(parts: dict[str, tuple[str, str]], kind: str) -> list[str]:
    return [name for each, name in parts.values() if each == kind]


def title_of(zipped: Zipped, name: str = "docProps/core.xml") -> str:
    """Return the title in a document's properties."""
    found = Texts("title")
    if name in zipped:
        zipped.parse(name, found)
    return " ".join("".join(found.texts[:1]).split())[:1_000]


class Texts:
    """Collects the texts of the elements with a local name."""

    def __init__(self, tag: str) -> None:
        self.texts: list[str] = []
        self._tag = tag
        self._within = False

    def start(self, tag: str, attributes: Attributes) -> None:
        """Begin an element."""
        if local(tag) == self._tag:
            self._within = True
            self.texts.append("")

    def end(self, tag: str) -> None:
        """End an element."""
        self._within = self._within and local(tag) != self._tag

    def data(self, text: str) -> None:
        """Take some text."""
        if self._within:
            self.texts[-1] += text

    def close(self) -> Any:
        """End the document."""


class _Styles:
    """Collects which paragraph styles are headings: by outline level, name, or the style that they are based on."""

    def __init__(self) -> None:
        self._levels: dict[str, int] = {}
        self._based: dict[str, str] = {}
        self._style = ""

    def start(self, tag: str, attributes: Attributes) -> None:
        name, said = local(tag), local_attributes(attributes)
        value = said.get("val", "")
        if name == "style":
            self._style = said.get("styleId", "")
        elif name == "basedOn":
            self._based[self._style] = value
        elif name == "outlineLvl" and value.isdigit() and len(value) == 1:
            self._levels[self._style] = 0 if value == "9" else int(value) + 1
        elif name == "name" and value.lower() == "title":
            self._levels.setdefault(self._style, 1)
        elif name == "name" and value.lower().startswith("heading ") and value[8:].isdigit():
            self._levels.setdefault(self._style, int(value[8:10]))

    def end(self, tag: str) -> None:
        pass

    def data(self, text: str) -> None:
        pass

    def close(self) -> Any:
        pass

    def levels(self) -> dict[str, int]:
        """Return the level of each style that is a heading."""
        found = {}
        for style in {*self._levels, *self._based}:
            each, left = style, _DEEP
            while each not in self._levels and each in self._based and left:
                each, left = self._based[each], left - 1
            if level := self._levels.get(each):
                found[style] = level
        return found
