"""The settings for creating a collection, and the description of an existing one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast, get_args

from harrier_core.errors import SettingError, SpaceError, StoreMissing, StoreUnsuitable, WrongSpace
from harrier_core.indexes import Hnsw, IndexKind, checked_hnsw, checked_indexes
from harrier_core.layout import Precision, StoreLayout, field_name
from harrier_core.lexical import VERSION
from harrier_core.space import EmbeddingSpace
from harrier_qdrant.points import FIELDS, HASH, METADATA, NUMBER, RECORD

# The names under which LlamaIndex's own store looks for vectors, and for those of words.
VECTOR, WORDS = "text-dense", "text-sparse-new"
# In the collection's metadata, or in the file next to an engine's folder.
SPACE, LAYOUT = "harrier_space", "harrier_layout"
# The same for the words of chunks: the version of their terms, once all chunks have them.
WORDS_VERSION = "harrier_words"
# How points are written. A release that writes them differently has another number.
LAYOUT_VERSION = 1

# The fields whose indexes a server needs. In strict mode, it refuses a filter on any other; these indexes take much
# memory, and without strict mode only the first one makes requests faster.
OWN_INDEXES = {RECORD: "keyword"}
STRICT_INDEXES = {**OWN_INDEXES, HASH: "keyword", FIELDS: "keyword", NUMBER: "integer"}

_LEAST_EF = 4  # the lowest that Qdrant accepts for an index

Quantization = Literal["int8", "binary"]


class Damaged(StoreUnsuitable):
    """A collection exists, but its own files cannot be read."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Settings for creating a collection. For an existing one, only the vector's name and quantization matter.

    hnsw: for the index of the vectors; Qdrant requires an ef_construction of at least 4. indexes: those of metadata
    fields, for conditions on them. An "integer" index holds 64-bit integers, and a condition finds no other numbers in
    its field; a "float" index holds all numbers. keywords: whether points get a second, sparse vector, for their words.
    None is Qdrant's own default: float32, no indexes, no words.
    """

    vector: str = VECTOR
    precision: Precision | None = None
    quantization: Quantization | None = None
    on_disk: bool = False
    hnsw: Hnsw | None = None
    indexes: Mapping[str, IndexKind] | None = None
    shards: int | None = None
    replicas: int | None = None
    write_consistency: int | None = None
    keywords: bool | None = None

    def __post_init__(self) -> None:
        if self.precision not in (None, "float16", "float32"):
            raise SettingError(f"precision must be 'float16' or 'float32', got {self.precision!r}")
        if self.quantization not in (None, "int8", "binary"):
            raise SettingError(f"quantization must be None, 'int8' or 'binary', got {self.quantization!r}")
        if not isinstance(self.keywords, bool | None):
            raise SettingError(f"keywords must be True or False, got {self.keywords!r}")
        checked_hnsw(self.hnsw, ef_construction=(_LEAST_EF, None))
        for name in checked_indexes(self.indexes):
            if '"' in name:
                raise SettingError(f"field {name!r} cannot be indexed: a path in Qdrant cannot contain quotation marks")

    def payload_indexes(self) -> dict[str, str]:
        """Return paths and kinds of the fields that an ingest looks up by, and of those that users filter by."""
        return {**{_path(name): kind for name, kind in (self.indexes or {}).items()}, **OWN_INDEXES}

    @property
    def shared(self) -> StoreLayout:
        """The part of this layout that other stores have as well."""
        precision, indexes = self.precision or "float32", self.indexes or {}
        return StoreLayout(precision, self.hnsw, indexes, bool(self.keywords))

    def over(self, other: StoreLayout) -> Layout:
        """Return this layout, with unspecified values taken from the other one, as far as Qdrant supports them."""
        merged = StoreLayout(self.precision, self.hnsw, self.indexes, self.keywords).over(_possible(other))
        shared = {each.name: getattr(merged, each.name) for each in fields(merged)}
        return replace(self, **shared)


def _possible(layout: StoreLayout) -> StoreLayout:
    """Return the part of a layout that Qdrant supports."""
    hnsw, indexes = layout.hnsw, layout.indexes
    if hnsw is not None and (hnsw.ef_construction or _LEAST_EF) < _LEAST_EF:
        hnsw = None
    if indexes is not None:
        indexes = {name: kind for name, kind in indexes.items() if '"' not in name}
    return replace(layout, hnsw=hnsw, indexes=indexes)


def kinds_in(payload_schema: Mapping[str, str]) -> dict[str, IndexKind]:
    """Return the metadata fields that have an index, from the paths and kinds of all indexes of a collection."""
    found = {}
    for path, kind in payload_schema.items():
        head, dot, name = path.partition(".")
        quoted = re.fullmatch(r'"([^"]*)"', name)
        if dot and head == METADATA and kind in get_args(IndexKind) and (quoted or "." not in name):
            found[field_name(quoted[1] if quoted else name)] = cast("IndexKind", kind)
    return found


def _path(name: str) -> str:
    """Return a field's path as a server shows it: with quotation marks only if they are needed."""
    return f"{METADATA}.{name}" if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'{METADATA}."{name}"'


