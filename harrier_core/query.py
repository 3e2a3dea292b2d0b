"""The request of a search to a store. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harrier_core.filters import Condition
from harrier_core.lexical import Terms

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# To how many decimals stores agree. In every store, scores that are equal to so many are in the order of record ids and
# numbers before a list is cut at k: otherwise pages of results would repeat some and omit others.
COSINE_DECIMALS, BM25_DECIMALS = 6, 4

# By meaning, by word, or by both.
Mode = Literal["dense", "keyword", "hybrid"]


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Queries that are answered together, with the same options."""

    vectors: NDArray[np.float32]  # (queries, dimensions), of unit length
    k: int
    where: Condition | None = None
    exact: bool = False  # compare all chunks, even if there is an index
    with_vectors: bool = False  # matches carry their own vectors
    ef: int | None = None  # how many candidates an HNSW index considers; None: the store's default


@dataclass(frozen=True, slots=True, eq=False)
class WordSearch:
    """Queries that are answered together, by their words and possibly also by their vectors."""

    terms: Sequence[Terms]  # one per query
    k: int
    where: Condition | None = None
    with_vectors: bool = False
    near: Search | None = None  # the same queries, to be answered by their vectors in the same round trip
