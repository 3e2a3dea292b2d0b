"""Settings for a store's indexes, which all adapters call by the same names. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from harrier_core.errors import SettingError
from harrier_core.filters import Key
from harrier_core.values import unstorable

# The kind of a metadata field: texts; integers; all numbers; booleans.
IndexKind = Literal["keyword", "integer", "float", "bool"]

_KINDS = get_args(IndexKind)


@dataclass(frozen=True, slots=True)
class Hnsw:
    """Settings of an HNSW index. None leaves a number to the database; an existing index keeps its own.

    m: how many neighbours each vector is linked to. ef_construction: how many candidates are considered while these are
    looked for. Raising either makes searches more accurate, but the index larger and slower to build.
    """

    m: int | None = None
    ef_construction: int | None = None

    def __post_init__(self) -> None:
        for name in ("m", "ef_construction"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise SettingError(f"{name} of an HNSW index must be a positive integer, got {value!r}")


def checked_hnsw(hnsw: Hnsw | None, **bounds: tuple[int, int | None]) -> Hnsw | None:
    """Return it unchanged. Raise an error if a number is outside the database's bounds, given by its name."""
    if hnsw is not None and not isinstance(hnsw, Hnsw):
        raise SettingError(f"hnsw must be Hnsw(m=..., ef_construction=...), got {type(hnsw).__name__}")
    for name, (least, most) in bounds.items():
        value = getattr(hnsw, name, None)
        if value is not None and (value < least or (most is not None and value > most)):
            wanted = f"at least {least}" if most is None else f"from {least} to {most}"
            raise SettingError(f"{name} of this database's HNSW index must be {wanted}, got {value}")
    return hnsw


def checked_indexes(indexes: Mapping[str, IndexKind] | None) -> dict[str, IndexKind]:
    """Return the metadata fields to index, with their kinds."""
    if not isinstance(indexes, Mapping | None):
        raise SettingError(f"indexes must be a dict of fields and kinds, got {type(indexes).__name__}")
    own = dict(indexes or {})
    for name, kind in own.items():
        if not isinstance(name, str) or unstorable(name):
            raise SettingError("the names in indexes must be strings that can be stored")
        if "." in name and not isinstance(name, Key):
            raise SettingError(
                f"the field {name!r} of an index must be at the top level of the metadata; if the dot is part of "
                f"its name, write Key({name!r}), here and in where"
            )
        if kind not in _KINDS:
            raise SettingError(f"the index of field {name!r} must be one of {', '.join(_KINDS)}, got {kind!r}")
    return own