@dataclass(frozen=True, slots=True)
class Shape:
    """A collection as it was found."""

    vectors: Mapping[str, tuple[int, str]]  # dimensions and distance by name; a single nameless vector is ""
    space: str | None  # in JSON
    layout: Any  # an int in collections of this kit
    indexed: bool | None = None
    health: str = "fine"
    sparse: bool = False  # whether points have a vector for their words
    words: Any = None  # the version of the words that all chunks have; None: they may lack them
    unindexed: bool = False  # whether a server's collection lacks an index that the store needs

    @property
    def has_words(self) -> bool:
        """Whether all chunks have their words, in this release's version."""
        return self.sparse and type(self.words) is int and self.words == VERSION

    @property
    def has_later_words(self) -> bool:
        """Whether a later release wrote the words."""
        return type(self.words) is int and self.words > VERSION

    def words_problem(self, where: str) -> str | None:
        """Return why chunks cannot be found by their words and what to do, or None if they can be."""
        if self.has_words:
            return None
        if self.has_later_words:
            return (
                f"collection {where} has words of version {self.words}, but this release reads {VERSION}; update "
                "harrier-kit"
            )
        if self.sparse and type(self.words) is int:
            return (
                f"collection {where} has words of version {self.words}, but this release reads {VERSION}; renew "
                "them with add_keywords(), which needs no model"
            )
        return (
            f"some chunks of collection {where} have no words; add them with add_keywords() or `harrier "
            "keywords PLACE`, which need no model"
        )

    def check_words(self, where: str) -> None:
        """Raise StoreUnsuitable if chunks cannot be found by their words."""
        if problem := self.words_problem(where):
            raise StoreUnsuitable(problem)

    def stored_space(self, where: str) -> EmbeddingSpace:
        """Return the space of the stored vectors. Raise StoreUnsuitable if this release cannot read it."""
        if self.space is None or type(self.layout) is not int:
            missing = SPACE if self.space is None else LAYOUT
            raise StoreUnsuitable(
                f"collection {where} does not identify its embedding space: there is no {missing!r} in its "
                "metadata; use another one"
            )
        if self.layout > LAYOUT_VERSION:
            raise StoreUnsuitable(
                f"collection {where} has layout {self.layout}, but this release reads layout {LAYOUT_VERSION}; update "
                "harrier-kit"
            )
        try:
            return EmbeddingSpace.from_json(self.space)
        except SpaceError as error:
            raise StoreUnsuitable(f"collection {where}: {SPACE!r} in its metadata is {error}") from None

    def check(self, where: str, vector: str, space: EmbeddingSpace) -> None:
        """Raise WrongSpace or StoreUnsuitable if vectors of this space do not belong here."""
        stored = self.stored_space(where)
        if vector not in self.vectors:
            names = ", ".join(repr(name) if name else "one without a name" for name in self.vectors) or "none"
            raise StoreUnsuitable(
                f"collection {where} has no vector {vector!r} (it has {names}); pass vector=..., or use another one"
            )
        dimensions, distance = self.vectors[vector]
        if distance != "Cosine":
            raise StoreUnsuitable(f"collection {where} uses the distance {distance}, not Cosine; use another one")
        if stored != space:
            raise WrongSpace(
                f"collection {where} holds vectors of another space: {stored.explain(space)}; use another collection, "
                "or ingest everything again into a new one"
            )
        if dimensions != space.dimensions:
            raise StoreUnsuitable(
                f"collection {where} has {dimensions}-dimensional vectors and a space of {space.dimensions}; it was "
                "created by another program: use another one"
            )


def missing(where: str) -> StoreMissing:
    """Return the error for a collection that does not exist."""
    return StoreMissing(f"there is no collection {where}; ingest something into it first")
