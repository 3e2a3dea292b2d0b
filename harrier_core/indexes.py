"""How a store makes its indexes: settings that adapters take by the same names. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from harrier_core.errors import SettingError

# Of a field in metadata: texts; whole numbers; all numbers; true and false.
IndexKind = Literal["keyword", "integer", "float", "bool"]

_KINDS = get_args(IndexKind)


@dataclass(frozen=True, slots=True)
class Hnsw:
    """How an HNSW index is made. None leaves a number to the database; an index that is there keeps its own.

    m: how many neighbours a vector is linked with. ef_construction: how many candidates are kept in sight while these
    are looked for. More of either makes searches more accurate, the index larger and its building slower.
    """

    m: int | None = None
    ef_construction: int | None = None

    def __post_init__(self) -> None:
        for name in ("m", "ef_construction"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise SettingError(f"{name} of an HNSW index must be a positive integer, got {value!r}")

    def check(self, name: str, least: int, most: int) -> None:
        """Raise an error if a number is set that a database does not take."""
        value = getattr(self, name)
        if value is not None and not least <= value <= most:
            raise SettingError(f"{name} of an HNSW index must be from {least} to {most} here, got {value}")


def checked_indexes(indexes: Mapping[str, IndexKind] | None) -> dict[str, IndexKind]:
    """Return the fields of metadata to be indexed, with their kinds."""
    own = dict(indexes or {})
    for name, kind in own.items():
        if kind not in _KINDS:
            raise SettingError(f"the index of field {name!r} must be one of {', '.join(_KINDS)}, got {kind!r}")
    return own
