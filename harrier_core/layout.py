"""The layout of a store's place, as far as stores have that in common: what a copy of it preserves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

from harrier_core.errors import SettingError
from harrier_core.filters import Key
from harrier_core.indexes import Hnsw, IndexKind

Precision = Literal["float16", "float32"]

# Options of a URL besides the place itself.
OPTIONS = ("precision", "m", "ef_construction", "indexes", "keywords")

_NUMBERS: tuple[IndexKind, ...] = ("integer", "float")  # some databases have a single index type for both


@dataclass(frozen=True, slots=True)
class StoreLayout:
    """The way vectors are kept, and the fields that are indexed. None means not specified: the database decides."""

    precision: Precision | None = None
    hnsw: Hnsw | None = None
    indexes: Mapping[str, IndexKind] | None = None  # of metadata fields
    keywords: bool | None = None  # whether the words of chunks are stored

    @classmethod
    def of_options(cls, options: Mapping[str, str]) -> Self:
        """Return the layout in a URL's options, such as precision=float32&m=32&indexes=year:integer,lang:keyword."""
        m, ef_construction = (_number(name, options.get(name)) for name in ("m", "ef_construction"))
        return cls(
            cast("Precision | None", options.get("precision")),  # checked by its user
            None if m is ef_construction is None else Hnsw(m, ef_construction),
            _indexes(options.get("indexes")),
            _flag("keywords", options.get("keywords")),
        )

    def over(self, other: StoreLayout) -> StoreLayout:
        """Return this layout, with unspecified values taken from the other one."""
        return StoreLayout(
            other.precision if self.precision is None else self.precision,
            other.hnsw if self.hnsw is None else self.hnsw,
            other.indexes if self.indexes is None else self.indexes,
            other.keywords if self.keywords is None else self.keywords,
        )

    def lost_in(self, made: StoreLayout) -> list[str]:
        """Return what a place that was made for this layout lacks, one phrase each."""
        lost = []
        if self.precision is not None and made.precision not in (None, self.precision):
            lost.append(f"vectors in {made.precision}, not {self.precision}")
        if self.hnsw is not None and _numbers(self.hnsw).items() - _numbers(made.hnsw).items():
            lost.append(f"HNSW by {_said(made.hnsw)}, not {_said(self.hnsw)}")
        own, theirs = self.indexes or {}, made.indexes or {}
        missing = [repr(str(name)) for name, kind in own.items() if not _serves(theirs.get(name), kind)]
        if missing:
            lost.append(f"no index of {', '.join(missing)}")
        if self.keywords and not made.keywords:
            lost.append("no words of chunks")
        return lost

    def as_json(self) -> dict[str, Any]:
        """Return the layout as JSON values."""
        hnsw = None if self.hnsw is None else _numbers(self.hnsw)
        indexes = None if self.indexes is None else dict(self.indexes)
        return {"precision": self.precision, "hnsw": hnsw, "indexes": indexes, "keywords": self.keywords}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Return the layout from a result of `as_json`, of this release or a later one."""
        hnsw, indexes = said.get("hnsw"), said.get("indexes")
        return cls(
            said.get("precision"),
            None if hnsw is None else Hnsw(hnsw.get("m"), hnsw.get("ef_construction")),
            None if indexes is None else {field_name(name): kind for name, kind in indexes.items()},
            said.get("keywords"),
        )


def field_name(name: str) -> str:
    """Return the name of a top-level metadata field in the form that `indexes` takes."""
    return Key(name) if "." in name else name


def _serves(there: IndexKind | None, wanted: IndexKind) -> bool:
    return there == wanted or (there in _NUMBERS and wanted in _NUMBERS)


def _numbers(hnsw: Hnsw | None) -> dict[str, int]:
    named = {} if hnsw is None else {"m": hnsw.m, "ef_construction": hnsw.ef_construction}
    return {name: value for name, value in named.items() if value is not None}


def _said(hnsw: Hnsw | None) -> str:
    return ", ".join(f"{name}={value}" for name, value in _numbers(hnsw).items()) or "the database's choice"


def _number(name: str, value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()):
        raise SettingError(f"{name} in a URL must be a positive integer, such as {name}=32")
    return int(value)


def _indexes(value: str | None) -> dict[str, IndexKind] | None:
    if value is None:
        return None
    pairs = [each.rpartition(":") for each in value.split(",")] if value else []
    if not all(name and kind for name, _, kind in pairs):
        raise SettingError("indexes in a URL must be fields and kinds, such as indexes=year:integer,lang:keyword")
    return {name: cast("IndexKind", kind) for name, _, kind in pairs}  # checked by their user


def _flag(name: str, value: str | None) -> bool | None:
    """Return the value of a boolean option."""
    if value not in (None, "true", "false"):
        raise SettingError(f"{name} in a URL must be true or false, such as {name}=true")
    return None if value is None else value == "true"
