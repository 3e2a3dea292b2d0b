"""pgvector's settings for an HNSW index. Pure."""

from __future__ import annotations

from psycopg import sql

from harrier_core.errors import SettingError
from harrier_core.indexes import Hnsw, checked_hnsw

_M, _EF_CONSTRUCTION = 16, 64  # pgvector's defaults


def checked(hnsw: Hnsw | None) -> Hnsw | None:
    """Return the settings unchanged if pgvector can build such an index, or raise."""
    checked_hnsw(hnsw, m=(2, 100), ef_construction=(4, 1_000))
    if hnsw is not None:
        m, ef = hnsw.m or _M, hnsw.ef_construction or _EF_CONSTRUCTION
        if ef < 2 * m:
            raise SettingError(
                f"ef_construction of pgvector's HNSW index must be at least twice m, got {ef} and an m of {m}; "
                f"the defaults are {_EF_CONSTRUCTION} and {_M}"
            )
    return hnsw


def settings(hnsw: Hnsw | None) -> sql.SQL:
    """Return the options for CREATE INDEX: only those that were given."""
    named = {} if hnsw is None else {"m": hnsw.m, "ef_construction": hnsw.ef_construction}
    given = ", ".join(f"{name} = {value:d}" for name, value in named.items() if value is not None)
    return sql.SQL(f" WITH ({given})" if given else "")
