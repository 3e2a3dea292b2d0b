"""What a collection is made of, and what is found of one that is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from harrier_core.errors import SettingError, SpaceError, StoreUnsuitable, WrongSpace
from harrier_core.space import EmbeddingSpace
from harrier_qdrant.points import METADATA, RECORD

# The name under which LlamaIndex's own store looks for vectors.
VECTOR = "text-dense"
SPACE = "harrier_space"  # in the collection's metadata

Index = Literal["keyword", "integer", "float", "bool"]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a collection is made; of one that is there its vector's name counts, and whether it is quantized.

    indexes: of fields in metadata, for conditions on them. An "integer" index holds whole numbers of 64 bits, and a
    condition finds no others in its field; a "float" index holds all numbers.
    """

    vector: str = VECTOR
    precision: Literal["float16", "float32"] = "float32"
    quantization: Literal["int8", "binary"] | None = None
    on_disk: bool = False
    indexes: Mapping[str, Index] = field(default_factory=dict)
    shards: int | None = None
    replicas: int | None = None
    write_consistency: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in ("float16", "float32"):
            raise SettingError(f"precision is 'float16' or 'float32', not {self.precision!r}")
        if self.quantization not in (None, "int8", "binary"):
            raise SettingError(f"quantization is None, 'int8' or 'binary', not {self.quantization!r}")
        for name, kind in self.indexes.items():
            if kind not in _INDEXES or '"' in name:
                raise SettingError(f"an index is a metadata field and one of {', '.join(_INDEXES)}, not {name}={kind}")

    def payload_indexes(self) -> dict[str, str]:
        """Paths and kinds: what an ingest looks up by, and what users filter by."""
        return {RECORD: "keyword", **{_path(name): kind for name, kind in self.indexes.items()}}


def _path(name: str) -> str:
    """As a server shows it: with quotation marks only where it needs them."""
    return f"{METADATA}.{name}" if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'{METADATA}."{name}"'


_INDEXES = get_args(Index)


@dataclass(frozen=True, slots=True)
class Shape:
    """A collection as it was found."""

    vectors: Mapping[str, tuple[int, str]]  # dimensions and distance by name; a single nameless vector is ""
    space: str | None

    def check(self, where: str, vector: str, space: EmbeddingSpace) -> None:
        """Whether vectors of this space belong there."""
        if vector not in self.vectors:
            names = ", ".join(repr(name) if name else "one without a name" for name in self.vectors) or "none"
            raise StoreUnsuitable(
                f"collection {where} has no vector {vector!r}, but {names}; name it, vector=..., or use another one"
            )
        dimensions, distance = self.vectors[vector]
        if distance != "Cosine":
            raise StoreUnsuitable(f"collection {where} compares by {distance}, not by Cosine; use another one")
        if self.space is None:
            raise StoreUnsuitable(
                f"collection {where} does not say what its vectors are: there is no {SPACE!r} in its metadata; use "
                "another one"
            )
        try:
            stored = EmbeddingSpace.from_json(self.space)
        except SpaceError as error:
            raise StoreUnsuitable(f"collection {where}: {SPACE!r} in its metadata is {error}") from None
        if stored != space:
            raise WrongSpace(
                f"collection {where} holds vectors of another space: {stored.explain(space)}; use another collection, "
                "or ingest everything anew into a new one"
            )
        if dimensions != space.dimensions:
            raise StoreUnsuitable(
                f"collection {where} has vectors of {dimensions} dimensions, its space has {space.dimensions}; it was "
                "made by somebody else: use another one"
            )
